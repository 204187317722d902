//! The payload of the entry that an archive is read at, lent out in the chunks that lie in the buffer.
//!
//! Invariant: the chunks of a file add up to its size, or there is an error.

use std::io::{BufRead, Write};
use std::os::fd::BorrowedFd;

use super::header::BLOCK;
use super::input::{Input, Piece, truncated};
use super::sparse::Map;
use crate::change::{Change, Kind};
use crate::error::{Code, Error, Result};
use crate::stream::{Chunk, FileData};

/// The archive at the payload of the current entry.
pub(super) struct Body<R, W> {
    pub(super) input: Input<R, W>,
    name: Vec<u8>,
    /// Where the entry begins.
    pub(super) offset: u64,
    /// Bytes of payload that were not read yet.
    remaining: u64,
    /// Bytes behind it up to the next block.
    padding: u64,
    piece: Piece,
    sparse: Option<Sparse>,
    /// Bytes of data that the limit still allows.
    budget: u64,
}

/// Where a sparse file's reading stands.
struct Sparse {
    map: Map,
    next: usize,
    at: u64,
}

impl<R: BufRead, W: Write + Send + 'static> Body<R, W> {
    /// Before the first entry; `budget` is how much data all files may have.
    pub(super) fn new(input: Input<R, W>, budget: u64) -> Self {
        let piece = Piece::Raw;
        Self { input, name: Vec::new(), offset: 0, remaining: 0, padding: 0, piece, sparse: None, budget }
    }

    /// Begins the payload of an entry; of a sparse file's, the map's own bytes were read already.
    pub(super) fn open(
        &mut self,
        name: Vec<u8>,
        stored: u64,
        map: Option<(Map, u64)>,
        change: &Change,
    ) -> Result<()> {
        self.name = name;
        self.remaining = map.as_ref().map_or(stored, |(_, left)| *left);
        self.padding = padding(stored);
        self.piece = Piece::Raw;
        self.sparse = map.map(|(map, _)| Sparse { map, next: 0, at: 0 });
        let plain = self.sparse.is_none()
            && matches!(change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. }));
        if let Some(recorder) = self.input.recorder() {
            if plain && stored > 0 {
                self.piece = Piece::Payload;
                recorder.begin_file(&self.name, stored)?;
            } else {
                recorder.cut()?;
            }
        }
        Ok(())
    }

    /// Takes what is left of the entry, and says whether the padding behind it is there.
    ///
    /// Where the stream ends right behind the payload, the last entry is whole all the same: Go's writer pads with the
    /// next header, and programs that never close it (`umoci insert` of umoci 0.4.7) leave archives like that, which
    /// Go's reader takes. One that ends within the padding was cut.
    pub(super) fn skip(&mut self) -> Result<bool> {
        while self.remaining > 0 {
            self.data(u64::MAX)?;
        }
        let padding = std::mem::take(&mut self.padding);
        if padding == 0 {
            return Ok(true);
        }
        let first = self.input.data(padding, Piece::Raw)?.len() as u64;
        if first == 0 {
            return Ok(false);
        }
        self.input.skip(padding - first, Piece::Raw).map_err(|error| self.cut_off(error))?;
        Ok(true)
    }

    /// The next bytes of payload, at most `most`, of which there are some left.
    fn data(&mut self, most: u64) -> Result<&[u8]> {
        let bytes = self.input.data(self.remaining.min(most), self.piece)?.len();
        if bytes == 0 {
            return Err(self.cut_off(truncated(b"")));
        }
        self.remaining -= bytes as u64;
        let Some(budget) = self.budget.checked_sub(bytes as u64) else {
            return Err(Error::refused(
                Code::LimitExceeded,
                &self.name,
                "layer has more data than is allowed",
            )
            .at(self.offset));
        };
        self.budget = budget;
        if self.remaining == 0
            && self.piece == Piece::Payload
            && let Some(recorder) = self.input.recorder()
        {
            recorder.end_file()?;
        }
        self.input.last()
    }

    fn cut_off(&self, error: Error) -> Error {
        match error.code() {
            Some(Code::Truncated) => truncated(&self.name).at(self.offset),
            _ => error,
        }
    }
}

impl<R: BufRead, W: Write + Send + 'static> FileData for Body<R, W> {
    fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        let Some(sparse) = &mut self.sparse else {
            if self.remaining == 0 {
                return Ok(None);
            }
            return self.data(u64::MAX).map(|bytes| Some(Chunk::Data(bytes)));
        };
        let segment = sparse.map.segments.get(sparse.next).copied();
        // The end of the file is like a segment without data.
        let (offset, length) = segment.unwrap_or((sparse.map.size, 0));
        if sparse.at < offset {
            let hole = offset - sparse.at;
            sparse.at = offset;
            return Ok(Some(Chunk::Hole(hole)));
        }
        if segment.is_none() {
            return Ok(None);
        }
        let left = offset + length - sparse.at;
        let count = self.data(left)?.len();
        if let Some(sparse) = &mut self.sparse {
            sparse.at += count as u64;
            sparse.next += usize::from(count as u64 == left);
        }
        Ok(Some(Chunk::Data(self.input.last()?)))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Bytes from here to the next block.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
