//! What the store tells: plain data, ready for `serde`.

mod container;
mod image;
mod layer;
mod report;
mod task;

pub use container::{Container, ContainerOptions, MountOptions};
pub use image::{CommitOptions, HistoryLine, Image, ImageName, ImageSummary, Removal};
pub use layer::{Layer, LayerKind, LayerState, TreeNode};
pub use report::{Check, CheckOptions, Finding, Freed, Gc, Info, Space, SpaceLine};
pub use task::{Compression, LayerProgress, LayerStage, PullOptions, Pulled, PushOptions, Watcher};
