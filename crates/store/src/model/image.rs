//! Images and their names.

use std::fmt;

use layerstore_changeset::Digest;
use layerstore_image::ImageName;

/// A line of `images`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImageSummary {
    /// Image ID: the digest of its configuration.
    pub id: Digest,
    /// Its names, sorted; an image without names is dangling.
    #[serde(serialize_with = "super::names")]
    pub names: Vec<ImageName>,
    /// When it was built, as its configuration says (RFC 3339).
    pub created: Option<String>,
    /// When it came into the store, in nanoseconds since 1970.
    #[serde(serialize_with = "super::time")]
    pub stored: i64,
    /// Bytes of file data in all its layers.
    pub size: u64,
    /// How many containers were made of it.
    pub containers: u64,
}

/// Everything about one image.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Image {
    /// Image ID: the digest of its configuration.
    pub id: Digest,
    /// Its names, sorted.
    #[serde(serialize_with = "super::names")]
    pub names: Vec<ImageName>,
    /// The image that it was committed from, if that was done here.
    pub parent: Option<Digest>,
    /// When it came into the store, in nanoseconds since 1970.
    #[serde(serialize_with = "super::time")]
    pub stored: i64,
    /// Bytes of file data in all its layers.
    pub size: u64,
    /// Its configuration (OCI image specification, config.md), as it came.
    pub config: serde_json::Value,
    /// The manifest it came with, if one did.
    pub manifest: Option<serde_json::Value>,
    /// Its layers, from the base upwards.
    pub layers: Vec<super::Layer>,
    /// The driver that holds them.
    pub driver: String,
    /// Where the topmost layer lies, as pairs of label and path.
    #[serde(serialize_with = "super::pairs")]
    pub driver_data: Vec<(String, String)>,
}

/// A line of `history`, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HistoryLine {
    /// When the step was done (RFC 3339).
    pub created: Option<String>,
    /// What did it.
    pub created_by: Option<String>,
    /// Who did it.
    pub author: Option<String>,
    /// What it says about itself.
    pub comment: Option<String>,
    /// The diff ID of the layer that the step made; none for a step without one.
    pub diff_id: Option<Digest>,
    /// Bytes of file data in that layer.
    pub size: u64,
    /// How many images the layer is part of; 0 for a step without one.
    pub shared_by: u64,
}

/// A line of `rmi`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// A name is gone.
    Untagged(#[serde(serialize_with = "super::name")] ImageName),
    /// An image (by its ID) or a layer (by its chain ID) is gone.
    Deleted(Digest),
}

/// As docker prints it: `Untagged: NAME`, `Deleted: DIGEST`.
impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// How a container becomes an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitOptions {
    /// Who did it.
    pub author: Option<String>,
    /// What for.
    pub message: Option<String>,
    /// Instructions of a Dockerfile that change the configuration (`ENV A=B`, `CMD ["sh"]` …).
    pub changes: Vec<String>,
    /// The new image's name.
    pub name: Option<String>,
}
