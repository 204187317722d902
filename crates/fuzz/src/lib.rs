//! What fuzzers run: functions that take any bytes and panic when a promise is broken.
//!
//! ```text
//! fuzz/ (cargo-fuzz, coverage-guided; tools/fuzz) ────┐
//!                                                    ├→ TARGETS → the code under test
//! tests/bounded.rs (stable, mutates seeds, in CI) ───┘
//! ```
//!
//! Invariant: a target never panics on bytes from outside unless the library broke a promise: it panicked, or two
//! readings of the same bytes differ.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod documents;
pub mod mutate;
mod seeds;
mod tars;
mod trees;

/// One thing to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: the binary's in `fuzz/`, the folder's in `fuzz/corpus/`.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
    /// Inputs to begin with, besides those in `fuzz/corpus/`.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input that is worth the time, in bytes.
    pub longest: usize,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "tar", run: tars::tar, seeds: seeds::layers, longest: 64 << 10 },
    Target { name: "apply", run: trees::apply, seeds: seeds::archives, longest: 32 << 10 },
    Target { name: "record", run: tars::record, seeds: seeds::records, longest: 16 << 10 },
    Target { name: "manifest", run: documents::manifest, seeds: seeds::manifests, longest: 16 << 10 },
    Target { name: "config", run: documents::config, seeds: seeds::configs, longest: 16 << 10 },
    Target { name: "reference", run: documents::reference, seeds: seeds::references, longest: 4 << 10 },
];

/// Runs a target by its name; what binaries of `fuzz/` call.
///
/// # Panics
/// When the target does, or there is none of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}

/// Removes what targets keep from run to run; for who runs them in a process that ends.
pub fn tidy_up() {
    trees::tidy_up();
}
