//! The command line: what was typed becomes calls of the library, and what the library says becomes text, JSON
//! and exit codes.
//!
//! ```text
//! args (what was typed) → commands/* (one function a verb) → output (tables, JSON) → stdout
//!                                       └ Failure → report → stderr, exit code
//! ```
//!
//! A driver of your own gets the whole command line with a binary of three lines:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     layerstore_cli::run(layerstore_driver::Registry::new() /* .with(my_driver::Factory) */)
//! }
//! ```
//!
//! Invariant: only this crate prints, and only here exit codes are made. stdout is data, stderr everything else.

mod args;
mod cancel;
mod commands;
mod failure;
mod output;
mod progress;
mod session;
mod style;
mod typed;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;
use layerstore_driver::Registry;

use crate::args::Arguments;

/// Runs the command line with these drivers and the process's arguments.
pub fn run(registry: Registry) -> ExitCode {
    // Without it long chains meet the soft limit; where it cannot be raised they still say so themselves.
    let _ = layerstore_sys::process::raise_descriptor_limit();
    // A conformance case that needs a process of its own runs this program again.
    layerstore_conformance::child_entry(&registry);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error),
    };
    start_logging(arguments.global.verbose);
    let format = arguments.global.format;
    match commands::dispatch(arguments, registry) {
        Ok(code) => code,
        Err(failure) => failure.report(format),
    }
}

/// Messages of the library's `tracing` go to stderr: warnings always, more with each `-v`.
fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAYERSTORE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .finish();
    // A program that embeds the command line may have a subscriber of its own.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
