//! Write-back that begins while an image is still being unpacked.
//!
//! Without it, everything that a pull wrote would wait in memory for the one `syncfs` at its end, and whoever
//! unmounts a container on the same file system meanwhile would wait for all of it, because unmounting a writable
//! overlay syncs its upper file system.
//!
//! ```text
//! unpacking ─→ so many bytes ─→ thread: syncfs       one runs; who has the next together waits for it
//! ```
//!
//! Invariant: what is dirty at any time is about two portions, and a portion is what the file system was seen to
//! write in [`GOAL`]. The thread has a descriptor of its own: an error that it meets is told to the last `syncfs`,
//! too, which decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use layerstore_sys::Dir;

use crate::config::SyncMode;
use crate::store::Store;

/// How long writing a portion should take.
const GOAL: Duration = Duration::from_millis(200);
/// Least, first and largest portion, in bytes.
const PORTIONS: (u64, u64, u64) = (8 << 20, 64 << 20, 256 << 20);

/// Writes back what an operation wrote so far, again and again.
#[derive(Debug)]
pub(crate) struct WriteBack {
    /// Takes a portion's bytes.
    sender: SyncSender<u64>,
    /// How much is a portion.
    portion: Arc<AtomicU64>,
    /// Bytes since the last portion.
    waiting: AtomicU64,
}

impl WriteBack {
    /// Starts the thread for the file system that holds `dir`; none where that is not possible, since it only
    /// makes things faster.
    fn start(dir: &Dir) -> Option<Self> {
        let own = dir.open_dir(b".").ok()?;
        let (sender, receiver) = sync_channel(0);
        let portion = Arc::new(AtomicU64::new(PORTIONS.1));
        let told = Arc::clone(&portion);
        let thread = std::thread::Builder::new().name("write-back".to_owned());
        thread.spawn(move || serve(&own, &receiver, &told)).ok()?;
        Some(Self { sender, portion, waiting: AtomicU64::new(0) })
    }

    /// So many bytes more are on their way to the file system. Waits while it is far behind.
    pub(crate) fn wrote(&self, bytes: u64) {
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting >= self.portion.load(Ordering::Relaxed) {
            self.waiting.store(0, Ordering::Relaxed);
            // A thread that met an error is gone: the end of the operation tells.
            let _ = self.sender.send(waiting);
        }
    }
}

fn serve(own: &Dir, portions: &Receiver<u64>, told: &AtomicU64) {
    for bytes in portions {
        let begin = Instant::now();
        if let Err(error) = own.sync_file_system() {
            tracing::debug!(%error, "early write-back failed; the sync at the end fails, too");
            return;
        }
        let took = begin.elapsed().as_millis().clamp(1, 1 << 20);
        let fitting = u128::from(bytes) * GOAL.as_millis() / took;
        let fitting = u64::try_from(fitting).unwrap_or(PORTIONS.2).clamp(PORTIONS.0, PORTIONS.2);
        told.store(fitting, Ordering::Relaxed);
    }
}

impl Store {
    /// Begins write-back for an operation that will sync at its end.
    pub(crate) fn write_back(&self) -> Option<Arc<WriteBack>> {
        // `file` is for those who do not want to wait for what others wrote.
        if self.config().sync.value != SyncMode::Layer {
            return None;
        }
        let inner = self.inner();
        WriteBack::start(inner.driver_root.as_ref().unwrap_or(&inner.root)).map(Arc::new)
    }
}
