//! Runs cases in worker processes, watches the clock, and judges the whole run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use layerstore_driver::{DriverFactory, LayerId};
use layerstore_sys as sys;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::case::{Case, Failure, Outcome};
use crate::namespace::{self, Mode};
use crate::need::Environment;
use crate::pin::{Pin, Pins};
use crate::process::{ChildSetup, command};
use crate::report::{CaseResult, Report, Verdict};
use crate::worker::{Answer, WorkerSetup};

/// How a run is done.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Globs over the cases' full names (`l3::*`); a case that any of them matches runs. None is every case.
    pub cases: Vec<String>,
    /// A directory on the file system to test on; a directory is made in it and removed at the end.
    pub scratch: PathBuf,
    /// How many cases run at once.
    pub threads: usize,
    /// How long one case may take.
    pub time_limit: Duration,
    /// What is pretended.
    pub mode: Mode,
    /// The pinned file, where there is one.
    pub pin: Option<PathBuf>,
    /// Whether the run fails when the driver cannot run here.
    pub required: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cases: Vec::new(),
            scratch: std::env::temp_dir(),
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            time_limit: Duration::from_secs(120),
            mode: Mode::default(),
            pin: None,
            required: false,
        }
    }
}

impl RunOptions {
    /// The defaults, changed by what the environment says: `LAYERSTORE_CONFORMANCE_SCRATCH` (a directory),
    /// `LAYERSTORE_CONFORMANCE_MODE` (`userns`, `enosys` or both with a comma) and
    /// `LAYERSTORE_CONFORMANCE_REQUIRED` (`1`).
    ///
    /// # Errors
    /// For another mode.
    pub fn from_environment() -> Outcome<Self> {
        let variable = |name: &str| std::env::var_os(format!("LAYERSTORE_CONFORMANCE_{name}"));
        let mut options = Self::default();
        if let Some(scratch) = variable("SCRATCH") {
            options.scratch = scratch.into();
        }
        for word in variable("MODE").unwrap_or_default().to_string_lossy().split(',') {
            match word {
                "" => {}
                "userns" => options.mode.user_namespace = true,
                "enosys" => options.mode.old_kernel = true,
                other => {
                    let message = format!("LAYERSTORE_CONFORMANCE_MODE is {other:?}, not userns or enosys");
                    return Err(Failure::new(message));
                }
            }
        }
        options.required = variable("REQUIRED").is_some_and(|value| value == "1");
        Ok(options)
    }
}

/// Runs the suite over one driver. The program's `main` must have called [`child_entry`](crate::child_entry)
/// with a registry that holds the driver.
pub fn run(factory: &dyn DriverFactory, options: &RunOptions) -> Report {
    run_with(factory, options, &crate::cases::all(), &|_| {})
}

/// As [`run`], over these cases, and tells `progress` of each as it ends.
pub fn run_with(
    factory: &dyn DriverFactory,
    options: &RunOptions,
    cases: &[&'static Case],
    progress: &(dyn Fn(&CaseResult) + Sync),
) -> Report {
    let broken = |failure: Failure| Report {
        driver: factory.name().to_owned(),
        setup: format!("unknown{}", options.mode.suffix()),
        environment: None,
        cases: Vec::new(),
        problems: vec![failure.message],
    };
    let filter = match filter(&options.cases) {
        Ok(filter) => filter,
        Err(failure) => return broken(failure),
    };
    let pool = match Pool::start(factory.name(), options) {
        Ok(pool) => pool,
        Err(failure) => return broken(failure),
    };
    let chosen: Vec<_> = cases
        .iter()
        .filter(|case| filter.as_ref().is_none_or(|filter| filter.is_match(case.id())))
        .copied()
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = pool.run(case);
                    progress(&result);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let order = |result: &CaseResult| chosen.iter().position(|case| case.id() == result.case);
    results.sort_by_key(order);
    pool.judge(results)
}

fn filter(globs: &[String]) -> Outcome<Option<GlobSet>> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).case_insensitive(true).build()?);
    }
    Ok(Some(set.build()?))
}

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
        let first = Worker::start(driver, &removal.0.join("0"), options.mode)?;
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
                Worker::start(&self.driver, &self.scratch.join(number.to_string()), self.options.mode)
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
        if passed + failed == 0 && !known_unusable {
            problems.push("no case ran".to_owned());
        }
        problems
    }

    fn judge(self, cases: Vec<CaseResult>) -> Report {
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
            // What cannot be removed was reported by the case that left it.
            let _ = sys::remove::tree(&parent, name.as_encoded_bytes());
        }
    }
}

/// One worker process.
#[derive(Debug)]
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    environment: Environment,
}

impl Worker {
    fn start(driver: &str, scratch: &Path, mode: Mode) -> Outcome<Self> {
        sys::fs::make_dirs(scratch, 0o755)?;
        let setup = WorkerSetup { driver: driver.to_owned(), scratch: scratch.to_owned(), mode };
        // A group of its own, so that everything that a case started can be ended with it.
        let mut child = command(&ChildSetup::Worker(setup))?
            .env("TMPDIR", scratch.join("tmp"))
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| Failure::new("a worker without an output"))?;
        let (sender, answers) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(answer) = line.strip_prefix('@')
                    && sender.send(answer.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        let environment = Environment {
            file_system: String::new(),
            kernel: String::new(),
            unusable: None,
            claims: Vec::new(),
            missing: Default::default(),
        };
        let mut worker = Self { child, input, answers, environment };
        let limit = Duration::from_secs(60);
        if mode.user_namespace {
            let asked = worker.hear(limit)?;
            if asked != "map" {
                return Err(broken(&asked));
            }
            namespace::map_ids(worker.child.id())?;
            worker.tell("mapped")?;
        }
        let hello = worker.hear(limit)?;
        match serde_json::from_str(&hello) {
            Ok(Answer::Hello(environment)) => worker.environment = environment,
            _ => return Err(broken(&hello)),
        }
        Ok(worker)
    }

    fn tell(&mut self, line: &str) -> Outcome {
        let input = self.input.as_mut().ok_or_else(|| Failure::new("a worker without an input"))?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    fn hear(&mut self, limit: Duration) -> Outcome<String> {
        self.answers.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                Failure::crash(format!("no end after {} s: the time limit ended it", limit.as_secs()))
            }
            RecvTimeoutError::Disconnected => match self.child.wait() {
                Ok(status) => Failure::crash(format!("the process of the case ended with {status}")),
                Err(error) => Failure::crash(format!("the process of the case is gone: {error}")),
            },
        })
    }

    fn run(&mut self, case: &Case, limit: Duration) -> Outcome<Option<Failure>> {
        self.tell(&case.id())?;
        let answer = self.hear(limit)?;
        match serde_json::from_str(&answer)? {
            Answer::Done(failure) => Ok(failure),
            _ => Err(broken(&answer)),
        }
    }
}

fn broken(answer: &str) -> Failure {
    match serde_json::from_str(answer) {
        Ok(Answer::Broken(failure)) => failure,
        _ => Failure::new(format!("the worker says {answer:?}")),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Ok(group) = i32::try_from(self.child.id()) {
            // Fails only when everything in the group has ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
