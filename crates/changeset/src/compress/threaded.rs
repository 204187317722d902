//! A reader that works ahead on a thread of its own.
//!
//! ```text
//!   thread: read(inner) ─→ bounded channel of full buffers ─→ caller: Read, BufRead
//!                       ←─ channel of empty buffers       ←─
//! ```
//!
//! A stage that only looks at the bytes takes the buffers as they are and passes them on ([`Threaded::tapped`]).
//!
//! Invariant: memory is the channel's buffers and two more for each stage, however slow the caller is; a dropped
//! reader stops its threads at their next buffer.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Result};

/// Buffers on their way, 4 MiB: enough to hide that both sides work in bursts, and that a next layer waits until
/// the one before is complete.
const BUFFERS: usize = 16;
/// Bytes of one buffer.
const SIZE: usize = 256 << 10;

/// Reads `R` on another thread. Stages are built by nesting: a threaded hash of a threaded decompressor works on
/// three cores.
pub struct Threaded<R> {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
    thread: JoinHandle<R>,
}

impl<R: Read + Send + 'static> Threaded<R> {
    /// Starts a thread called `name` that reads `inner`.
    ///
    /// # Errors
    /// No more threads.
    pub fn new(name: &str, mut inner: R) -> Result<Self> {
        let (full_sender, full) = bounded(BUFFERS);
        let (empty, empty_receiver) = bounded::<Vec<u8>>(2 * BUFFERS);
        let work = move || {
            loop {
                let mut buffer = empty_receiver.try_recv().unwrap_or_default();
                // Zeros what is new only: a buffer that comes back is as long as it was filled.
                buffer.resize(SIZE, 0);
                let (count, end) = fill(&mut inner, &mut buffer);
                buffer.truncate(count);
                // A failed send: nobody listens any more, the reader was dropped.
                let gone = count > 0 && full_sender.send(Ok(buffer)).is_err();
                match end {
                    _ if gone => return inner,
                    None => {}
                    // The end is an empty buffer. Whether anybody takes it no longer matters.
                    Some(end) => {
                        drop(full_sender.send(end.map(|()| Vec::new())));
                        return inner;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| Error::stream("starting a thread", error))?;
        Ok(Self { full, empty, current: Vec::new(), at: 0, ended: false, thread })
    }

    /// Lets another thread called `name` look at every byte on its way, without copying any: `look` is given `tap` and
    /// the next bytes. For a reader that nothing was read from yet; [`Threaded::finish`] gives `tap` back, too.
    ///
    /// # Errors
    /// No more threads.
    pub fn tapped<T: Send + 'static>(
        self,
        name: &str,
        mut tap: T,
        look: impl Fn(&mut T, &[u8]) + Send + 'static,
    ) -> Result<Threaded<(R, T)>> {
        let Self { full: upstream, empty, current, at, ended, thread: above } = self;
        let (sender, full) = bounded(BUFFERS);
        let work = move || {
            for message in &upstream {
                let buffer = message.as_deref().unwrap_or_default();
                look(&mut tap, buffer);
                let last = buffer.is_empty();
                if sender.send(message).is_err() || last {
                    break;
                }
            }
            // The thread above might wait for somebody to take its next buffer.
            drop(upstream);
            match above.join() {
                Ok(inner) => (inner, tap),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| Error::stream("starting a thread", error))?;
        Ok(Threaded { full, empty, current, at, ended, thread })
    }
}

impl<R> Threaded<R> {
    /// Reads to the end, waits for the thread and gives the inner reader back, for example to ask a
    /// [`Hashing`](crate::digest::Hashing) for its digest.
    ///
    /// # Errors
    /// The inner reader's.
    pub fn finish(mut self) -> Result<R> {
        loop {
            let count =
                self.fill_buf().map_err(|error| Error::stream("reading the rest of a stream", error))?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        let Self { full, thread, .. } = self;
        // After an error the thread might wait for somebody to take it.
        drop(full);
        thread
            .join()
            .map_err(|_| Error::stream("reading a stream", io::Error::other("the reading thread panicked")))
    }
}

/// Fills at least half a buffer, so that a stage that gives little at a time does not cost a hand-over each; also
/// says how the stream ended, if it did.
fn fill(inner: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut count = 0;
    while count < buffer.len() / 2 {
        match inner.read(buffer.get_mut(count..).unwrap_or_default()) {
            Ok(0) => return (count, Some(Ok(()))),
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (count, Some(Err(error))),
        }
    }
    (count, None)
}

impl<R> BufRead for Threaded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() && !self.ended {
            // A thread that is gone has panicked, or an error was returned already.
            let next = self.full.recv().map_err(|_| io::Error::other("the stream failed before"));
            let next = next.and_then(|message| message)?;
            self.ended = next.is_empty();
            let used = std::mem::replace(&mut self.current, next);
            self.at = 0;
            // The thread makes a new buffer where this does not fit; it is there to save that.
            drop(self.empty.try_send(used));
        }
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.current.len());
    }
}

impl<R> Read for Threaded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

impl<R> fmt::Debug for Threaded<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threaded").field("ended", &self.ended).finish_non_exhaustive()
    }
}
