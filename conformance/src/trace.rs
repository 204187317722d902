//! Counts the system calls of another process (ptrace(2)): what something costs, without a clock.
//!
//! ```text
//! case ── seize, stop ──→ action, waiting for "go"
//!      ── go ⏎ ─────────→ action ── call ─→ stop, counted ─→ return ─→ stop ─→ …  until the process has ended
//! ```
//!
//! Calls are counted at the kernel's door, so it does not matter how a driver makes them. Threads and processes that
//! the traced one starts are counted with it.
//!
//! Invariant: whoever counts waits for every thread of the traced process, so nothing stopped is left behind.

use std::collections::BTreeMap;

use layerstore_sys as sys;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::case::{Failure, Outcome};

/// A process under trace, stopped.
#[derive(Debug)]
pub(crate) struct Traced {
    process: Pid,
    /// Whether the next stop of a thread is the return from a call.
    inside: BTreeMap<Pid, bool>,
}

impl Traced {
    /// Takes a child process under trace, with all its threads, and stops it.
    ///
    /// # Errors
    /// Those of `ptrace`: `EPERM` where tracing is forbidden, or where somebody else traces the process.
    pub(crate) fn seize(process: u32) -> Outcome<Self> {
        let process = pid(process)?;
        // EXITKILL: the traced process does not outlive a case that was ended.
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_EXITKILL;
        let mut inside = BTreeMap::new();
        for task in sys::Dir::open(format!("/proc/{process}/task"))?.entries()? {
            let thread = pid(String::from_utf8_lossy(&task.name).parse()?)?;
            ptrace::seize(thread, options).map_err(|errno| failed("PTRACE_SEIZE", errno))?;
            ptrace::interrupt(thread).map_err(|errno| failed("PTRACE_INTERRUPT", errno))?;
            wait(thread)?;
            inside.insert(thread, false);
        }
        Ok(Self { process, inside })
    }

    /// Lets the process run to its end and counts its calls; beyond `limit` it is killed. Gives the count and
    /// whether the process ended by itself with status 0.
    ///
    /// # Errors
    /// Those of `ptrace` and `wait`.
    pub(crate) fn count_calls(mut self, limit: u64) -> Outcome<(u64, bool)> {
        for &thread in self.inside.keys() {
            resume(thread, None)?;
        }
        let mut count = 0;
        loop {
            match wait(Pid::from_raw(-1))? {
                WaitStatus::PtraceSyscall(thread) => {
                    let inside = self.inside.entry(thread).or_default();
                    *inside = !*inside;
                    count += u64::from(*inside);
                    if count > limit {
                        // Fails only when it has ended.
                        let _ = nix::sys::signal::kill(self.process, nix::sys::signal::Signal::SIGKILL);
                    }
                    resume(thread, None)?;
                }
                // A clone or fork, the first stop of what it made, or a stop of the whole group.
                WaitStatus::PtraceEvent(thread, ..) => resume(thread, None)?,
                WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal))?,
                WaitStatus::Exited(process, status) if process == self.process => {
                    return Ok((count, status == 0));
                }
                WaitStatus::Signaled(process, ..) if process == self.process => return Ok((count, false)),
                _ => {}
            }
        }
    }
}

/// Lets a stopped thread go on to its next call or return.
fn resume(thread: Pid, signal: Option<nix::sys::signal::Signal>) -> Outcome {
    match ptrace::syscall(thread, signal) {
        // Killed meanwhile; its end is reported like any other.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(failed("PTRACE_SYSCALL", errno)),
    }
}

fn wait(thread: Pid) -> Outcome<WaitStatus> {
    // __WALL: also threads, which are no children of their own.
    waitpid(thread, Some(WaitPidFlag::__WALL)).map_err(|errno| failed("waitpid", errno))
}

fn pid(process: u32) -> Outcome<Pid> {
    Ok(Pid::from_raw(i32::try_from(process)?))
}

fn failed(call: &str, errno: Errno) -> Failure {
    Failure::new(format!("{call}: {errno}"))
}
