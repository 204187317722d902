//! Entries of a difference, looked up, opened and read on a thread of their own while the caller's thread hands
//! earlier ones to the sink: opening a small file takes as long as writing it.
//!
//! ```text
//! reader  walk ─→ statx, open, xattrs, read, close ─→ batch ─┐ full batches, bounded
//! caller                     sink.put ←─ batch ←──────────────┘
//!                                └────── buffers, to be filled again ──────→ reader
//! ```
//!
//! A large file comes open and is read by the sink. A small one is read by whichever thread has less to do: by the
//! reader while batches wait, else by the caller. Invariants: the order is that of the walk, an error comes after
//! everything that was found before it, and what is under way takes a few MiB and some 200 descriptors, whatever the
//! trees hold.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::super::data::TreeFile;
use crate::change::{Change, Kind};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::stream::{Bytes, ChangeSink, FileData};

/// Bytes of small files in a batch.
const BYTES: usize = 512 << 10;
/// Most changes in a batch.
const CHANGES: usize = 256;
/// Most open files in a batch.
const FILES: usize = 32;
/// Batches on their way, besides the one that is filled and the one that is emptied.
const BATCHES: usize = 4;

/// The data of a change.
enum Data {
    None,
    /// Where it lies in the bytes of the batch.
    Read(Range<usize>),
    Open(TreeFile),
}

#[derive(Default)]
struct Batch {
    changes: Vec<(Change, Data)>,
    /// As long as was ever needed, so that its pages are zeroed once; `filled` says how much is of this batch.
    bytes: Vec<u8>,
    filled: usize,
    files: usize,
}

/// Takes changes on the reader's thread.
pub(super) struct Ahead {
    batch: Batch,
    full: Sender<Result<Batch>>,
    empty: Receiver<Batch>,
}

impl Ahead {
    /// Takes a change with its data.
    ///
    /// # Errors
    /// System calls; [`Error::Cancelled`] when nobody takes changes any more.
    pub(super) fn put(&mut self, change: Change, data: Option<TreeFile>) -> Result<()> {
        let data = match data {
            None => Data::None,
            Some(file) => match file.small() {
                Some(size) if self.full.len() > 1 => self.read(file, size)?,
                _ => {
                    self.batch.files += 1;
                    Data::Open(file)
                }
            },
        };
        self.batch.changes.push((change, data));
        if self.batch.changes.len() >= CHANGES || self.batch.files >= FILES {
            self.send()?;
        }
        Ok(())
    }

    fn read(&mut self, file: TreeFile, size: usize) -> Result<Data> {
        if self.batch.filled + size > BYTES && self.batch.filled > 0 {
            self.send()?;
        }
        let batch = &mut self.batch;
        let range = batch.filled..batch.filled + size;
        if batch.bytes.len() < range.end {
            batch.bytes.resize(range.end.next_multiple_of(BYTES / 8), 0);
        }
        file.read_whole(batch.bytes.get_mut(range.clone()).unwrap_or_default())?;
        batch.filled = range.end;
        Ok(Data::Read(range))
    }

    fn send(&mut self) -> Result<()> {
        let next = self.empty.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch, next);
        self.full.send(Ok(full)).map_err(|_| Error::Cancelled)
    }
}

/// Runs `walk` on a thread of its own and hands what it puts to the sink.
///
/// # Errors
/// The sink's, else those of `walk`; no more threads.
pub(super) fn read_ahead(
    walk: impl FnOnce(&mut Ahead) -> Result<()> + Send,
    sink: &mut dyn ChangeSink,
    context: &Context,
) -> Result<()> {
    let (full, batches) = bounded(BATCHES);
    let (emptied, empty) = bounded(BATCHES);
    std::thread::scope(|scope| {
        let work = move || {
            let mut ahead = Ahead { batch: Batch::default(), full, empty };
            let walked = walk(&mut ahead);
            let sent = ahead.send();
            if let Err(error) = walked.and(sent) {
                // Nobody listens where the sink failed, and its error is the one to report.
                let _ = ahead.full.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name("layer-reader".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|error| Error::stream("start a reader thread", error))?;
        // Dropped when this ends, however it does: then the reader stops, and the scope waits for it.
        let batches: Receiver<Result<Batch>> = batches;
        let mut progress = Progress::default();
        let mut buffer = Vec::new();
        for batch in batches {
            let mut batch = batch?;
            for (change, data) in batch.changes.drain(..) {
                context.check()?;
                progress.entries += 1;
                if let Change::Put(entry) = &change
                    && let Kind::File { size } = entry.kind
                {
                    progress.bytes += size;
                }
                match data {
                    Data::None => sink.put(change, None)?,
                    Data::Read(range) => {
                        let mut data = Bytes(batch.bytes.get(range).unwrap_or_default());
                        sink.put(change, Some(&mut data))?;
                    }
                    Data::Open(mut file) => match file.small() {
                        Some(size) => {
                            if buffer.len() < size {
                                buffer.resize(size, 0);
                            }
                            let bytes = buffer.get_mut(..size).unwrap_or_default();
                            file.read_whole(bytes)?;
                            sink.put(change, Some(&mut Bytes(bytes)))?;
                        }
                        None => sink.put(change, Some(&mut file as &mut dyn FileData))?,
                    },
                }
                context.report(progress);
            }
            (batch.filled, batch.files) = (0, 0);
            // The reader may have ended.
            let _ = emptied.try_send(batch);
        }
        Ok(())
    })
}
