//! Compression of layers: gzip, zstd or none, told apart by their first bytes.
//!
//! Invariants: a compressed stream is read to its very end, with every checksum that it has, and what follows
//! it is an error ([`Code::TrailingData`]); memory does not depend on what the stream claims (the zstd window is
//! capped by [`Limits::zstd_window_log`]); nothing outside this process is ever called. What is written depends
//! on nothing but the input and the level.

mod decode;
mod threaded;
mod zstd_frames;

use std::fmt;
use std::io::{self, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

pub use decode::Decompressor;
pub use threaded::Threaded;

use crate::error::{Code, Error, Result};

#[cfg(doc)]
use crate::limits::Limits;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), one or more members.
    Gzip,
    /// zstd (RFC 8878), one or more frames.
    Zstd,
}

impl Compression {
    /// Tells the compression by the first bytes of a stream, of which 512 are best.
    ///
    /// # Errors
    /// `BAD_COMPRESSION` for formats that are known but not supported; the message says which one it is.
    pub fn detect(start: &[u8]) -> Result<Self> {
        /// Formats by their first bytes; those that layers never use, too, so that the message helps.
        const FOREIGN: [(&[u8], &str); 7] = [
            (b"BZh", "bzip2"),
            (b"\xfd7zXZ\0", "xz"),
            (b"\x04\x22\x4d\x18", "lz4"),
            (b"\x1f\x9d", "compress (.Z)"),
            (b"LZIP", "lzip"),
            (b"\x5d\0\0", "lzma"),
            (b"PK\x03\x04", "zip"),
        ];
        match start {
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Self::Zstd),
            // A skippable frame, which some writers begin with.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => return Ok(Self::Zstd),
            _ => {}
        }
        // An archive's first entry may well be called `BZh` or `PK`.
        let header = start.first_chunk().is_some_and(crate::tar::is_header);
        match FOREIGN.iter().find(|(magic, _)| !header && start.starts_with(magic)) {
            None => Ok(Self::None),
            Some((_, name)) => Err(Error::refused(
                Code::BadCompression,
                "layer",
                format!("{name} is not supported: compress layers with gzip or zstd, or not at all"),
            )),
        }
    }
}

/// Compresses what is written to it. [`Compressor::finish`] has to be called in the end.
pub struct Compressor<W: Write>(Encoder<W>);

enum Encoder<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Compresses into `out`. The level is the format's own (gzip 0 to 9, zstd 1 to 22); none is the format's
    /// usual one.
    ///
    /// # Errors
    /// The zstd library's, when it gets no memory.
    pub fn new(out: W, compression: Compression, level: Option<i32>) -> Result<Self> {
        Ok(Self(match compression {
            Compression::None => Encoder::None(out),
            Compression::Gzip => {
                let level = level.map_or(6, |level| u32::try_from(level.clamp(0, 9)).unwrap_or(6));
                // No time, no name, and the operating system unknown: the same input gives the same bytes.
                let gzip = GzBuilder::new().mtime(0).operating_system(255);
                Encoder::Gzip(gzip.write(out, flate2::Compression::new(level)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, level.unwrap_or(3)).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Encoder::Zstd(encoder)
            }
        }))
    }

    /// Writes the end of the stream and gives the writer back.
    ///
    /// # Errors
    /// I/O.
    pub fn finish(self) -> Result<W> {
        let done = match self.0 {
            Encoder::None(mut out) => out.flush().map(|()| out),
            Encoder::Gzip(out) => out.finish(),
            Encoder::Zstd(out) => out.finish(),
        };
        done.map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::stream("compressing", error)
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Encoder::None(out) => out.write(bytes),
            Encoder::Gzip(out) => out.write(bytes),
            Encoder::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Encoder::None(out) => out.flush(),
            Encoder::Gzip(out) => out.flush(),
            Encoder::Zstd(out) => out.flush(),
        }
    }
}

impl<W: Write> fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Encoder::None(_) => Compression::None,
            Encoder::Gzip(_) => Compression::Gzip,
            Encoder::Zstd(_) => Compression::Zstd,
        };
        f.debug_tuple("Compressor").field(&kind).finish()
    }
}
