//! Media types of manifests, configurations and layers, in the OCI and the docker schema 2 spelling.
//!
//! | what | OCI | docker schema 2 |
//! |---|---|---|
//! | index | `…oci.image.index.v1+json` | `…docker.distribution.manifest.list.v2+json` |
//! | manifest | `…oci.image.manifest.v1+json` | `…docker.distribution.manifest.v2+json` |
//! | configuration | `…oci.image.config.v1+json` | `…docker.container.image.v1+json` |
//! | layer | `…oci.image.layer.v1.tar[+gzip\|+zstd]` | `…docker.image.rootfs.diff.tar[.gzip\|.zstd]` |
//!
//! Sources: OCI image specification, media-types.md; distribution, "Image Manifest Version 2, Schema 2".

pub use layerstore_changeset::compress::Compression;
pub use oci_spec::image::MediaType;

use crate::error::{Error, Kind, Result};

pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// In which spelling a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// OCI image manifest.
    Oci,
    /// Docker image manifest, version 2, schema 2.
    Docker,
}

impl Format {
    /// The media type of a manifest.
    pub fn manifest(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageManifest,
            Self::Docker => MediaType::Other(DOCKER_MANIFEST.to_owned()),
        }
    }

    /// The media type of an image's configuration.
    pub fn config(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageConfig,
            Self::Docker => MediaType::Other(DOCKER_CONFIG.to_owned()),
        }
    }

    /// The media type of a layer.
    pub fn layer(self, compression: Compression) -> MediaType {
        match (self, compression) {
            (Self::Oci, Compression::None) => MediaType::ImageLayer,
            (Self::Oci, Compression::Gzip) => MediaType::ImageLayerGzip,
            (Self::Oci, Compression::Zstd) => MediaType::ImageLayerZstd,
            (Self::Docker, Compression::None) => MediaType::Other(DOCKER_LAYER.to_owned()),
            (Self::Docker, Compression::Gzip) => MediaType::Other(format!("{DOCKER_LAYER}.gzip")),
            (Self::Docker, Compression::Zstd) => MediaType::Other(format!("{DOCKER_LAYER}.zstd")),
        }
    }
}

/// What a JSON document claims or is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DocumentType {
    Index(Format),
    Manifest(Format),
}

/// Which kind of document a media type names.
///
/// # Errors
/// `Unsupported` for schema 1, and for everything that is no image.
pub(crate) fn document_type(media_type: &MediaType, subject: &str) -> Result<DocumentType> {
    match media_type.as_ref() {
        text if SCHEMA1.contains(&text) => Err(schema1(subject)),
        DOCKER_INDEX => Ok(DocumentType::Index(Format::Docker)),
        DOCKER_MANIFEST => Ok(DocumentType::Manifest(Format::Docker)),
        _ => match media_type {
            MediaType::ImageIndex => Ok(DocumentType::Index(Format::Oci)),
            MediaType::ImageManifest => Ok(DocumentType::Manifest(Format::Oci)),
            other => Err(unsupported(subject, format!("documents of type {} are not images", shown(other)))),
        },
    }
}

/// The compression that a layer's media type promises.
///
/// # Errors
/// `Unsupported` for layers that are not distributed with the image, encrypted ones, and unknown types.
pub(crate) fn layer_compression(media_type: &MediaType, subject: &str) -> Result<Compression> {
    let (text, seen) = (media_type.as_ref(), shown(media_type));
    if text.starts_with(OCI_FOREIGN) || text.starts_with(DOCKER_FOREIGN) {
        let reason = format!("layers of type {seen} are not distributed with the image");
        return Err(unsupported(subject, reason)
            .with_hint("foreign layers belong to Windows images; choose a Linux image"));
    }
    if text.ends_with("+encrypted") {
        return Err(unsupported(subject, format!("layers of type {seen} are encrypted"))
            .with_hint("decrypt the image first, for example with `skopeo copy --decryption-key`"));
    }
    match media_type {
        MediaType::ImageLayer => Ok(Compression::None),
        MediaType::ImageLayerGzip => Ok(Compression::Gzip),
        MediaType::ImageLayerZstd => Ok(Compression::Zstd),
        other => match other.as_ref().strip_prefix(DOCKER_LAYER) {
            Some("") => Ok(Compression::None),
            Some(".gzip") => Ok(Compression::Gzip),
            Some(".zstd") => Ok(Compression::Zstd),
            _ => Err(unsupported(subject, format!("layers of type {seen} are not root file systems"))),
        },
    }
}

/// Refuses a configuration that does not describe an image.
///
/// # Errors
/// `Unsupported`.
pub(crate) fn check_config(media_type: &MediaType, subject: &str) -> Result<()> {
    if *media_type == MediaType::ImageConfig || media_type.as_ref() == DOCKER_CONFIG {
        return Ok(());
    }
    let seen = shown(media_type);
    let reason = format!("it is not a container image but an artifact (its configuration is {seen})");
    Err(unsupported(subject, reason))
}

pub(crate) fn schema1(subject: &str) -> Error {
    unsupported(subject, "docker manifests of schema 1 are not supported".to_owned())
        .with_hint("push the image again with a docker newer than 1.10, or convert it with `skopeo copy`")
}

/// A media type as messages show it: on one line, and of one that is too long the beginning.
fn shown(media_type: &MediaType) -> String {
    const MOST: usize = 200;
    let text = media_type.as_ref();
    let start: String = text.chars().take(MOST).collect();
    let rest = if start.len() < text.len() { format!("… ({} bytes)", text.len()) } else { String::new() };
    format!("`{}`{rest}", start.escape_debug())
}

fn unsupported(subject: &str, reason: String) -> Error {
    Error::new(Kind::Unsupported, "read image", subject, reason)
}
