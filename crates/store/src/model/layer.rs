//! Layers as the store knows them.

use std::collections::BTreeMap;

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use serde_json::json;

/// A layer of the store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Layer {
    /// Its id in the driver.
    pub id: LayerId,
    /// Its parent; none for a base layer.
    pub parent: Option<LayerId>,
    /// Chain ID (OCI image specification, config.md); none for a container's and a driver author's layers.
    pub chain_id: Option<Digest>,
    /// Digest of its tar.
    pub diff_id: Option<Digest>,
    /// Where it is in its life.
    pub state: LayerState,
    /// What it is for.
    pub kind: LayerKind,
    /// Words that runtimes attach.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in nanoseconds since 1970.
    #[serde(serialize_with = "super::time")]
    pub created: i64,
    /// When it was changed last, in nanoseconds since 1970.
    #[serde(serialize_with = "super::time")]
    pub updated: i64,
    /// Bytes of file data in it; none while it can be written.
    pub size: Option<u64>,
    /// Bytes that it takes on disk; none while it can be written.
    pub disk_bytes: Option<u64>,
    /// Inodes that it takes; none while it can be written.
    pub inodes: Option<u64>,
    /// Bytes of its tar.
    pub tar_size: Option<u64>,
    /// Digest of the blob that it came in.
    pub blob_digest: Option<Digest>,
    /// Size of that blob, in bytes.
    pub blob_size: Option<u64>,
    /// Media type of that blob.
    pub media_type: Option<String>,
}

/// Where a layer is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerState {
    /// Being written; nobody else sees it.
    Staging,
    /// Complete.
    Ready,
    /// On its way out.
    Deleting,
    /// A check found that what lies on disk is not what was recorded.
    Damaged,
}

/// What a layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// Writable: a container's, or a driver author's before it is sealed.
    Active,
    /// Read-only, for looking at a chain.
    View,
    /// Sealed.
    Committed,
}

/// A node of `tree`: an image's layers with what shares and uses them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TreeNode {
    /// The layer's id in the driver.
    pub layer: LayerId,
    /// Its chain ID, where it has one.
    pub chain_id: Option<Digest>,
    /// Bytes of file data in it; of a container's layer what it takes on disk.
    pub size: u64,
    /// Images whose topmost layer this is: id and names.
    #[serde(serialize_with = "images")]
    pub images: Vec<(Digest, Vec<String>)>,
    /// Containers whose writable layer this is: id and name.
    #[serde(serialize_with = "containers")]
    pub containers: Vec<(String, Option<String>)>,
    /// How many images the layer is part of.
    pub shared_by: u64,
    /// Layers built on this one.
    pub children: Vec<TreeNode>,
}

fn images<S: serde::Serializer>(images: &[(Digest, Vec<String>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(images.iter().map(|(id, names)| json!({ "id": id, "names": names })))
}

fn containers<S: serde::Serializer>(
    containers: &[(String, Option<String>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(containers.iter().map(|(id, name)| json!({ "id": id, "name": name })))
}
