//! `cargo xtask soak`: the store's tests of endurance, at full size and optimised.
//!
//! The same tests run in a small size with `cargo test`; here the sizes are those that the README promises.

use std::process::{Command, ExitCode};

/// Sizes of the runs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds of create, mount, unmount, remove on each driver
    #[arg(long, default_value_t = 100_000)]
    rounds: u64,
    /// Processes that work on one store at the same time
    #[arg(long, default_value_t = 300)]
    processes: u64,
    /// Layers in the store whose calls are counted
    #[arg(long, default_value_t = 50_000)]
    layers: u64,
}

/// Runs the tests and prints what they measured.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let status = Command::new(env!("CARGO"))
        .args(["test", "--release", "-p", "layerstore", "--no-fail-fast"])
        .args(["--test", "soak", "--test", "crowd", "--test", "scale", "--", "--nocapture"])
        // How long somebody waits is measured: nobody else on the machine.
        .arg("--test-threads=1")
        .env("LAYERSTORE_SOAK", arguments.rounds.to_string())
        .env("LAYERSTORE_CROWD", arguments.processes.to_string())
        .env("LAYERSTORE_SCALE", arguments.layers.to_string())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
