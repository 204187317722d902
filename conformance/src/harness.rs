//! The suite as a test program that `cargo test` runs: arguments, filters and output as of any other test.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use layerstore_driver::{DriverFactory, Registry};
use libtest_mimic::{Arguments, Completion, Trial};

use crate::pool::Pool;
use crate::report::{Counts, Verdict};
use crate::runner::RunOptions;

/// The `main` of a driver's `tests/conformance.rs`; use it through [`suite!`](crate::suite). Takes the arguments of
/// any test program, and the environment of [`RunOptions::from_environment`].
pub fn main(factory: impl DriverFactory + 'static, pin: impl Into<PathBuf>) -> ExitCode {
    let name = factory.name();
    let registry = Registry::new().with(factory);
    crate::child_entry(&registry);
    let arguments = Arguments::from_args();
    let cases = crate::cases::all();
    if arguments.list {
        let trials = cases.iter().map(|case| Trial::test(case.id(), || Ok(()))).collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let pool = RunOptions::from_environment().and_then(|mut options| {
        options.pin = Some(pin.into());
        Pool::start(name, &options)
    });
    let pool = match pool {
        Ok(pool) => Arc::new(pool),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "conformance: {name}: {failure}");
            return ExitCode::FAILURE;
        }
    };
    // Where nothing can be printed, nobody reads it.
    let _ = writeln!(std::io::stdout(), "\ndriver {name} on {}", pool.setup());
    let trials = cases
        .iter()
        .map(|&case| {
            let pool = Arc::clone(&pool);
            Trial::ignorable_test(case.id(), move || match pool.run(case).verdict {
                Verdict::Passed => Ok(Completion::Completed),
                Verdict::Skipped { reason } => Ok(Completion::ignored_with(reason)),
                Verdict::Failed(failure) => {
                    let clause = failure.clause.as_deref().unwrap_or(case.clause);
                    let crash = if failure.crash { ", crashed" } else { "" };
                    Err(format!("{clause}{crash}: {}\n{failure}", case.title).into())
                }
            })
        })
        .collect::<Vec<_>>();
    let chosen: Vec<_> = trials.iter().map(|trial| !arguments.is_filtered_out(trial)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let counts = Counts {
        passed: count(conclusion.num_passed),
        failed: count(conclusion.num_failed),
        skipped: count(conclusion.num_ignored),
    };
    // A reason a line: quiet formats leave the reasons out, and a skip must never be silent.
    let mut skips = BTreeMap::<String, usize>::new();
    for (case, _) in cases.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
        if let Some(reason) = pool.missing(case) {
            *skips.entry(reason).or_default() += 1;
        }
    }
    let problems = pool.problems(counts.passed, counts.failed);
    let mut output = std::io::stdout().lock();
    for (reason, count) in skips {
        let _ = writeln!(output, "skipped {count}: {reason}");
    }
    for problem in &problems {
        let _ = writeln!(output, "problem: {problem}");
    }
    let _ = writeln!(output, "{counts}");
    if problems.is_empty() { conclusion.exit_code() } else { ExitCode::from(101) }
}
