//! Worker processes for one driver: runs a case in the next one that is idle, and judges what all of them found.
//!
//! ```text
//! SCRATCH/layerstore-conformance-RANDOM/NUMBER    a directory of each worker's own, gone with the pool
//! ```
//!
//! Invariant: a case that crashed or hung takes its worker with it, and the next case gets a fresh one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use layerstore_driver::LayerId;
use layerstore_sys as sys;

use crate::case::{Case, Failure, Outcome};
use crate::handle::Worker;
use crate::need::Environment;
use crate::pin::{Pin, Pins};
use crate::report::{CaseResult, Report, Verdict};
use crate::runner::RunOptions;

/// Worker processes for one driver, and what they found.
#[derive(Debug)]
pub(crate) struct Pool {
    driver: String,
    scratch: PathBuf,
    options: RunOptions,
    environment: Environment,
    setup: String,
    pin: Option<Pin>,
    pinned: bool,
    idle: Mutex<Vec<Worker>>,
    started: AtomicUsize,
}

impl Pool {
    pub(crate) fn start(driver: &str, options: &RunOptions) -> Outcome<Self> {
        let name = LayerId::random()?;
        let short = name.as_str().get(..12).unwrap_or_default();
        let base = sys::fs::canonical(&options.scratch)
            .map_err(|error| Failure::new(format!("scratch directory: {error}")))?;
        let scratch = base.join(format!("layerstore-conformance-{short}"));
        sys::fs::make_dirs(&scratch, 0o755)?;
        let removal = Removal(scratch);
        let first = Worker::start(driver, &removal.0.join("0"), options.mode, &options.context)?;
        let environment = first.environment.clone();
        let setup = format!("{}{}", environment.file_system, options.mode.suffix());
        let mut pin = None;
        let mut pinned = false;
        if let Some(path) = &options.pin {
            let mut pins = Pins::read(path)?;
            if std::env::var_os("LAYERSTORE_CONFORMANCE_PIN").is_some_and(|value| value == "write") {
                pins.write(path, &setup, &environment)?;
            }
            pinned = !pins.is_empty();
            pin = pins.get(&setup).cloned();
        }
        let scratch = removal.keep();
        Ok(Self {
            driver: driver.to_owned(),
            scratch,
            options: options.clone(),
            environment,
            setup,
            pin,
            pinned,
            idle: Mutex::new(vec![first]),
            started: AtomicUsize::new(1),
        })
    }

    /// Where it runs, as pinned files call it.
    pub(crate) fn setup(&self) -> &str {
        &self.setup
    }

    /// Why a case cannot run here, or none when it can.
    pub(crate) fn missing(&self, case: &Case) -> Option<String> {
        if let Some(reason) = &self.environment.unusable {
            return Some(format!("the driver cannot run here: {reason}"));
        }
        case.needs.iter().find_map(|need| need.missing(&self.environment))
    }

    pub(crate) fn run(&self, case: &'static Case) -> CaseResult {
        let begun = Instant::now();
        let verdict = match self.missing(case) {
            Some(reason) => Verdict::Skipped { reason },
            None => self.expect(case, self.attempt(case)),
        };
        CaseResult {
            case: case.id(),
            clause: case.clause.to_owned(),
            title: case.title.to_owned(),
            verdict,
            duration: begun.elapsed(),
        }
    }

    /// Turns known failures round: they have to fail.
    fn expect(&self, case: &Case, failure: Option<Failure>) -> Verdict {
        let known = self.pin.as_ref().is_some_and(|pin| pin.known_failures.contains(&case.id()));
        match (failure, known) {
            (None, false) => Verdict::Passed,
            (Some(failure), false) => Verdict::Failed(failure),
            (Some(failure), true) => Verdict::Skipped { reason: format!("known failure: {failure}") },
            (None, true) => Verdict::Failed(Failure::new(
                "passed unexpectedly: remove it from the known failures of the pinned file",
            )),
        }
    }

    fn attempt(&self, case: &Case) -> Option<Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let worker = match idle {
            Some(worker) => Ok(worker),
            None => {
                let number = self.started.fetch_add(1, Ordering::Relaxed);
                let scratch = self.scratch.join(number.to_string());
                Worker::start(&self.driver, &scratch, self.options.mode, &self.options.context)
            }
        };
        let mut worker = match worker {
            Ok(worker) => worker,
            Err(failure) => return Some(failure.context("starting a worker")),
        };
        match worker.run(case, self.options.time_limit) {
            Ok(failure) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
                failure
            }
            // The worker is of no more use; dropping it kills what is left of it.
            Err(failure) => Some(failure),
        }
    }

    /// What is wrong with the run as a whole.
    pub(crate) fn problems(&self, passed: usize, failed: usize) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(pin) = &self.pin {
            problems.extend(pin.differences(&self.setup, &self.environment));
        } else if self.pinned {
            problems.push(format!("nothing is pinned for {}", self.setup));
        }
        if let Some(reason) = &self.environment.unusable
            && self.options.required
        {
            problems.push(format!("the driver {} is required, but cannot run here: {reason}", self.driver));
        }
        let known_unusable = self.pin.as_ref().is_some_and(|pin| pin.unusable);
        if self.options.context.is_cancelled() {
            problems.push("the run was cancelled".to_owned());
        } else if passed + failed == 0 && !known_unusable {
            problems.push("no case ran".to_owned());
        }
        problems
    }

    pub(crate) fn judge(self, cases: Vec<CaseResult>) -> Report {
        let mut report = Report {
            driver: self.driver.clone(),
            setup: self.setup.clone(),
            environment: Some(self.environment.clone()),
            cases,
            problems: Vec::new(),
        };
        let counts = report.counts();
        report.problems = self.problems(counts.passed, counts.failed);
        report
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Workers first: their mounts keep the directories busy.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(Removal(std::mem::take(&mut self.scratch)));
    }
}

/// Looks at a directory that is to go, and the pause between them: what was killed a moment ago may still be in a
/// call that makes a file.
const REMOVALS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A directory that is removed when this is dropped.
struct Removal(PathBuf);

impl Removal {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        if let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name())
            && let Ok(parent) = sys::Dir::open(parent)
        {
            for _ in 0..REMOVALS {
                // What cannot be removed was reported by the case that left it.
                if sys::remove::tree(&parent, name.as_encoded_bytes()).is_ok() {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}
