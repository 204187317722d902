//! Reading compressed streams to their very end.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::Compression;
use super::zstd_frames::ZstdFrames;
use crate::error::{Code, Error, Result};
use crate::limits::Limits;

/// Decompresses a stream of any supported kind.
///
/// Refusals travel as [`io::Error`]s with an [`Error`] inside, which [`Error::stream`] takes out again.
pub struct Decompressor<R: BufRead>(Decoder<R>);

enum Decoder<R: BufRead> {
    None(R),
    Gzip(GzipMembers<R>),
    Zstd(Box<ZstdFrames<R>>),
}

impl<R: BufRead> Decompressor<R> {
    /// Reads `stream` as this kind.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` for a window that zstd cannot be limited to.
    pub fn new(stream: R, compression: Compression, limits: &Limits) -> Result<Self> {
        Ok(Self(match compression {
            Compression::None => Decoder::None(stream),
            Compression::Gzip => Decoder::Gzip(GzipMembers::new(stream)),
            Compression::Zstd => Decoder::Zstd(Box::new(ZstdFrames::new(stream, limits.zstd_window_log)?)),
        }))
    }

    /// Reads `stream` as what its first bytes say. They should lie in one buffer.
    ///
    /// # Errors
    /// `BAD_COMPRESSION` for formats that are not supported, and I/O.
    pub fn detect(mut stream: R, limits: &Limits) -> Result<Self> {
        let start = stream.fill_buf().map_err(|error| Error::stream("reading the layer", error))?;
        let compression = Compression::detect(start)?;
        Self::new(stream, compression, limits)
    }

    /// What kind of stream it is.
    pub fn compression(&self) -> Compression {
        match self.0 {
            Decoder::None(_) => Compression::None,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Zstd(_) => Compression::Zstd,
        }
    }

    /// The compressed stream; none after an error in it.
    pub fn into_inner(self) -> Option<R> {
        match self.0 {
            Decoder::None(stream) => Some(stream),
            Decoder::Gzip(gzip) => gzip.into_inner(),
            Decoder::Zstd(zstd) => Some(zstd.into_inner()),
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoder::None(stream) => stream.read(buffer),
            Decoder::Gzip(gzip) => gzip.read(buffer),
            Decoder::Zstd(zstd) => zstd.read(buffer),
        }
    }
}

impl<R: BufRead> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decompressor").field(&self.compression()).finish()
    }
}

/// gzip: members one after the other, then nothing or zeros, as tapes are padded.
enum GzipMembers<R: BufRead> {
    /// Within a member.
    Member(Box<GzDecoder<R>>),
    /// At the end.
    End(R),
    /// After an error.
    Failed,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(stream: R) -> Self {
        Self::Member(Box::new(GzDecoder::new(stream)))
    }

    fn into_inner(self) -> Option<R> {
        match self {
            Self::Member(member) => Some((*member).into_inner()),
            Self::End(stream) => Some(stream),
            Self::Failed => None,
        }
    }

    /// Looks at what follows a member.
    fn follow(mut stream: R) -> io::Result<Self> {
        let mut padded = false;
        loop {
            let bytes = match stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let zeros = bytes.iter().take_while(|&&b| b == 0).count();
            match bytes.get(zeros) {
                Some(0x1f) if !padded && zeros == 0 => return Ok(Self::new(stream)),
                Some(_) => return Err(trailing("gzip")),
                None if zeros == 0 => return Ok(Self::End(stream)),
                None => {}
            }
            padded = true;
            stream.consume(zeros);
        }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self {
                Self::Member(member) => match member.read(buffer) {
                    Ok(0) => {}
                    Err(error) if is_of_gzip(&error) => {
                        *self = Self::Failed;
                        return Err(damaged("gzip", &error));
                    }
                    other => return other,
                },
                Self::End(_) => return Ok(0),
                Self::Failed => return Err(io::Error::other("read after an error")),
            }
            if let Self::Member(member) = std::mem::replace(self, Self::Failed) {
                *self = Self::follow((*member).into_inner())?;
            }
        }
    }
}

/// Whether the decoder made this error, and not the stream below it.
fn is_of_gzip(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
        && !error.get_ref().is_some_and(|inner| inner.is::<Error>())
}

/// The refusal of a stream that its decoder could not go on with.
pub(super) fn damaged(kind: &str, error: &io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::refused(Code::Truncated, "layer", format!("the {kind} stream ends in the middle")).into_io()
    } else {
        Error::refused(Code::BadCompression, "layer", format!("the {kind} stream is damaged: {error}"))
            .into_io()
    }
}

/// The refusal of what follows a compressed stream.
pub(super) fn trailing(kind: &str) -> io::Error {
    Error::refused(Code::TrailingData, "layer", format!("bytes that are not {kind} follow the {kind} stream"))
        .into_io()
}
