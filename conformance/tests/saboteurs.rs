//! Every saboteur is caught by its clause's cases, by assertions and not by crashes, and by no other clause's
//! cases; the reference driver passes all of them.
//!
//! Over each saboteur run the cases of its own clauses and all others but the slow ones (`cases::slow`). With
//! `LAYERSTORE_CONFORMANCE_SABOTEURS=thorough` every case runs over every saboteur, in about four times the time.
//!
//! A program of its own, because it starts itself again for every worker.

#![allow(clippy::disallowed_methods, clippy::panic, reason = "a test program")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use layerstore_conformance::case::Case;
use layerstore_conformance::report::Verdict;
use layerstore_conformance::saboteur::{self, Saboteur};
use layerstore_conformance::{Report, RunOptions, cases, child_entry, reference, run, run_with};
use libtest_mimic::{Arguments, Failed, Trial};

/// The variable that asks for the long run.
const THOROUGHNESS: &str = "LAYERSTORE_CONFORMANCE_SABOTEURS";

fn main() -> ExitCode {
    let registry = saboteur::registry(Arc::new(reference::Factory));
    child_entry(&registry);
    let thorough = match std::env::var(THOROUGHNESS).as_deref() {
        Ok("thorough") => true,
        Ok("") | Err(_) => false,
        Ok(other) => panic!("{THOROUGHNESS} is {other:?}, not thorough"),
    };
    let mut arguments = Arguments::from_args();
    // Each trial is a run of its own with one worker, which waits for the kernel half of the time.
    let parallel = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads = arguments.test_threads.or(Some(parallel));
    let mut trials = vec![{
        let registry = registry.clone();
        Trial::test("the_reference_driver_passes_every_case", move || {
            whole(&run(&**registry.get("reference")?, &options(2)))
        })
    }];
    for saboteur in saboteur::all() {
        let registry = registry.clone();
        let name = format!("the_saboteur_of_{}_is_caught", saboteur.clause.to_ascii_lowercase());
        trials.push(Trial::test(name, move || {
            let factory = registry.get(&saboteur::driver_name(saboteur.clause))?;
            let cases = chosen(saboteur, thorough);
            caught(saboteur, &run_with(&**factory, &options(1), &cases, &|_| {}))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The cases that run over a saboteur.
fn chosen(saboteur: &Saboteur, thorough: bool) -> Vec<&'static Case> {
    let concerned = |case: &Case| case.clause == saboteur.clause || saboteur.also.contains(&case.clause);
    cases::all().into_iter().filter(|case| thorough || concerned(case) || !cases::is_slow(case)).collect()
}

/// On tmpfs where there is one: the saboteurs break drivers, not disks.
fn options(threads: usize) -> RunOptions {
    let shm = Path::new("/dev/shm");
    let scratch = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    RunOptions { scratch, threads, ..RunOptions::default() }
}

fn whole(report: &Report) -> Result<(), Failed> {
    if report.is_success() {
        return Ok(());
    }
    let failed: String = report
        .cases
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::Failed(_)))
        .map(Report::line)
        .collect();
    Err(format!("{failed}{}", report.closing()).into())
}

fn caught(saboteur: &Saboteur, report: &Report) -> Result<(), Failed> {
    let mut wrong = report.problems.clone();
    let mut by_assertion = 0;
    let mut ran = BTreeSet::new();
    for case in &report.cases {
        if !matches!(case.verdict, Verdict::Skipped { .. }) {
            ran.insert(case.clause.clone());
        }
        let Verdict::Failed(failure) = &case.verdict else { continue };
        let clause = failure.clause.as_deref().unwrap_or(&case.clause);
        if clause == saboteur.clause {
            if failure.crash {
                wrong.push(format!("caught by a crash: {}", Report::line(case)));
            } else {
                by_assertion += 1;
            }
        } else if !saboteur.also.contains(&clause) {
            wrong.push(format!("broke another clause: {}", Report::line(case)));
        }
    }
    if by_assertion == 0 {
        let which = if ran.contains(saboteur.clause) { "passed" } else { "were skipped" };
        wrong.push(format!("not caught: every case of {} {which}", saboteur.clause));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}: {}", saboteur.what, wrong.join("\n")).into()) }
}
