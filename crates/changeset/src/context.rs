//! What a long operation is given besides its arguments: a way to be stopped, a way to say how far it is, and whether
//! somebody will wait for its data to reach the disk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Cancellation and progress of one operation. Clones share both.
#[derive(Clone, Default)]
pub struct Context {
    cancelled: Arc<AtomicBool>,
    seen: Arc<AtomicBool>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    write_back: bool,
}

/// How far an operation is; counts only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries done.
    pub entries: u64,
    /// Bytes of file data done.
    pub bytes: u64,
}

impl Context {
    /// A context that nobody cancels and nobody watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// The flag that cancels, for those who can do no more than to set a flag: a signal's handler, say.
    pub fn cancelled_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// The flag that is set once somebody has seen that the operation should stop, and stops it. Who never sets it
    /// hangs somewhere.
    pub fn seen_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.seen)
    }

    /// Reports progress to `watcher`, which may be called often and from several threads.
    #[must_use]
    pub fn with_progress(mut self, watcher: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(watcher));
        self
    }

    /// Wants the data of files to begin its way to the disk as soon as a file is complete, small ones left out,
    /// because a sync will wait for it.
    #[must_use]
    pub fn with_write_back(mut self) -> Self {
        self.write_back = true;
        self
    }

    /// Whether [`with_write_back`](Self::with_write_back) was asked for. Who does not heed it is only slower.
    pub fn wants_write_back(&self) -> bool {
        self.write_back
    }

    /// Asks every operation with this context to stop at its next check.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the operation should stop.
    pub fn is_cancelled(&self) -> bool {
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        if cancelled {
            self.seen.store(true, Ordering::Relaxed);
        }
        cancelled
    }

    /// To be called at least once per entry and per mebibyte.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once the operation should stop.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Tells the watcher how far the operation is.
    pub fn report(&self, progress: Progress) {
        if let Some(watcher) = &self.progress {
            watcher(progress);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("cancelled", &self.cancelled).finish_non_exhaustive()
    }
}
