//! `cargo xtask crash` in a build without fail points: builds the laboratory, which has them, and runs that.
//!
//! The fail points are a cargo feature, so that nothing else that is built here has them.

use std::process::{Command, ExitCode};

use clap::Args;

/// Everything is the laboratory's own.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The long form computes for a while: building it optimised is a fraction of what that saves.
    let optimised = arguments.rest.iter().any(|argument| argument == "--long");
    let ended = Command::new(cargo)
        .args(["run", "--quiet", "--features", "crash"])
        .args(optimised.then_some("--release"))
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .args(["--", "crash"])
        .args(&arguments.rest)
        .status();
    match ended {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("crash: cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn work(_: &str) -> ExitCode {
    eprintln!("crash-worker: only the laboratory starts this");
    ExitCode::FAILURE
}
