//! Takes a record while an archive is read.

use std::fmt;
use std::io::Write;

use super::behind::Behind;
use super::checksum;
use super::line::Line;
use crate::error::Result;

/// Longest segment, in bytes: what follows the end of an archive, or the payload of a sparse file, may be
/// of any length and is cut here. Headers of one entry stay together as long as they are shorter.
const MAX_SEGMENT: usize = 1 << 20;

/// Writes the record of one archive to `W`, compressed.
///
/// Hand it to [`tar::Reader::recording`](crate::tar::Reader::recording).
pub struct Recorder<W> {
    out: Behind<W>,
    segment: Vec<u8>,
    position: u64,
    file: Option<OpenFile>,
    line: String,
}

struct OpenFile {
    name: Vec<u8>,
    size: u64,
    crc: crc_fast::Digest,
}

impl<W: Write + Send + 'static> Recorder<W> {
    /// A record that is written to `out`, compressed on a thread of its own.
    ///
    /// # Errors
    /// No more threads.
    pub fn new(out: W) -> Result<Self> {
        // Headers compress well at a low level already; at the lowest, zeros take ten times as much as at any other.
        Ok(Self {
            out: Behind::new(out, 2)?,
            segment: Vec::new(),
            position: 0,
            file: None,
            line: String::new(),
        })
    }

    /// Takes bytes that are not a plain file's payload.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        let mut bytes = bytes;
        while self.segment.len() + bytes.len() > MAX_SEGMENT {
            let (head, rest) = bytes.split_at(MAX_SEGMENT - self.segment.len());
            self.segment.extend_from_slice(head);
            self.cut()?;
            bytes = rest;
        }
        self.segment.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the segment: the header of an entry is complete.
    pub(crate) fn cut(&mut self) -> Result<()> {
        if !self.segment.is_empty() {
            Line::write_segment(&mut self.line, &self.segment, self.position);
            self.segment.clear();
            self.write_line()?;
        }
        Ok(())
    }

    /// The payload of a plain file begins.
    pub(crate) fn begin_file(&mut self, name: &[u8], size: u64) -> Result<()> {
        self.cut()?;
        self.file = Some(OpenFile { name: name.to_vec(), size, crc: checksum() });
        Ok(())
    }

    /// Takes a piece of it.
    pub(crate) fn payload(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            file.crc.update(bytes);
        }
    }

    /// It is complete.
    pub(crate) fn end_file(&mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            Line::write_file(&mut self.line, &file.name, file.size, file.crc.finalize(), self.position);
            self.write_line()?;
        }
        Ok(())
    }

    /// Writes what is left and gives the writer back.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.cut()?;
        self.out.finish()
    }

    fn write_line(&mut self) -> Result<()> {
        self.position += 1;
        self.out.write(self.line.as_bytes())
    }
}

impl<W> fmt::Debug for Recorder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("lines", &self.position).finish_non_exhaustive()
    }
}
