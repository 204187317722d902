//! Mount plans: data that says what to mount to get a view. Nothing here mounts; [`crate::mount`] does.
//!
//! A plan is recursive: a lower directory or the source of a bind may itself be a plan, with a subdirectory.

use std::path::PathBuf;

/// How a view is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanOptions {
    /// Writable or not.
    pub access: Access,
    /// Shows the ids on disk as others.
    pub id_mapping: Option<IdMapping>,
    /// Nothing written has to survive a crash: no sync at unmount (overlay: Linux 5.10).
    pub volatile: bool,
    /// An SELinux label for every file of the mount.
    pub label: Option<String>,
}

/// Whether a view can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// For a writable layer only.
    ReadWrite,
    /// Of any layer, sealed or not; nothing is created.
    #[default]
    ReadOnly,
}

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct IdMap {
    /// First id as stored on disk.
    pub on_disk: u32,
    /// First id as the mount shows it.
    pub shown: u32,
    /// How many.
    pub count: u32,
}

/// A mapping of stored ids to shown ids, as an id-mapped mount does it (Linux 5.12; overlay layers 5.19).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct IdMapping {
    /// Users.
    pub users: Vec<IdMap>,
    /// Groups.
    pub groups: Vec<IdMap>,
}

/// What to mount to get a view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum MountPlan {
    /// A directory, as it is.
    Bind(Bind),
    /// An overlay.
    Overlay(Overlay),
}

/// Where a directory comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Source {
    /// A directory of the host, any bytes in its path.
    Path(PathBuf),
    /// A directory inside another plan's view.
    Plan {
        /// The other plan.
        plan: Box<MountPlan>,
        /// Where in it, relative; empty for its root.
        subdirectory: PathBuf,
    },
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Bind {
    /// The directory.
    pub source: Source,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Shows the ids on disk as others.
    pub id_mapping: Option<IdMapping>,
}

/// An overlay mount.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Overlay {
    /// Lower directories, topmost first: at least one with an upper, at least two without.
    pub lowers: Vec<Source>,
    /// Where writes go; none for a read-only view.
    pub upper: Option<Upper>,
    /// What the overlay does, each set explicitly and never left to the host's default.
    pub features: OverlayFeatures,
    /// Applied to every layer directory, the upper one included, so that what lies on disk stays unmapped.
    pub id_mapping: Option<IdMapping>,
    /// An SELinux label for every file (`context=`).
    pub label: Option<String>,
}

/// The writable directories of an overlay: both below one directory, so that one clone of it serves both.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Upper {
    /// The directory that holds both.
    pub directory: PathBuf,
    /// Name of the upper directory in it.
    pub upper: String,
    /// Name of the work directory in it.
    pub work: String,
}

/// Features of an overlay mount (Linux, Documentation/filesystems/overlayfs.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct OverlayFeatures {
    /// `redirect_dir`: on, or nofollow/off.
    pub redirect_dir: bool,
    /// `metacopy`.
    pub metacopy: bool,
    /// `index`.
    pub index: bool,
    /// `xino=auto`, else off.
    pub xino: bool,
    /// `userxattr` (Linux 5.11).
    pub userxattr: bool,
    /// `volatile` (Linux 5.10).
    pub volatile: bool,
}
