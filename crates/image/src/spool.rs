//! Archives that cannot be read at any offset as they come, because they are compressed or no regular file: copied
//! into a file without a name.
//!
//! Invariant: of a compressed archive no more is unpacked than its reader asks for, so that what a small file unpacks
//! to behind the archive's end costs neither disk nor time.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::{Code, Context};
use layerstore_sys as sys;
use layerstore_sys::{Dir, FileType, Temporary};

use crate::compress;
use crate::document::READ;
use crate::error::{Error, Result};
use crate::media::Compression;
use crate::source::OpenOptions;
use crate::transfer::transfer;

/// The unit of a tar.
pub(crate) const BLOCK: u64 = 512;
/// Zeros at the start after which a stream is no archive any more.
const MAX_ZEROS: u64 = 1 << 20;
/// What is unpacked at once, at least.
const STEP: u64 = 1 << 20;

/// An archive whose bytes can be read at any offset, as far as it was [reached](Self::reach).
pub(crate) struct Spool<'a> {
    file: sys::File,
    /// How many bytes are there.
    length: u64,
    /// What is still to come; none for a file that is read as it lies.
    rest: Option<Box<dyn Read>>,
    context: &'a Context,
    /// What messages call it.
    pub(crate) subject: &'a str,
}

impl<'a> Spool<'a> {
    /// Opens the archive at `path`, uncompressed.
    pub(crate) fn open_uncompressed(path: &Path, options: &'a OpenOptions, subject: &'a str) -> Result<Self> {
        let refuse = |error| Error::changeset(READ, subject, error);
        let system = |error| Error::system(READ, subject, error);
        let context = &options.context;
        let file = open_file(path, options, subject)?;
        let mut start = [0; BLOCK as usize];
        let count = file.read_full_at(&mut start, 0).map_err(system)?;
        let start = start.get(..count).unwrap_or_default();
        if Compression::detect(start).map_err(refuse)? == Compression::None {
            let length = file.stat().map_err(system)?.size;
            return Ok(Self { file, length, rest: None, context, subject });
        }
        let mut stream = compress::decoder(compress::whole(Arc::new(file))).map_err(refuse)?;
        let start = start_of(&mut stream, subject)?;
        let rest = Box::new(Cursor::new(start).chain(stream));
        let file = temporary(options, subject)?;
        Ok(Self { file, length: 0, rest: Some(rest), context, subject })
    }

    /// Unpacks until `until` bytes are there, or all; returns how many are.
    pub(crate) fn reach(&mut self, until: u64) -> Result<u64> {
        if let Some(rest) = &mut self.rest
            && self.length < until
        {
            let wanted = (until - self.length).max(STEP);
            let mut piece = rest.by_ref().take(wanted);
            transfer(&mut piece, &mut self.file, self.subject, self.context)?;
            let copied = wanted - piece.limit();
            self.length += copied;
            if copied < wanted {
                self.rest = None;
            }
        }
        Ok(self.length)
    }

    /// Fills a buffer from `offset` on, as far as there are bytes; returns how many there were.
    pub(crate) fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_full_at(buffer, offset).map_err(|error| Error::system(READ, self.subject, error))
    }

    /// The file, with what was unpacked.
    pub(crate) fn into_file(self) -> sys::File {
        self.file
    }
}

/// Opens a file so that it can be read at any offset: what is no regular file is copied to one without a name.
pub(crate) fn open_file(path: &Path, options: &OpenOptions, subject: &str) -> Result<sys::File> {
    let system = |error| Error::system(READ, subject, error);
    let is_regular = sys::fs::stat(path).map_err(system)?.is_none_or(|stat| stat.kind == FileType::Regular);
    if is_regular {
        return sys::fs::open_regular(path).map_err(system);
    }
    let mut stream = sys::fs::open_file(path).map_err(system)?;
    let start = start_of(&mut stream, subject)?;
    let mut copy = temporary(options, subject)?;
    transfer(&mut Cursor::new(start).chain(stream), &mut copy, subject, &options.context)?;
    Ok(copy)
}

/// A file without a name.
fn temporary(options: &OpenOptions, subject: &str) -> Result<sys::File> {
    let made = Dir::open(&options.temporary).and_then(|dir| Temporary::new(&dir, 0o600));
    Ok(made.map_err(|error| Error::system(READ, subject, error))?.into_file())
}

/// The start of a stream, of which nothing is copied that begins like no archive: an endless one would fill the disk.
fn start_of(stream: &mut impl Read, subject: &str) -> Result<Vec<u8>> {
    let no_archive = || Error::refused(Code::BadHeader, READ, subject, "it is no tar archive");
    let mut start = Vec::new();
    let mut read = |count, start: &mut Vec<u8>| {
        let read = stream.by_ref().take(count).read_to_end(start);
        read.map_err(|error| Error::from_io(READ, subject, error))
    };
    read(BLOCK, &mut start)?;
    let kind = Compression::detect(&start).map_err(|error| Error::changeset(READ, subject, error))?;
    match start.first_chunk() {
        _ if kind != Compression::None => {}
        Some(block) if layerstore_changeset::tar::is_header(block) => {}
        // An archive of nothing is zeros to its end.
        Some(block) if block.iter().all(|&byte| byte == 0) => {
            if read(MAX_ZEROS, &mut start)? as u64 == MAX_ZEROS {
                return Err(no_archive());
            }
        }
        Some(_) => return Err(no_archive()),
        None => {
            let reason = "the archive ends early or is no tar";
            return Err(Error::refused(Code::Truncated, READ, subject, reason));
        }
    }
    Ok(start)
}
