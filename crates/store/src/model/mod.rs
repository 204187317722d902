//! What the store tells: plain data, ready for `serde`. As JSON, everything has a key, and every time is RFC 3339 to the
//! nanosecond, as times in images' configurations are: a number of nanoseconds is more than JSON's readers keep.

mod container;
mod image;
mod layer;
mod report;
mod task;

pub use container::{Container, ContainerOptions, MountOptions};
pub use image::{CommitOptions, HistoryLine, Image, ImageSummary, Removal};
pub use layer::{Layer, LayerKind, LayerState, TreeNode};
pub use report::{Check, CheckOptions, Finding, Freed, Gc, Info, Rebuilt, Space, SpaceLine};
pub use task::{LayerProgress, LayerStage, PullOptions, Pulled, PushOptions, Watcher};

use std::path::PathBuf;

use layerstore_image::ImageName;
use layerstore_sys::fs::text;

/// Nanoseconds since 1970 as RFC 3339.
pub(crate) fn timestamp(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).map(|time| time.to_string()).unwrap_or_default()
}

/// A time as text.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn time<S: serde::Serializer>(nanoseconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*nanoseconds))
}

/// Pairs of label and text as an object.
fn pairs<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(label, text)| (label, text)))
}

/// A name as text.
fn name<S: serde::Serializer>(name: &ImageName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// Names as texts.
fn names<S: serde::Serializer>(names: &[ImageName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(ToString::to_string))
}

/// A path as text, also one that is no UTF-8.
fn path<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&path.as_deref().map(text), serializer)
}

/// Paths as texts.
fn paths<S: serde::Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| text(path)))
}
