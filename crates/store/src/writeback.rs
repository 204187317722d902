//! Write-back that begins while an image is still being unpacked, for `sync = "layer"`.
//!
//! Without it, everything that a pull wrote would wait in memory for the one `syncfs` at its end, while no thread has
//! anything else to do, and whoever unmounts a container on the same file system would wait for all of it, because
//! unmounting a writable overlay syncs its upper file system.
//!
//! ```text
//! unpacking ─→ a portion of bytes ─→ thread: syncfs       while it runs, the next portion gathers
//! ```
//!
//! Files that are not small are on their way by themselves (`Context::with_write_back`), so that a portion is written
//! quickly, and large ones do not even stay in the page cache, where the kernel can (Linux 6.16). For the thousands of
//! small ones that make up the rest, a `syncfs` costs less than `sync_file_range` for each: the kernel sends those that
//! lie side by side to the disk together.
//!
//! Invariant: what is dirty at any time is at most about three portions, and a portion is what the file system was
//! seen to write in [`GOAL`]. The thread has a descriptor of its own: an error that it meets is told to the last
//! `syncfs`, too, which decides. It ends with its [`WriteBack`], and nothing is left that keeps a file system busy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use layerstore_sys::Dir;

use crate::config::SyncMode;
use crate::store::Store;

/// How long writing a portion should take. Who unmounts a container meanwhile waits for up to three.
const GOAL: Duration = Duration::from_millis(250);
/// Least and largest portion, in bytes.
const PORTIONS: (u64, u64) = (16 << 20, 512 << 20);

/// Writes back what an operation wrote so far, again and again.
#[derive(Debug)]
pub(crate) struct WriteBack {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes since the last portion.
    waiting: u64,
    /// How much is a portion; the thread sets it.
    portion: Arc<AtomicU64>,
    thread: Thread,
}

#[derive(Debug)]
enum Thread {
    /// Not needed yet: what is smaller than the first portion gets along with one `syncfs`. The directory is open from
    /// the start, so that nothing that goes wrong from here on escapes it.
    Waits(Dir),
    /// Takes a portion when it is idle.
    Runs { portions: SyncSender<u64>, thread: JoinHandle<()> },
    /// It could not be started, or met an error: the end of the operation tells.
    Gone,
}

impl Store {
    /// Begins write-back for an operation that will call `syncfs` at its end. None where that is not possible, since it
    /// only makes things faster.
    pub(crate) fn write_back(&self) -> Option<Arc<WriteBack>> {
        // `file` is for those who do not want to wait for what others wrote.
        if self.config().sync.value != SyncMode::Layer {
            return None;
        }
        let inner = self.inner();
        let dir = inner.driver_root.as_ref().unwrap_or(&inner.root).open_dir(b".").ok()?;
        Some(Arc::new(WriteBack::new(dir)))
    }
}

impl WriteBack {
    fn new(dir: Dir) -> Self {
        // What the disk can do is not known yet. Beginning early costs a fast one a `syncfs` more, and a slow one
        // would be far behind after a large portion.
        let portion = Arc::new(AtomicU64::new(PORTIONS.0));
        Self { state: Mutex::new(State { waiting: 0, portion, thread: Thread::Waits(dir) }) }
    }

    /// So many bytes more are on their way to the file system. Waits while it is far behind.
    pub(crate) fn wrote(&self, bytes: u64) {
        // Poisoned: a panic is on its way up already.
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = state.waiting.saturating_add(bytes);
        let portion = state.portion.load(Ordering::Relaxed);
        if state.waiting < portion {
            return;
        }
        state.thread = match std::mem::replace(&mut state.thread, Thread::Gone) {
            Thread::Waits(dir) => start(dir, Arc::clone(&state.portion)),
            other => other,
        };
        let Thread::Runs { portions, .. } = &state.thread else { return };
        let sent = match portions.try_send(state.waiting) {
            // It is busy.
            Err(TrySendError::Full(_)) if state.waiting < 2 * portion => return,
            Err(TrySendError::Full(waiting)) => portions.send(waiting).is_ok(),
            sent => sent.is_ok(),
        };
        state.waiting = 0;
        if !sent {
            state.thread = Thread::Gone;
        }
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Thread::Runs { portions, thread, .. } = std::mem::replace(&mut state.thread, Thread::Gone) {
            // No more portions: it ends when it has written the last one.
            drop(portions);
            // Its panic would be a bug, but no reason to fail what it only makes faster.
            let _ = thread.join();
        }
    }
}

fn start(dir: Dir, next: Arc<AtomicU64>) -> Thread {
    let (portions, receiver) = sync_channel(0);
    let thread = std::thread::Builder::new().name("write-back".to_owned());
    match thread.spawn(move || serve(&dir, &receiver, &next)) {
        Ok(thread) => Thread::Runs { portions, thread },
        Err(_) => Thread::Gone,
    }
}

fn serve(dir: &Dir, portions: &Receiver<u64>, next: &AtomicU64) {
    for bytes in portions {
        let begin = Instant::now();
        if let Err(error) = dir.sync_file_system() {
            tracing::debug!(%error, "early write-back failed; the sync at the end fails, too");
            return;
        }
        next.store(portion(bytes, begin.elapsed()), Ordering::Relaxed);
    }
}

/// How much to write next, after so many bytes took so long: not over twice as much, because the first portions are
/// often on the disk already when they are due, and a small image would leave all its files to the end.
fn portion(bytes: u64, took: Duration) -> u64 {
    let fitting = u128::from(bytes) * GOAL.as_millis() / took.as_millis().max(1);
    let most = bytes.saturating_mul(2).clamp(PORTIONS.0, PORTIONS.1);
    u64::try_from(fitting).unwrap_or(most).clamp(PORTIONS.0, most)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what /proc says is asked without the crate under test")]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::as_fast_as_wanted(128, 250, 128)]
    #[case::twice_as_fast(100, 125, 200)]
    #[case::too_slow(256, 1000, 64)]
    #[case::a_very_slow_disk(256, 10_000, 16)]
    #[case::much_faster(16, 10, 32)]
    #[case::no_time_at_all(128, 0, 256)]
    #[case::the_largest(512, 100, 512)]
    fn a_portion_is_what_is_written_in_a_quarter_of_a_second(
        #[case] mib: u64,
        #[case] took: u64,
        #[case] next: u64,
    ) {
        assert_eq!(portion(mib << 20, Duration::from_millis(took)), next << 20);
    }

    #[test]
    fn nothing_keeps_the_file_system_busy_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let open = || {
            let fds = std::fs::read_dir("/proc/self/fd").unwrap();
            fds.filter(|fd| std::fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path))
                .count()
        };
        let write_back = WriteBack::new(Dir::open(&path).unwrap());
        write_back.wrote(PORTIONS.1);
        // The second one waits until there is a thread that takes it.
        write_back.wrote(PORTIONS.1);
        assert!(matches!(write_back.state.lock().unwrap().thread, Thread::Runs { .. }));
        assert_eq!(open(), 1);
        drop(write_back);
        assert_eq!(open(), 0);
    }
}
