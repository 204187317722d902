//! `cargo xtask COMMAND`: checks and reports of this workspace.
//!
//! Everything that guards the project and is no test of one crate lives here, so that continuous integration is
//! a list of commands that a person can run too.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line for developers")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no part of the product")]

mod bench;
mod cargo;
#[cfg(feature = "crash")]
mod crash;
#[cfg(not(feature = "crash"))]
#[path = "crash_again.rs"]
mod crash;
mod drivers;
mod matrix;
mod soak;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks and reports of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks the invariants of ARCHITECTURE.md that a program can check.
    Tidy,
    /// Prints the README's table of drivers.
    Drivers(drivers::Arguments),
    /// Runs the conformance suite over every driver, on every file system, in every mode.
    Matrix(matrix::Arguments),
    /// Many rounds, many processes, many layers on one store: nothing leaks, nobody fails, nothing gets slow.
    Soak(soak::Arguments),
    /// Runs the conformance suite in a virtual machine with Debian's kernel, where xfs and ext4 have project quotas.
    Vm(vm::Arguments),
    /// Measures layerstore beside its peers: imports, verbs, diffs, exports.
    Bench(bench::Arguments),
    /// Runs one script and prints what it took: a part of `bench`.
    #[command(hide = true)]
    BenchOne {
        /// For bash.
        script: String,
    },
    /// The crash laboratory: kills, failing calls, power cuts, reordered writes, and controls that have to fail.
    Crash(crash::Arguments),
    /// A process of the laboratory.
    #[command(hide = true)]
    CrashWorker {
        /// What to do, as JSON.
        job: String,
    },
}

impl Command {
    /// Whether it mounts, or makes file systems on loop devices.
    fn needs_root(&self) -> bool {
        match self {
            Self::Matrix(_) | Self::Soak(_) | Self::Crash(_) => true,
            Self::Bench(arguments) => !arguments.list,
            _ => false,
        }
    }
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // Before anything is built.
    if command.needs_root() && !nix::unistd::geteuid().is_root() {
        let typed: Vec<_> = std::env::args().skip(1).collect();
        eprintln!("xtask: mounts and loop devices need root: run tools/root cargo xtask {}", typed.join(" "));
        return ExitCode::FAILURE;
    }
    match command {
        Command::Tidy => tidy::run(),
        Command::Drivers(arguments) => drivers::run(&arguments),
        Command::Matrix(arguments) => matrix::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchOne { script } => bench::one(&script),
        Command::Crash(arguments) => crash::run(&arguments),
        Command::CrashWorker { job } => crash::work(&job),
    }
}
