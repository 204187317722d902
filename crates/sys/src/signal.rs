//! Signals that ask this process to end: the first sets a flag that the running operation looks at, the second ends
//! the process at once.
//!
//! ```text
//! SIGINT, SIGTERM, SIGHUP ─ first ──→ cancelled = true, alarm in 4 s ─→ nobody has seen it? 1 s more ─→ exit
//!                         └ second ─→ exit
//! ```
//!
//! Somebody who hangs in a call, as in the opening of a pipe that has no other end, does not look at flags; no
//! signal would end it but SIGKILL, and `timeout` sends one signal only. So there is an alarm, which ends the
//! process where the operation did not see the flag. It gives a second more after it went off, for those that
//! waited for a disk, where no handler runs.
//!
//! Invariants: a signal that was ignored when the process began stays ignored (`nohup`, shells that start a job in
//! the background); handlers touch atomics, and call `alarm` and `_exit`, which are async-signal-safe, and nothing
//! else.

#![allow(unsafe_code, reason = "handlers of signals")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::{Result, call, last_errno};

/// Seconds in which an operation has to see that it should stop, and how many follow.
const GRACE: u32 = 4;
const LAST_GRACE: u32 = 1;

/// What a process does that is asked to end.
#[derive(Debug)]
pub struct Stop {
    /// Set by the first signal.
    pub cancelled: Arc<AtomicBool>,
    /// Set by whoever has seen that: it ends the operation in its own time from then on.
    pub seen: Arc<AtomicBool>,
    /// The exit status of a process that ends at once.
    pub status: i32,
}

static STOP: OnceLock<Stop> = OnceLock::new();
/// The alarm went off once.
static LATE: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT, SIGTERM and SIGHUP stop what runs as `stop` says, SIGALRM included, for which the program has no
/// other use then. For programs, once: what a later call asks for is not done.
///
/// # Errors
/// Those of `rt_sigaction`.
pub fn stop_cleanly(stop: Stop) -> Result<()> {
    if STOP.set(stop).is_err() {
        return Ok(());
    }
    handle(libc::SIGALRM, on_alarm)?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        if disposition(signal)? != libc::SIG_IGN {
            handle(signal, on_stop)?;
        }
    }
    Ok(())
}

extern "C" fn on_stop(_signal: libc::c_int) {
    let Some(stop) = STOP.get() else { return };
    if stop.cancelled.swap(true, Ordering::Relaxed) {
        leave(stop);
    }
    alarm(GRACE);
}

extern "C" fn on_alarm(_signal: libc::c_int) {
    let Some(stop) = STOP.get() else { return };
    if stop.seen.load(Ordering::Relaxed) {
        return;
    }
    if LATE.swap(true, Ordering::Relaxed) {
        leave(stop);
    }
    alarm(LAST_GRACE);
}

fn alarm(seconds: u32) {
    // SAFETY: a plain number; async-signal-safe.
    unsafe { libc::alarm(seconds) };
}

fn leave(stop: &Stop) -> ! {
    // SAFETY: it ends the process without running anything of it; async-signal-safe.
    unsafe { libc::_exit(stop.status) }
}

/// What happens at a signal now: `SIG_DFL`, `SIG_IGN` or the address of a handler.
fn disposition(signal: libc::c_int) -> Result<libc::sighandler_t> {
    call(
        "rt_sigaction",
        || format!("signal {signal}"),
        || {
            let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: nothing is set, and `old` is a place for what is set.
            let result = unsafe { libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) };
            // SAFETY: zeroes are a valid `sigaction`, also where the call has failed.
            let old = unsafe { old.assume_init() };
            if result == 0 { Ok(old.sa_sigaction) } else { Err(last_errno()) }
        },
    )
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> Result<()> {
    call(
        "rt_sigaction",
        || format!("signal {signal}"),
        || {
            // SAFETY: zeroes are a valid `sigaction`: no flags, and nothing is blocked.
            let mut new = unsafe { std::mem::zeroed::<libc::sigaction>() };
            new.sa_sigaction = handler as *const () as libc::sighandler_t;
            // Who waits goes on waiting: the flag is what counts.
            new.sa_flags = libc::SA_RESTART;
            // SAFETY: the handler does only what is async-signal-safe, see above.
            let result = unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) };
            if result == 0 { Ok(()) } else { Err(last_errno()) }
        },
    )
}
