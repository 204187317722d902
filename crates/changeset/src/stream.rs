//! Streams of changes: where they come from ([`ChangeSource`]) and where they go ([`ChangeSink`]).
//!
//! Sources are pulled, sinks are pushed to, so that a program drives a conversion with one loop ([`copy`]).
//! A file's data travels as chunks that keep holes, and can offer a descriptor so that a sink on the same file
//! system shares extents instead of copying.

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::change::{Change, Kind};
use crate::error::Result;

/// One change, with the data of a [`Kind::File`].
pub struct Item<'a> {
    /// The change.
    pub change: Change,
    /// The file's data: present exactly when the change puts a [`Kind::File`]. What a consumer leaves unread is
    /// skipped by the source.
    pub data: Option<&'a mut dyn FileData>,
    /// Where in the stream the change begins, in bytes, where there is such a place: for the message of whoever
    /// refuses it.
    pub offset: Option<u64>,
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("change", &self.change).finish_non_exhaustive()
    }
}

/// An ordered stream of changes.
pub trait ChangeSource {
    /// The next change, or none at the end. An error ends the stream: later calls may say anything.
    ///
    /// # Errors
    /// Whatever reading the encoding can meet: refused input, I/O.
    fn next(&mut self) -> Result<Option<Item<'_>>>;
}

/// Takes changes, in order.
pub trait ChangeSink {
    /// Takes one change. `data` is present exactly when it puts a [`Kind::File`]; a sink may leave it unread.
    ///
    /// # Errors
    /// What the encoding cannot say, and I/O.
    fn put(&mut self, change: Change, data: Option<&mut dyn FileData>) -> Result<()>;
}

/// A piece of a file's data.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes, at least one.
    Data(&'a [u8]),
    /// So many zero bytes that take no space.
    Hole(u64),
}

/// The data of one file, from its start to its end; the chunks add up to the entry's size.
pub trait FileData {
    /// The next piece, or none at the end.
    ///
    /// # Errors
    /// I/O, or an input that ends too early (`TRUNCATED`).
    fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>>;

    /// A descriptor open for reading with exactly this data from offset 0, where there is one: sinks may clone
    /// or copy from it inside the kernel instead of asking for chunks.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Data that lies in memory.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl FileData for Bytes<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        let bytes = std::mem::take(&mut self.0);
        Ok(if bytes.is_empty() { None } else { Some(Chunk::Data(bytes)) })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Moves every change from `source` to `sink` and returns how many.
///
/// # Errors
/// The first error of either side.
pub fn copy(source: &mut dyn ChangeSource, sink: &mut dyn ChangeSink) -> Result<u64> {
    let mut count = 0;
    while let Some(item) = source.next()? {
        debug_assert_eq!(
            item.data.is_some(),
            matches!(&item.change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. })),
            "data comes with files and with nothing else"
        );
        sink.put(item.change, item.data)?;
        count += 1;
    }
    Ok(count)
}
