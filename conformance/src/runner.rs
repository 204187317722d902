//! Runs the suite over one driver: which cases, how many at once, and where.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use layerstore_changeset::Context;
use layerstore_driver::DriverFactory;

use crate::case::{Case, Failure, Outcome};
use crate::namespace::Mode;
use crate::pool::Pool;
use crate::report::{CaseResult, Report};

/// How long one case may take where nobody says otherwise.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

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
    /// Once it is cancelled no case begins, those that run are ended with their workers and leave no result, and the
    /// report tells of it as a problem.
    pub context: Context,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cases: Vec::new(),
            scratch: std::env::temp_dir(),
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            time_limit: TIME_LIMIT,
            mode: Mode::default(),
            pin: None,
            required: false,
            context: Context::new(),
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
    let chosen: Vec<_> = cases
        .iter()
        .filter(|case| filter.as_ref().is_none_or(|filter| filter.is_match(case.id())))
        .copied()
        .collect();
    if chosen.is_empty() && filter.is_some() {
        let globs = options.cases.join(" or ");
        return broken(Failure::new(format!("no case is called {globs}: `conformance --list` names them")));
    }
    let pool = match Pool::start(factory.name(), options) {
        Ok(pool) => pool,
        Err(failure) => return broken(failure),
    };
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = pool.run(case);
                    // What ended meanwhile may have failed for that reason only.
                    if options.context.is_cancelled() {
                        break;
                    }
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
