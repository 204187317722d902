//! A worker process as its runner holds it: starts it, tells it which case to run, watches the clock.
//!
//! Invariant: dropping the handle ends the worker and everything that its cases have started.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use layerstore_changeset::Context;
use layerstore_sys as sys;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::case::{Case, Failure, Outcome};
use crate::namespace::{self, Mode};
use crate::need::Environment;
use crate::process::{ChildSetup, command};
use crate::worker::{Answer, WorkerSetup};

/// How often somebody who waits for a worker looks whether the run was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// One worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    context: Context,
    pub(crate) environment: Environment,
}

impl Worker {
    pub(crate) fn start(driver: &str, scratch: &Path, mode: Mode, context: &Context) -> Outcome<Self> {
        not_cancelled(context)?;
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
        let mut worker = Self { child, input, answers, context: context.clone(), environment };
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
        let begun = Instant::now();
        loop {
            not_cancelled(&self.context)?;
            let left = limit.saturating_sub(begun.elapsed());
            match self.answers.recv_timeout(left.min(LOOK)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if left > LOOK => {}
                Err(RecvTimeoutError::Timeout) => {
                    let message = format!("no end after {} s: the time limit ended it", limit.as_secs());
                    return Err(Failure::crash(message));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(match self.child.wait() {
                        Ok(status) => Failure::crash(format!("the process of the case ended with {status}")),
                        Err(error) => Failure::crash(format!("the process of the case is gone: {error}")),
                    });
                }
            }
        }
    }

    pub(crate) fn run(&mut self, case: &Case, limit: Duration) -> Outcome<Option<Failure>> {
        self.tell(&case.id())?;
        let answer = self.hear(limit)?;
        match serde_json::from_str(&answer)? {
            Answer::Done(failure) => Ok(failure),
            _ => Err(broken(&answer)),
        }
    }
}

fn not_cancelled(context: &Context) -> Outcome {
    if context.is_cancelled() { Err(Failure::new("the run was cancelled")) } else { Ok(()) }
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
