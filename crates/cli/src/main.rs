//! The `layerstore` binary: the command line with the drivers that are compiled in.

use std::process::ExitCode;

fn main() -> ExitCode {
    layerstore_cli::run(layerstore_builtin::registry())
}
