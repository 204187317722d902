//! Ctrl-C: the first asks the running operation to stop cleanly, the second leaves at once.
//!
//! By a handler that sets a flag, without a thread that waits for signals: most verbs take a few milliseconds, and
//! to start and to end a thread would be a tenth of it.

use layerstore::Context;
use layerstore_sys::signal::{Stop, stop_cleanly};

/// The exit code of what a signal stopped, cleanly or at once: 128 + SIGINT, as a shell says of a program that died of
/// it, and as docker and git do.
pub(crate) const INTERRUPTED: u8 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP cancel this context. Before, they end the process, as nothing has begun.
pub(crate) fn by_signals(context: &Context) {
    let stop = Stop {
        cancelled: context.cancelled_flag(),
        seen: context.seen_flag(),
        status: i32::from(INTERRUPTED),
    };
    if let Err(error) = stop_cleanly(stop) {
        tracing::debug!("no clean stop at a signal: {error}");
    }
}
