//! The raw bytes of an archive, lent out in pieces of the stream's own buffers: nothing is copied but a block that
//! lies in two of them.
//!
//! Invariant: every byte of the stream passes once, in order, and the recorder (where there is one) is told of
//! each, either as raw bytes or as the payload of the plain file that is open.

use std::io::{self, BufRead, Write};

use crate::error::{Code, Error, Result};
use crate::record::Recorder;

use super::header::BLOCK;

/// What a piece of the stream is to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Headers, padding and payloads that no tree gives back.
    Raw,
    /// Payload of the plain file that the recorder has open.
    Payload,
}

/// A stream with its recorder.
#[derive(Debug)]
pub(super) struct Input<R, W> {
    stream: R,
    /// Bytes at the start of the stream's buffer that were lent out and are consumed by the next call.
    lent: usize,
    /// A block that lay in two buffers.
    block: [u8; BLOCK],
    position: u64,
    recorder: Option<Recorder<W>>,
}

impl<R: BufRead, W: Write + Send + 'static> Input<R, W> {
    pub(super) fn new(stream: R, recorder: Option<Recorder<W>>) -> Self {
        Self { stream, lent: 0, block: [0; BLOCK], position: 0, recorder }
    }

    /// How many bytes were taken so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn recorder(&mut self) -> Option<&mut Recorder<W>> {
        self.recorder.as_mut()
    }

    pub(super) fn into_parts(mut self) -> (R, Option<Recorder<W>>) {
        self.stream.consume(self.lent);
        (self.stream, self.recorder)
    }

    /// The next block, or none where the stream ends before it.
    ///
    /// # Errors
    /// `TRUNCATED` where it ends within it, and I/O.
    pub(super) fn block(&mut self) -> Result<Option<&[u8; BLOCK]>> {
        if self.fill()?.len() >= BLOCK {
            return Ok(self.lend(BLOCK, Piece::Raw)?.try_into().ok());
        }
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let bytes = self.data((BLOCK - have) as u64, Piece::Raw)?;
            if bytes.is_empty() {
                return if have == 0 { Ok(None) } else { Err(truncated(b"")) };
            }
            for (to, from) in block.iter_mut().skip(have).zip(bytes) {
                *to = *from;
            }
            have += bytes.len();
        }
        self.block = block;
        Ok(Some(&self.block))
    }

    /// Up to `most` bytes that lie in the buffer; none exactly at the end of the stream.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn data(&mut self, most: u64, piece: Piece) -> Result<&[u8]> {
        let have = self.fill()?.len();
        self.lend(usize::try_from(most).map_or(have, |most| most.min(have)), piece)
    }

    /// What [`Input::data`] gave, once more.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn last(&mut self) -> Result<&[u8]> {
        // It is still in the buffer: nothing is read.
        let bytes = self.stream.fill_buf().map_err(failed)?;
        Ok(bytes.get(..self.lent).unwrap_or_default())
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

    /// Lends out bytes that [`Input::fill`] has found to be there.
    fn lend(&mut self, count: usize, piece: Piece) -> Result<&[u8]> {
        let bytes = self.stream.fill_buf().map_err(failed)?.get(..count).unwrap_or_default();
        self.lent = bytes.len();
        self.position += bytes.len() as u64;
        if let Some(recorder) = &mut self.recorder {
            match piece {
                Piece::Raw => recorder.raw(bytes)?,
                Piece::Payload => recorder.payload(bytes),
            }
        }
        Ok(bytes)
    }

    /// What lies in the stream's buffer behind the bytes that were lent out; nothing exactly at the end.
    fn fill(&mut self) -> Result<&[u8]> {
        self.stream.consume(std::mem::take(&mut self.lent));
        loop {
            match self.stream.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.stream.fill_buf().map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::stream("reading the archive", error)
}

/// The archive ends within the named entry.
pub(super) fn truncated(name: &[u8]) -> Error {
    let name = if name.is_empty() { b"archive" } else { name };
    Error::refused(Code::Truncated, name, "the archive ends in the middle of an entry")
}
