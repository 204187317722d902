//! Content-addressed blobs to read, wherever they lie: the part that a layout, its archive and (later) a registry
//! have in common.
//!
//! Invariant: a document is read whole only after its size was found below the cap, and believed only after its
//! digest was found right.

use std::fmt::Debug;
use std::io::{self, Read};
use std::sync::Arc;

use layerstore_changeset::{Code, Digest};
use layerstore_sys as sys;

use crate::document::{self, READ};
use crate::error::{Error, Kind, Result};
use crate::manifest::Descriptor;
use crate::source::Verify;
use crate::verify::Verified;

/// A blob's bytes, and how many there are where that is known before they are read.
pub(crate) type Opened = (Box<dyn Read + Send>, Option<u64>);

/// Where blobs lie.
pub(crate) trait Blobs: Debug + Send + Sync {
    /// A blob as it lies there, unverified, with its size where that is known; none where it is missing.
    fn open(&self, digest: &Digest) -> Result<Option<Opened>>;
}

/// Opens a blob that is verified on the way, as far as `verify` says.
pub(crate) fn open(
    blobs: &dyn Blobs,
    digest: &Digest,
    size: u64,
    verify: Verify,
    subject: &str,
) -> Result<Box<dyn Read + Send>> {
    let Some((stream, found)) = blobs.open(digest)? else {
        return Err(Error::new(Kind::NotFound, READ, subject, format!("blob {digest} is missing"))
            .with_hint("the image is incomplete: copy it again"));
    };
    // Known before anything is read: say so at once.
    if let Some(found) = found.filter(|found| *found != size) {
        let reason = format!("blob {digest} has {found} bytes, {size} were promised");
        return Err(Error::refused(Code::SizeMismatch, READ, subject, reason));
    }
    Ok(Box::new(Verified::new(stream, size, verify.digest(Some(*digest)), format!("blob {digest}"))))
}

/// Reads a document whole.
pub(crate) fn document(blobs: &dyn Blobs, descriptor: &Descriptor, subject: &str) -> Result<Vec<u8>> {
    document::check_size(descriptor.size, subject)?;
    let mut bytes = Vec::new();
    open(blobs, &descriptor.digest, descriptor.size, Verify::All, subject)?
        .read_to_end(&mut bytes)
        .map_err(|error| Error::from_io(READ, subject, error))?;
    Ok(bytes)
}

/// A stretch of an open file, read by offset, so that many may read one file at once.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    file: Arc<sys::File>,
    at: u64,
    end: u64,
}

impl Section {
    /// The bytes from `at` to `end`.
    pub(crate) fn new(file: Arc<sys::File>, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.remaining()).unwrap_or(usize::MAX).min(buffer.len());
        let count = match buffer.get_mut(..want) {
            Some(part) if want > 0 => self.file.read_at(part, self.at)?,
            _ => 0,
        };
        self.at += count as u64;
        Ok(count)
    }
}
