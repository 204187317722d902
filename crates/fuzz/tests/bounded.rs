//! Every target for a bounded time, on stable Rust: the seeds and what lies in `fuzz/corpus/` as they are, then
//! mutations of them, the same ones in every run.
//!
//! `FUZZ_SECONDS` is the time for each target (5), `FUZZ_SEED` begins another sequence (1). A failure writes the
//! input to `fuzz/artifacts/TARGET/`, from where it belongs into `fuzz/corpus/TARGET/` once it is fixed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::panic, clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use layerstore_fuzz::mutate::mutate;
use layerstore_fuzz::{TARGETS, Target};
use layerstore_testkit::Random;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = TARGETS
        .iter()
        .map(|target| Trial::test(format!("nothing_breaks_{}", target.name), move || fuzz(target)))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    layerstore_fuzz::tidy_up();
    conclusion.exit_code()
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

fn fuzz(target: &Target) -> Result<(), Failed> {
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", 5));
    let mut random = Random::new(number("FUZZ_SEED", 1));
    let mut inputs = (target.seeds)();
    if let Ok(entries) = std::fs::read_dir(folder("corpus").join(target.name)) {
        let mut paths: Vec<_> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            inputs.push(std::fs::read(path)?);
        }
    }
    for input in &inputs {
        try_one(target, input)?;
    }
    let mut runs = inputs.len();
    while Instant::now() < end {
        let (one, other) = (&inputs[random.index(inputs.len())], &inputs[random.index(inputs.len())]);
        let input = mutate(&mut random, one, other, target.longest);
        try_one(target, &input)?;
        runs += 1;
    }
    println_runs(target.name, runs);
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a test program")]
fn println_runs(name: &str, runs: usize) {
    println!("{name}: {runs} inputs");
}

fn try_one(target: &Target, input: &[u8]) -> Result<(), Failed> {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let slow = start.elapsed() > Duration::from_secs(10);
    if result.is_ok() && !slow {
        return Ok(());
    }
    let folder = folder("artifacts").join(target.name);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("bounded-{:016x}", hash(input)));
    std::fs::write(&path, input)?;
    let what = match result {
        Ok(()) => format!("it took {} ms", start.elapsed().as_millis()),
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default(),
    };
    Err(format!("{}: {what}\nthe input: {}", target.name, path.display()).into())
}

fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
