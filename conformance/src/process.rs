//! Other processes of a case: the program starts itself again with a variable in its environment, opens the same
//! root and runs a named [`Action`].
//!
//! ```text
//! case ── go ⏎ ──────────────→ action        both ways one line each; the action's end is its exit status,
//!      ←── @say WORD ⏎ ───────                and a failure comes as "@fail {json}"
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use layerstore_driver::{Driver, Registry};

use crate::bench::open_at;
use crate::case::{Action, Failure, Outcome};
use crate::namespace;
use crate::trace::Traced;
use crate::worker::WorkerSetup;

/// The variable that says that this process is not what it seems.
pub(crate) const VARIABLE: &str = "LAYERSTORE_CONFORMANCE_CHILD";

/// What a child of the suite is to do.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum ChildSetup {
    /// Run cases as it is told.
    Worker(WorkerSetup),
    /// Run one action.
    Action(ActionSetup),
    /// Wait for a line, and end.
    Nothing,
}

/// One action.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ActionSetup {
    pub(crate) action: String,
    pub(crate) driver: String,
    pub(crate) root: PathBuf,
    pub(crate) runroot: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) namespace: bool,
}

/// This program again, as a child of the suite.
pub(crate) fn command(setup: &ChildSetup) -> Outcome<Command> {
    let mut command = Command::new("/proc/self/exe");
    command
        .env(VARIABLE, serde_json::to_string(setup)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    Ok(command)
}

/// Another process of a case. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    action: String,
    /// Somebody else has waited for its end.
    ended: bool,
}

impl Child {
    pub(crate) fn spawn(setup: ActionSetup) -> Outcome<Self> {
        let action = setup.action.clone();
        Self::start(action, &ChildSetup::Action(setup))
    }

    /// A process that does nothing until it is told to go, and ends then.
    pub(crate) fn idle() -> Outcome<Self> {
        Self::start("nothing".to_owned(), &ChildSetup::Nothing)
    }

    fn start(action: String, setup: &ChildSetup) -> Outcome<Self> {
        let mut child = command(setup)?.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| Failure::new("a child without an output"))?;
        Ok(Self { child, input, output: BufReader::new(output), action, ended: false })
    }

    /// Waits until the action says something, and gives the word.
    ///
    /// # Errors
    /// The action's failure, or that it ended without a word.
    pub fn hear(&mut self) -> Outcome<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(Failure::crash(format!("the process {} ended without an answer", self.action)));
            }
            let line = line.trim_end();
            if let Some(word) = line.strip_prefix("@say ") {
                return Ok(word.to_owned());
            }
            if let Some(failure) = line.strip_prefix("@fail ") {
                let failure: Failure = serde_json::from_str(failure)?;
                return Err(failure.context(format_args!("in the process {}", self.action)));
            }
        }
    }

    /// Waits until the action says `word`.
    ///
    /// # Errors
    /// As [`Child::hear`], or another word.
    pub fn expect(&mut self, word: &str) -> Outcome {
        let heard = self.hear()?;
        if heard == word {
            return Ok(());
        }
        Err(Failure::new(format!("the process {} says {heard:?} instead of {word:?}", self.action)))
    }

    /// Lets the action go on from its [`ActionBench::wait`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn go(&mut self) -> Outcome {
        if let Some(input) = &mut self.input {
            input.write_all(b"go\n")?;
            input.flush()?;
        }
        Ok(())
    }

    /// Lets the action go on from its [`ActionBench::wait`] to its end, and gives the number of system calls that
    /// it makes on the way; one that makes more than `limit` is killed, and the number is above `limit`.
    ///
    /// # Errors
    /// The action's failure, or where processes cannot be traced.
    pub fn count_calls(mut self, limit: u64) -> Outcome<u64> {
        let traced = Traced::seize(self.child.id())?;
        self.go()?;
        let (count, success) = traced.count_calls(limit)?;
        self.ended = true;
        if count > limit || success {
            return Ok(count);
        }
        match self.hear() {
            Ok(word) => {
                Err(Failure::crash(format!("the process {} ended after saying {word:?}", self.action)))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process where it stands (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// Those of `kill` and `wait`.
    pub fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the action has ended, and gives its failure.
    ///
    /// # Errors
    /// The action's.
    pub fn finish(mut self) -> Outcome {
        drop(self.input.take());
        loop {
            match self.hear() {
                Ok(_) => {}
                Err(failure) if failure.crash => break,
                Err(failure) => return Err(failure),
            }
        }
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::crash(format!("the process {} ended with {status}", self.action)))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Both fail only when the process was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an action works with.
#[derive(Debug)]
pub struct ActionBench {
    setup: ActionSetup,
    driver: Arc<dyn Driver>,
}

impl ActionBench {
    /// The driver, on the case's root.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// An argument.
    ///
    /// # Errors
    /// When the case gave fewer.
    pub fn argument(&self, number: usize) -> Outcome<&str> {
        self.setup
            .arguments
            .get(number)
            .map(String::as_str)
            .ok_or_else(|| Failure::new(format!("the action {} lacks argument {number}", self.setup.action)))
    }

    /// Says a word to the case.
    ///
    /// # Errors
    /// When the case is gone.
    pub fn say(&self, word: impl std::fmt::Display) -> Outcome {
        let mut output = std::io::stdout().lock();
        writeln!(output, "@say {word}")?;
        Ok(output.flush()?)
    }

    /// Waits until the case says go, or is gone.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn wait(&self) -> Outcome {
        wait_for_go()
    }
}

/// Waits for a line from whoever started this process, or until they are gone.
pub(crate) fn wait_for_go() -> Outcome {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(())
}

/// Runs one action and returns this process's exit status.
pub(crate) fn run_action(registry: &Registry, actions: &[Action], setup: ActionSetup) -> i32 {
    let result = (|| {
        if setup.namespace {
            namespace::unshare_mounts()?;
        }
        let action = actions
            .iter()
            .find(|action| action.name == setup.action)
            .ok_or_else(|| Failure::new(format!("there is no action {:?}", setup.action)))?;
        let driver = open_at(&**registry.get(&setup.driver)?, &setup.root, &setup.runroot)?;
        (action.run)(&ActionBench { setup, driver })
    })();
    let Err(failure) = result else { return 0 };
    let text = serde_json::to_string(&failure).unwrap_or_default();
    let mut output = std::io::stdout().lock();
    // The case may be gone; the exit status is for whoever is left.
    let _ = writeln!(output, "@fail {text}");
    let _ = output.flush();
    1
}
