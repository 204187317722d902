//! What the store tells: plain data, ready for `serde`.

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
