//! Images to read: the trait that every transport implements, and what is read without any layer.
//!
//! Invariants: opening an image reads documents only; a layer that is not asked for is never read; what
//! [`ImageSource::open_layer`] yields is verified before its end is reported.

use std::fmt::Debug;
use std::io::Read;
use std::path::PathBuf;

use layerstore_changeset::{Context, Digest};

use crate::config::Config;
use crate::docker::DockerImage;
use crate::document::READ;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Annotations, Manifest};
use crate::media::{Compression, MediaType};
use crate::name::ImageName;
use crate::oci::{LayoutDirectory, OciArchive};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::rootfs::RootfsImage;

/// How an image is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The machine to choose a manifest for where there are several.
    pub platform: Platform,
    /// Where archives that cannot be read in place (compressed ones, pipes) are unpacked to a file without a
    /// name.
    pub temporary: PathBuf,
    /// Stops what takes long: unpacking such archives, and hashing a root file system.
    pub context: Context,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { platform: Platform::host(), temporary: std::env::temp_dir(), context: Context::new() }
    }
}

/// One layer of an image to read.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Digest of the uncompressed tar, as the configuration promises it.
    pub diff_id: Digest,
    /// Digest of the blob, where the transport promises one; without it the diff ID is the only promise.
    pub digest: Option<Digest>,
    /// Number of the blob's bytes.
    pub size: u64,
    /// What the blob is.
    pub media_type: MediaType,
    /// How the blob is compressed according to its media type, or its first bytes where there is none.
    pub compression: Compression,
    /// Annotations of the layer's descriptor.
    pub annotations: Annotations,
}

/// How much of what was promised of a blob is checked while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Its size and its digest.
    All,
    /// Its size: who reads it computes the digest of the very same bytes and compares it.
    Size,
}

/// An image outside the store, open for reading. Layers may be read from several threads at once.
pub trait ImageSource: Debug + Send + Sync {
    /// The configuration, exactly as it was read; its digest is the image ID.
    fn config(&self) -> &Config;

    /// The manifest, exactly as it was read; none where the transport has none.
    fn manifest(&self) -> Option<&Manifest>;

    /// The layers, base first; as many as the configuration has diff IDs.
    fn layers(&self) -> &[Layer];

    /// The names that the transport knows for this image.
    fn names(&self) -> &[ImageName];

    /// What is odd about the image but does no harm, for a person.
    fn warnings(&self) -> &[String];

    /// The blob of a layer, as it lies there (compressed or not). The end is reported only after what is to be verified
    /// was found right; otherwise the read fails with `SIZE_MISMATCH`, `TRUNCATED` or `DIGEST_MISMATCH`.
    ///
    /// # Errors
    /// NotFound when the blob is missing or there is no such layer, and system calls.
    fn open_layer(&self, index: usize, verify: Verify) -> Result<Box<dyn Read + Send>>;
}

/// Opens an image for reading.
///
/// # Errors
/// NotFound for a path, tag or platform that is not there; InvalidInput for refused documents; Unsupported for
/// transports and formats that this program does not handle.
pub fn open(reference: &Reference, options: &OpenOptions) -> Result<Box<dyn ImageSource>> {
    let subject = reference.to_string();
    Ok(match reference {
        Reference::Oci { path, image } => {
            Box::new(LayoutDirectory::open(path, image.as_ref(), options, subject)?)
        }
        Reference::OciArchive { path, image } => {
            Box::new(OciArchive::open(path, image.as_ref(), options, subject)?)
        }
        Reference::DockerArchive { path, image } => {
            Box::new(DockerImage::open(path, image.as_ref(), options, subject)?)
        }
        Reference::Rootfs { path } => Box::new(RootfsImage::open(path, options, subject)?),
        Reference::Registry { .. } => return Err(no_registries(READ, reference)),
    })
}

pub(crate) fn no_registries(operation: &'static str, reference: &Reference) -> Error {
    Error::new(Kind::Unsupported, operation, reference.to_string(), "registries are not supported yet")
        .with_hint(
            "copy the image to a file first: `skopeo copy docker://NAME oci-archive:FILE`, and use that",
        )
}
