//! Images to write: the trait that every transport implements, and the writer that makes a layer's blob.
//!
//! Invariants: a blob lies under its final name only after its digest was computed from what was written; the
//! image becomes visible in [`ImageDestination::finish`], after everything it refers to, at once; what is
//! dropped before leaves nothing that anybody could mistake for an image.

use std::fmt::Debug;
use std::io::{self, Write};

use layerstore_changeset::compress::Compressor;
use layerstore_changeset::digest::Hashing;
use layerstore_changeset::{Code, Digest};

use crate::archive::{ArchiveWriter, Contents};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Descriptor, Manifest};
use crate::media::{Compression, Format};
use crate::name::ImageName;
use crate::oci::{LayoutWriter, tag_of};
use crate::reference::{ArchiveSelector, Reference};
use crate::source::no_registries;

pub(crate) const WRITE: &str = "write image";

/// How an image is written.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CreateOptions {
    /// How new layer blobs are compressed; none leaves it to the transport (gzip for OCI, nothing for docker
    /// archives).
    pub compression: Option<Compression>,
}

/// A place outside the store where one image is being written. Blobs come first, in any order.
pub trait ImageDestination: Debug + Send {
    /// The format that manifests have there.
    fn format(&self) -> Format;

    /// How new layer blobs are to be compressed there.
    fn compression(&self) -> Compression;

    /// Whether a layer blob with this compression may be put there as it is.
    fn accepts(&self, compression: Compression) -> bool;

    /// The size of a blob that is there already, so that it need not be written again.
    ///
    /// # Errors
    /// System calls.
    fn blob_size(&mut self, digest: &Digest) -> Result<Option<u64>>;

    /// Begins a blob. Dropping the writer before [`BlobWriter::finish`] removes what was written.
    ///
    /// # Errors
    /// System calls.
    fn create_blob(&mut self) -> Result<Box<dyn BlobWriter + '_>>;

    /// Writes configuration and manifest and makes the image visible under the reference's tag or name, or under
    /// `names` where it has none. The manifest's layers must be there, and its configuration must be `config`.
    /// Returns the manifest's digest.
    ///
    /// # Errors
    /// InvalidInput when blobs are missing or do not fit the configuration; system calls.
    fn finish(self: Box<Self>, manifest: &Manifest, config: &Config, names: &[ImageName]) -> Result<Digest>;
}

/// A blob being written.
pub trait BlobWriter: Write {
    /// Puts the blob under its digest, after comparing with what was promised, and returns digest and size. A
    /// blob that is there already is kept.
    ///
    /// # Errors
    /// `SIZE_MISMATCH` or `DIGEST_MISMATCH`; system calls. Nothing is left behind then.
    fn finish(self: Box<Self>, promised: Option<(Digest, u64)>) -> Result<(Digest, u64)>;
}

/// Prepares to write an image.
///
/// # Errors
/// Unsupported for transports that cannot be written; system calls.
pub fn create(reference: &Reference, options: &CreateOptions) -> Result<Box<dyn ImageDestination>> {
    let compression = options.compression.unwrap_or(Compression::Gzip);
    Ok(match reference {
        Reference::Oci { path, image } => {
            Box::new(LayoutWriter::create(path, image.as_ref(), compression, reference)?)
        }
        Reference::OciArchive { path, image } => {
            let tag = tag_of(image.as_ref(), &reference.to_string())?;
            Box::new(ArchiveWriter::create(path, Contents::Oci { tag, compression }, reference)?)
        }
        Reference::DockerArchive { path, image } => {
            let name = match image {
                None => None,
                Some(ArchiveSelector::Name(name)) => Some(name.clone()),
                Some(ArchiveSelector::Index(_)) => {
                    let reason = "an image is written under a name, not at a place";
                    return Err(Error::new(Kind::InvalidInput, WRITE, reference.to_string(), reason));
                }
            };
            Box::new(ArchiveWriter::create(path, Contents::Docker { name }, reference)?)
        }
        Reference::Rootfs { .. } => {
            let reason = "root file systems are read, not written";
            return Err(Error::new(Kind::Unsupported, WRITE, reference.to_string(), reason)
                .with_hint("create a container of the image and export it"));
        }
        Reference::Registry { .. } => return Err(no_registries(WRITE, reference)),
    })
}

/// Compares what was written with what was promised.
pub(crate) fn check_promise(
    promised: Option<(Digest, u64)>,
    (digest, size): (Digest, u64),
    subject: &str,
) -> Result<()> {
    let Some((wanted, length)) = promised else { return Ok(()) };
    let refuse = |code, reason| Err(Error::refused(code, WRITE, subject, reason));
    if size != length {
        return refuse(Code::SizeMismatch, format!("blob {wanted} has {size} bytes, not {length}"));
    }
    if digest != wanted {
        return refuse(Code::DigestMismatch, format!("blob {wanted} has the digest {digest}"));
    }
    Ok(())
}

/// Takes a layer's uncompressed tar and writes the blob of it: hashed, compressed, hashed again, in one pass.
pub struct LayerWriter<'a> {
    encoder: Hashing<Compressor<Box<dyn BlobWriter + 'a>>>,
    format: Format,
    compression: Compression,
    diff_id: Digest,
}

impl Debug for LayerWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWriter").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

impl<'a> LayerWriter<'a> {
    /// Begins the layer whose tar has this digest, compressed as the destination wants it.
    ///
    /// # Errors
    /// Those of [`ImageDestination::create_blob`].
    pub fn new(destination: &'a mut dyn ImageDestination, diff_id: Digest) -> Result<Self> {
        let (format, compression) = (destination.format(), destination.compression());
        let blob = destination.create_blob()?;
        let encoder = Compressor::new(blob, compression, None)
            .map_err(|error| Error::changeset(WRITE, diff_id.to_string(), error))?;
        Ok(Self { encoder: Hashing::new(encoder), format, compression, diff_id })
    }

    /// Ends the layer and returns its descriptor.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` when the tar was another one: the blob is gone then. System calls.
    pub fn finish(self) -> Result<Descriptor> {
        let subject = self.diff_id.to_string();
        let (encoder, found, _) = self.encoder.finish();
        if found != self.diff_id {
            let reason = format!("the layer that was read has the diff ID {found}");
            return Err(Error::refused(Code::DigestMismatch, WRITE, subject, reason));
        }
        let blob = encoder.finish().map_err(|error| Error::changeset(WRITE, subject, error))?;
        let (digest, size) = blob.finish(None)?;
        Ok(Descriptor::new(self.format.layer(self.compression), digest, size))
    }
}

impl Write for LayerWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
