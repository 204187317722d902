//! Writes the seeds of one target into a folder, one file each, for a fuzzer that begins from files.
//!
//! ```text
//! seeds TARGET FOLDER
//! ```
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name, folder] = &*arguments else {
        eprintln!("usage: seeds TARGET FOLDER");
        return ExitCode::FAILURE;
    };
    let Some(target) = layerstore_fuzz::TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("seeds: no target is called {name}");
        return ExitCode::FAILURE;
    };
    for (index, seed) in (target.seeds)().iter().enumerate() {
        if let Err(error) = std::fs::write(PathBuf::from(folder).join(format!("seed-{index:04}")), seed) {
            eprintln!("seeds: {folder}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
