//! What a child process of the laboratory is told to do, and how it is run.
//!
//! A child is this program again (`crash-worker JOB`): it uses the store as a library, so a round takes
//! milliseconds. It says what it does line by line:
//!
//! ```text
//! listener FD            its calls wait for the laboratory
//! begin STEP · done STEP the steps of a scenario; what is done is acknowledged
//! tried PLAN: OUTCOME    a step with a fail point, and how it ended
//! site FILE:LINE CALL N  a fail point that the step reached
//! report JSON            what a verification found
//! ```

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use layerstore_testkit::crash::supervised::{self, Call, Ended, Supervisor, Verdict};
use serde::{Deserialize, Serialize};

use super::{Outcome, explain};

/// Longest that any child may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A store and what goes with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) graphroot: PathBuf,
    pub(super) runroot: PathBuf,
    /// Where pushes go.
    pub(super) out: PathBuf,
    pub(super) driver: String,
    /// The sample.
    pub(super) source: PathBuf,
}

/// A step of the scenario with fail points.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Faulty {
    pub(super) step: usize,
    /// Plans (see `testkit::crash::plan`), one for each attempt.
    pub(super) plans: Vec<String>,
}

/// What a child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Job {
    /// The steps of the scenario, one after another.
    Scenario {
        place: Place,
        /// Its calls are watched: `changing`, or `database` for what SQLite does.
        watched: Option<String>,
        /// Fail points that hold for the whole scenario.
        plan: String,
        /// Fail points of one step; the scenario ends after it.
        faulty: Option<Faulty>,
        /// Do it the wrong way: the row first, then the data.
        late_sync: bool,
    },
    /// The oracle.
    Verify(super::verify::Wanted),
    /// Opens the store and frees what nobody needs.
    Recover { place: Place, watched: bool },
    /// Random operations under names of its own, for ever.
    Busy { place: Place, worker: usize, seed: u64, plan: String },
}

impl Job {
    fn command(&self) -> Outcome<Command> {
        // Not by its path: another build may put another program there while the laboratory runs.
        let mut command = Command::new("/proc/self/exe");
        command.arg("crash-worker").arg(serde_json::to_string(self).map_err(explain)?);
        Ok(command)
    }

    /// Runs it in a child; `judge` decides about its calls, by default all are made.
    pub(super) fn run(&self, judge: &mut dyn FnMut(&Said, &Call) -> Verdict) -> Outcome<Done> {
        let mut watcher = Watcher { said: Said::default(), judge };
        let ended = supervised::run(&mut self.command()?, LIMIT, &mut watcher).map_err(explain)?;
        Ok(Done { said: watcher.said, ended })
    }

    /// Starts it without looking after it; its output goes to `out`.
    pub(super) fn spawn(&self, out: std::fs::File) -> Outcome<std::process::Child> {
        let errors = out.try_clone().map_err(explain)?;
        self.command()?.stdout(out).stderr(errors).spawn().map_err(explain)
    }
}

/// What a child said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// How many steps began.
    pub(super) begun: usize,
    /// How many steps are acknowledged.
    pub(super) done: usize,
    /// Everything else, as said.
    pub(super) lines: Vec<String>,
}

impl Said {
    pub(super) fn hear(&mut self, line: &str) {
        let step = |rest: &str| rest.trim().parse::<usize>().map_or(0, |step| step + 1);
        if let Some(rest) = line.strip_prefix("begin ") {
            self.begun = step(rest);
        } else if let Some(rest) = line.strip_prefix("done ") {
            self.done = step(rest);
        } else {
            self.lines.push(line.to_owned());
        }
    }

    /// The rest of every line that begins with this word.
    pub(super) fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }
}

/// A child that has ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) said: Said,
    pub(super) ended: Ended,
}

impl Done {
    /// Why it did not do what it was told, if so.
    pub(super) fn failure(&self) -> Option<String> {
        if self.ended.timed_out {
            return Some(format!("it hung\n{}", self.ended.errors));
        }
        let said: Vec<&String> = self.said.lines.iter().filter(|line| !line.starts_with("site ")).collect();
        (!self.ended.status.success())
            .then(|| format!("{}: {said:?} {}", self.ended.status, self.ended.errors))
    }

    /// Whether it was killed, as it was meant to be.
    pub(super) fn was_killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        self.ended.status.signal() == Some(libc::SIGKILL) && !self.ended.timed_out
    }

    /// Whether it panicked or hung: what must never happen, whatever fails.
    pub(super) fn misbehaved(&self) -> Option<String> {
        let panicked = self.ended.errors.contains("panicked at");
        (panicked || self.ended.timed_out).then(|| {
            let what = if panicked { "panicked" } else { "hung" };
            format!("it {what}: {}", self.ended.errors)
        })
    }
}

struct Watcher<'a> {
    said: Said,
    judge: &'a mut dyn FnMut(&Said, &Call) -> Verdict,
}

impl Supervisor for Watcher<'_> {
    fn line(&mut self, line: &str) {
        self.said.hear(line);
    }

    fn call(&mut self, call: &Call) -> Verdict {
        (self.judge)(&self.said, call)
    }
}

/// For jobs that nobody disturbs.
pub(super) fn undisturbed(_: &Said, _: &Call) -> Verdict {
    Verdict::Go
}
