//! The raw bytes of an archive: one buffer, filled from the stream and lent out in pieces.
//!
//! Invariant: every byte of the stream passes once, in order, and the recorder (where there is one) is told of
//! each, either as raw bytes or as the payload of the plain file that is open.

use std::io::{self, Read, Write};

use crate::error::{Code, Error, Result};
use crate::record::Recorder;

use super::header::BLOCK;

/// Bytes of the buffer: a multiple of a block, large enough that reading costs little per byte.
const BUFFER: usize = 256 << 10;

/// What a piece of the stream is to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Headers, padding and payloads that no tree gives back.
    Raw,
    /// Payload of the plain file that the recorder has open.
    Payload,
}

/// A stream with its buffer and its recorder.
#[derive(Debug)]
pub(super) struct Input<R, W> {
    stream: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
    recorder: Option<Recorder<W>>,
}

impl<R: Read, W: Write + Send + 'static> Input<R, W> {
    pub(super) fn new(stream: R, recorder: Option<Recorder<W>>) -> Self {
        Self { stream, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, position: 0, recorder }
    }

    /// How many bytes were taken so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn recorder(&mut self) -> Option<&mut Recorder<W>> {
        self.recorder.as_mut()
    }

    pub(super) fn into_parts(self) -> (R, Option<Recorder<W>>) {
        (self.stream, self.recorder)
    }

    /// The next block, or none where the stream ends before it.
    ///
    /// # Errors
    /// `TRUNCATED` where it ends within it, and I/O.
    pub(super) fn block(&mut self) -> Result<Option<&[u8; BLOCK]>> {
        match self.fill(BLOCK)? {
            0 => return Ok(None),
            BLOCK.. => {}
            _ => return Err(truncated(b"")),
        }
        let range = self.take(BLOCK, Piece::Raw)?;
        Ok(self.buffer.get(range).and_then(|bytes| bytes.try_into().ok()))
    }

    /// Up to `most` bytes that lie in the buffer; none exactly at the end of the stream.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn data(&mut self, most: u64, piece: Piece) -> Result<&[u8]> {
        let have = self.fill(1)?;
        let count = usize::try_from(most).map_or(have, |most| most.min(have));
        let range = self.take(count, piece)?;
        Ok(self.buffer.get(range).unwrap_or_default())
    }

    /// The last `count` bytes that [`Input::data`] gave, once more.
    pub(super) fn last(&self, count: usize) -> &[u8] {
        self.buffer.get(self.start.saturating_sub(count)..self.start).unwrap_or_default()
    }

    /// Appends `length` bytes to `out`, which the caller has bounded.
    ///
    /// # Errors
    /// `TRUNCATED` and I/O.
    pub(super) fn append(&mut self, length: u64, out: &mut Vec<u8>) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let bytes = self.data(left, Piece::Raw)?;
            if bytes.is_empty() {
                return Err(truncated(b""));
            }
            out.extend_from_slice(bytes);
            left -= bytes.len() as u64;
        }
        Ok(())
    }

    /// Takes `length` bytes and drops them.
    ///
    /// # Errors
    /// `TRUNCATED` and I/O.
    pub(super) fn skip(&mut self, length: u64, piece: Piece) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let count = self.data(left, piece)?.len() as u64;
            if count == 0 {
                return Err(truncated(b""));
            }
            left -= count;
        }
        Ok(())
    }

    /// Takes everything that is left.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn drain(&mut self) -> Result<()> {
        while !self.data(u64::MAX, Piece::Raw)?.is_empty() {}
        Ok(())
    }

    fn take(&mut self, count: usize, piece: Piece) -> Result<std::ops::Range<usize>> {
        let range = self.start..self.start + count;
        self.start += count;
        self.position += count as u64;
        if let Some(recorder) = &mut self.recorder {
            let bytes = self.buffer.get(range.clone()).unwrap_or_default();
            match piece {
                Piece::Raw => recorder.raw(bytes)?,
                Piece::Payload => recorder.payload(bytes),
            }
        }
        Ok(range)
    }

    /// Makes at least `wanted` bytes available where the stream has them, and says how many there are.
    fn fill(&mut self, wanted: usize) -> Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < wanted {
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(free) {
                Ok(0) => break,
                // A stream that lies about its counts must not make us do so.
                Ok(count) => self.end = (self.end + count).min(self.buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::stream("reading the archive", error)),
            }
        }
        Ok(self.end - self.start)
    }
}

/// The archive ends within the named entry.
pub(super) fn truncated(name: &[u8]) -> Error {
    let name = if name.is_empty() { b"archive" } else { name };
    Error::refused(Code::Truncated, name, "the archive ends in the middle of an entry")
}
