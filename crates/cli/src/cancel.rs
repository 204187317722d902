//! Ctrl-C: the first asks the running operation to stop cleanly, the second leaves at once.

use layerstore::Context;

/// A context that SIGINT, SIGTERM and SIGHUP cancel.
pub(crate) fn context() -> Context {
    let context = Context::new();
    let cancelled = context.clone();
    let handler = move || {
        if cancelled.is_cancelled() {
            // 128 + SIGINT, as a shell says of a program that died of it.
            std::process::exit(130);
        }
        cancelled.cancel();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::debug!("no clean stop at ctrl-c: {error}");
    }
    context
}
