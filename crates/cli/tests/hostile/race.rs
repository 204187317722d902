//! Somebody swaps directories of a layer for symbolic links while it is applied and removed: nothing outside is
//! touched, on any driver, and the process goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use layerstore::{Context, CreateOptions, LayerId};
use layerstore_changeset::Limits;
use layerstore_changeset::tar::Reader;
use layerstore_testkit::hostile::attacker::{Attacker, layer};
use libtest_mimic::{Failed, Trial};

use crate::worker::Bench;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("swapped_directories_lead_nobody_outside", || {
        let mut wrong = Vec::new();
        for factory in layerstore_builtin::registry().factories() {
            let directory = crate::directory(false)?;
            let said = crate::start(&format!("race {}", factory.name()), directory.path(), false)?;
            wrong.extend(said.lines().map(|line| format!("{}: {line}", factory.name())));
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failed::from(wrong.join("\n"))) }
    })]
}

/// The worker: what is wrong, a line each. `HOSTILE_RACE_SECONDS` makes it longer.
pub(crate) fn work(driver: &str) {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new(driver);
    let (driver, context) = (bench.store.driver(), Context::new());
    let base = LayerId::new(bench.store.layers().unwrap().first().unwrap().id.as_str()).unwrap();
    let aside = bench.directory.join("aside");
    std::fs::create_dir(&aside).unwrap();
    let tar = layer();
    let seconds = std::env::var("HOSTILE_RACE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    let victim = Path::new(std::ffi::OsStr::from_bytes(&bench.victim));
    let attacker = Attacker::start(&bench.directory.join("root"), &aside, victim);
    let (mut rounds, mut disturbed) = (0_u64, 0_u64);
    // On a busy machine the swaps may have met nothing yet.
    let patience = end + Duration::from_secs(60);
    while Instant::now() < end || (disturbed == 0 && Instant::now() < patience) {
        rounds += 1;
        let id = LayerId::new(format!("race-{rounds}")).unwrap();
        driver.create(&id, Some(&base), &CreateOptions::default(), &context).unwrap();
        for _ in 0..2 {
            let mut reader = Reader::new(&*tar, Limits::default());
            disturbed += u64::from(driver.apply(&id, &mut reader, &context).is_err());
        }
        // It may meet a directory that is not there for the moment; what is left then goes at the next recovery.
        disturbed += u64::from(driver.remove(&id).is_err());
        let touched = bench.canary.changes().unwrap();
        if !touched.is_empty() {
            println!("{}", touched.join("; "));
            break;
        }
    }
    let swaps = attacker.swaps();
    drop(attacker);
    eprintln_counts(rounds, disturbed, swaps);
    if swaps == 0 || disturbed == 0 {
        println!("the attack did not happen: {swaps} swaps, {disturbed} of {rounds} rounds disturbed");
    }
}

#[allow(clippy::print_stderr, reason = "a test program")]
fn eprintln_counts(rounds: u64, disturbed: u64, swaps: u64) {
    eprintln!("{rounds} rounds, {disturbed} calls disturbed, {swaps} swaps");
}
