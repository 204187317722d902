//! A blob on its way, checked against what was promised.
//!
//! Invariant: the end of the stream is reported only after size and digest were found right, so that whoever
//! reads to the end has read what was promised.

use std::io::{self, Read};

use layerstore_changeset::digest::Hashing;
use layerstore_changeset::{self as changeset, Code, Digest};

use crate::source::Verify;

impl Verify {
    /// The digest to compare, of the one that was promised.
    pub(crate) fn digest(self, promised: Option<Digest>) -> Option<Digest> {
        promised.filter(|_| self == Self::All)
    }
}

/// A blob that is checked while it is read.
pub(crate) struct Verified<R> {
    /// None once the stream has ended, well or badly.
    inner: Option<R>,
    subject: String,
    size: u64,
    seen: u64,
    /// What was promised, and the digest so far.
    digest: Option<(Digest, Hashing<()>)>,
    failed: bool,
}

impl<R: Read> Verified<R> {
    /// Wraps `inner`, which is to yield `size` bytes, with this digest where one is to be compared.
    pub(crate) fn new(inner: R, size: u64, digest: Option<Digest>, subject: impl Into<String>) -> Self {
        let digest = digest.map(|promised| (promised, Hashing::new(())));
        Self { inner: Some(inner), subject: subject.into(), size, seen: 0, digest, failed: false }
    }

    fn refuse(&mut self, code: Code, reason: impl Into<String>) -> io::Error {
        self.inner = None;
        self.failed = true;
        io::Error::other(changeset::Error::refused(code, &self.subject, reason))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(inner) = &mut self.inner else {
            if self.failed {
                return Err(self.refuse(Code::DigestMismatch, "was refused before"));
            }
            return Ok(0);
        };
        let count = inner.read(buffer)?;
        self.seen = self.seen.saturating_add(count as u64);
        let (seen, size) = (self.seen, self.size);
        if seen > size {
            return Err(self.refuse(Code::SizeMismatch, format!("has more than the {size} bytes promised")));
        }
        if count > 0 {
            if let Some((_, hashing)) = &mut self.digest {
                hashing.take_in(buffer.get(..count).unwrap_or_default());
            }
            return Ok(count);
        }
        if seen < size {
            return Err(self.refuse(Code::Truncated, format!("ends after {seen} of {size} bytes")));
        }
        self.inner = None;
        if let Some((promised, hashing)) = self.digest.take() {
            let ((), found, _) = hashing.finish();
            if found != promised {
                return Err(self.refuse(Code::DigestMismatch, format!("has the digest {found} instead")));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use layerstore_changeset::{Code, Digest};
    use rstest::rstest;

    use super::Verified;
    use crate::error::Error;

    #[rstest]
    #[case::right(b"content", 7, b"content", None)]
    #[case::other_bytes(b"content", 7, b"CONTENT", Some(Code::DigestMismatch))]
    #[case::too_short(b"conten", 7, b"content", Some(Code::Truncated))]
    #[case::too_long(b"content!", 7, b"content", Some(Code::SizeMismatch))]
    #[case::nothing(b"", 0, b"", None)]
    fn a_blob_ends_well_only_when_it_is_what_was_promised(
        #[case] bytes: &[u8],
        #[case] size: u64,
        #[case] promised: &[u8],
        #[case] refused: Option<Code>,
    ) {
        let mut blob = Verified::new(bytes, size, Some(Digest::of(promised)), "blob");
        let first = blob.read_to_end(&mut Vec::new());
        assert_eq!(first.is_ok(), refused.is_none());
        if let Err(error) = first {
            assert_eq!(Error::from_io("read image", "x", error).code(), refused);
            blob.read_to_end(&mut Vec::new()).expect_err("a refused blob stays refused");
        }
    }
}
