//! `completions` and `man`: what comes out of the definition of the arguments.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use layerstore_sys as sys;

use crate::args::Arguments;
use crate::failure::{Failure, Result};

pub(super) fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "layerstore", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(directory: &Path) -> Result<()> {
    let failed = |error: sys::Error| {
        let what = directory.display().to_string();
        Failure::Store(layerstore::Error::new(layerstore::Kind::System, "man", what, error.to_string()))
    };
    sys::fs::make_dirs(directory, 0o755).map_err(failed)?;
    let directory = sys::Dir::open(directory).map_err(failed)?;
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let page = clap_mangen::Man::new(command);
        // `generate_to` makes a system call for each piece of a line.
        let mut text = Vec::new();
        page.render(&mut text)?;
        let name = page.get_filename();
        sys::fs::replace(&directory, name.as_bytes(), &text, 0o644).map_err(failed)?;
    }
    Ok(())
}
