//! A writer that compresses on a thread of its own, so that reading an archive does not wait for it.
//!
//! Invariant: memory is a few buffers, whatever is written; a writer that is dropped ends its thread.

use std::io::{self, Write};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use crate::compress::{Compression, Compressor};
use crate::error::{Error, Result};

/// Bytes that are handed over at once.
const SIZE: usize = 256 << 10;
/// Buffers on their way.
const BUFFERS: usize = 4;

/// Compresses into a `W` on another thread.
pub(super) struct Behind<W> {
    buffer: Vec<u8>,
    sender: Sender<Vec<u8>>,
    thread: JoinHandle<Result<W>>,
}

impl<W: Write + Send + 'static> Behind<W> {
    /// Starts the thread; the level is gzip's.
    ///
    /// # Errors
    /// No more threads.
    pub(super) fn new(out: W, level: i32) -> Result<Self> {
        let (sender, receiver) = bounded::<Vec<u8>>(BUFFERS);
        let mut out = Compressor::new(out, Compression::Gzip, Some(level))?;
        let work = move || {
            for buffer in receiver {
                out.write_all(&buffer).map_err(failed)?;
            }
            out.finish()
        };
        let thread = std::thread::Builder::new().name("tar-record".into()).spawn(work);
        let thread = thread.map_err(|error| Error::stream("starting a thread", error))?;
        Ok(Self { buffer: Vec::with_capacity(SIZE), sender, thread })
    }

    /// Takes some bytes.
    ///
    /// # Errors
    /// That the thread stopped; [`Behind::finish`] says why.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > SIZE && !self.buffer.is_empty() {
            self.send()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Completes the stream and gives the writer back.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn finish(mut self) -> Result<W> {
        let sent = self.send();
        drop(self.sender);
        let done =
            self.thread.join().unwrap_or_else(|_| Err(failed(io::Error::other("its thread panicked"))));
        // The thread's own error says more than that it is gone.
        done.and_then(|out| sent.map(|()| out))
    }

    fn send(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(SIZE));
        self.sender.send(full).map_err(|_| failed(io::Error::other("writing failed before")))
    }
}

fn failed(error: io::Error) -> Error {
    Error::stream("writing the layer's tar record", error)
}
