//! Ctrl-C: the first asks the running operation to stop cleanly, the second leaves at once.
//!
//! By a handler that sets a flag, without a thread that waits for signals: most verbs take a few milliseconds, and
//! to start and to end a thread would be a tenth of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use layerstore::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// 128 + SIGINT, as a shell says of a program that died of it.
const INTERRUPTED: i32 = 130;

/// A context that SIGINT, SIGTERM and SIGHUP cancel.
pub(crate) fn context() -> Context {
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: what leaves looks whether an earlier signal has set the flag.
        let handled = flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&cancelled))
            .and_then(|_| flag::register(signal, Arc::clone(&cancelled)));
        if let Err(error) = handled {
            tracing::debug!(signal, "no clean stop at this signal: {error}");
        }
    }
    Context::cancelled_by(cancelled)
}
