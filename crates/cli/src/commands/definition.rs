//! `completions` and `man`: what comes out of the definition of the arguments.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use crate::args::Arguments;
use crate::failure::{Failure, Result};

pub(super) fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "layerstore", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(directory: &Path) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        let what = directory.display().to_string();
        Failure::Store(layerstore::Error::new(
            layerstore::Kind::System,
            "write man pages",
            what,
            error.to_string(),
        ))
    };
    layerstore_sys::fs::make_dirs(directory, 0o755).map_err(|error| failed(&error))?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(|error| failed(&error))
}
