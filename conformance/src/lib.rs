//! The suite that every storage driver has to pass.
//!
//! README.md is the contract, as numbered clauses. Each [`Case`] checks one clause; for each clause there is a
//! [`Saboteur`](saboteur::Saboteur), a driver broken in exactly that way, that the clause's cases have to catch.
//!
//! A driver's crate runs the whole suite with one line in `tests/conformance.rs` (`harness = false`):
//!
//! ```ignore
//! layerstore_conformance::suite!(my_driver::Factory);
//! ```
//!
//! A program that wants the report for itself calls [`child_entry`] first thing in `main`, then [`run`]:
//!
//! ```text
//! run ─→ Pool ─→ worker processes (this program again) ─→ one case at a time ─→ actions (this program again)
//! ```
//!
//! Invariants: no case depends on a driver's name; a skip prints which capability, privilege or feature is
//! missing and is counted; a run in which nothing ran is a failure; nothing of a run shows on the host, because
//! workers mount in namespaces of their own.

pub mod bench;
pub mod case;
pub mod cases;
pub mod clause;
mod handle;
pub mod hands;
pub mod harness;
mod leak;
pub mod list;
mod namespace;
pub mod need;
pub mod pin;
mod pool;
mod probe;
pub mod process;
pub mod reference;
pub mod report;
pub mod runner;
pub mod saboteur;
pub mod script;
mod trace;
pub mod tree;
mod worker;

pub use case::{Action, Case, Failure, Outcome};
pub use harness::main;
pub use list::list_text;
pub use namespace::Mode;
pub use report::Report;
pub use runner::{RunOptions, TIME_LIMIT, run, run_with};

use layerstore_driver::Registry;

/// Does the work of a child of the suite, and never returns, when this process is one; returns at once when it is
/// not. To be called first thing in `main`, with every driver that the program may run the suite on.
pub fn child_entry(registry: &Registry) {
    let Ok(setup) = std::env::var(process::VARIABLE) else { return };
    let status = match serde_json::from_str(&setup) {
        Ok(process::ChildSetup::Worker(setup)) => worker::serve(registry, &cases::all(), &setup),
        Ok(process::ChildSetup::Nothing) => process::wait_for_go().map_or(1, |()| 0),
        Ok(process::ChildSetup::Action(setup)) => process::run_action(registry, &cases::actions(), setup),
        Err(_) => 2,
    };
    std::process::exit(status)
}

/// Makes a test program (`harness = false`) of the suite for one driver, with the pinned file `conformance.toml`
/// beside the crate's `Cargo.toml`.
#[macro_export]
macro_rules! suite {
    ($factory:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::main($factory, ::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/conformance.toml"))
        }
    };
}
