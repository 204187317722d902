//! Mount plans: data that says what to mount to get a view. Nothing here mounts; [`crate::mount`] does.
//!
//! A plan is recursive: a lower directory or the source of a bind may itself be a plan, with a subdirectory.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::flags::MountFlags;

/// How a view is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct PlanOptions {
    /// Writable or not.
    pub access: Access,
    /// Shows the ids on disk as others.
    pub id_mapping: Option<IdMapping>,
    /// Nothing written has to survive a crash: no sync at unmount (overlay: Linux 5.10).
    pub volatile: bool,
    /// An SELinux label for every file of the mount.
    pub label: Option<String>,
    /// What the mount refuses or leaves out; every driver can, since it is the kernel that does.
    #[serde(default)]
    pub flags: MountFlags,
}

/// Whether a view can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    Path(#[serde(serialize_with = "as_text")] PathBuf),
    /// A directory inside another plan's view.
    Plan {
        /// The other plan.
        plan: Box<MountPlan>,
        /// Where in it, relative; empty for its root.
        #[serde(serialize_with = "as_text")]
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
    /// What else is refused or left out.
    pub flags: MountFlags,
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
    /// Applied to every layer directory, the upper one included, so that what lies on disk stays unmapped. A lower
    /// one that is an overlay maps by itself.
    pub id_mapping: Option<IdMapping>,
    /// An SELinux label for every file (`context=`).
    pub label: Option<String>,
    /// What the mount refuses or leaves out.
    pub flags: MountFlags,
}

/// The writable directories of an overlay: both below one directory, so that one clone of it serves both.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Upper {
    /// The directory that holds both.
    #[serde(serialize_with = "as_text")]
    pub directory: PathBuf,
    /// Name of the upper directory in it.
    pub upper: String,
    /// Name of the work directory in it.
    pub work: String,
}

/// Features of an overlay mount (Linux, Documentation/filesystems/overlayfs.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct OverlayFeatures {
    /// `redirect_dir`: on, else nofollow.
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

/// Any path can be shown, also one that is no UTF-8.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&layerstore_sys::fs::text(path))
}

/// Most lower directories of one overlay (the kernel's `OVL_MAX_STACK`).
pub const MAX_LOWERS: usize = 500;
/// Most plans inside of plans; the kernel stacks overlays two deep at most.
const MAX_DEPTH: usize = 8;

impl MountPlan {
    /// Refuses a plan that no kernel could perform, before any call is made.
    ///
    /// # Errors
    /// `InvalidInput`, `LimitExceeded`.
    pub fn check(&self) -> Result<()> {
        self.check_at(0)
    }

    fn check_at(&self, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(refused(
                Kind::LimitExceeded,
                format!("more than {MAX_DEPTH} mounts inside of mounts"),
            ));
        }
        match self {
            Self::Bind(bind) => {
                check_mapping(bind.id_mapping.as_ref())?;
                bind.source.check(depth)
            }
            Self::Overlay(overlay) => overlay.check(depth),
        }
    }
}

impl Overlay {
    fn check(&self, depth: usize) -> Result<()> {
        let least = if self.upper.is_some() { 1 } else { 2 };
        let count = self.lowers.len();
        if count < least {
            let message =
                format!("an overlay of {count} lower directories, and it needs {least}: bind instead");
            return Err(refused(Kind::InvalidInput, message));
        }
        if count > MAX_LOWERS {
            let message = format!("{count} lower directories, and the kernel takes {MAX_LOWERS}");
            return Err(refused(Kind::LimitExceeded, message));
        }
        check_mapping(self.id_mapping.as_ref())?;
        if let (Some(mapping), Some(_)) = (&self.id_mapping, &self.upper)
            && [&mapping.users, &mapping.groups].iter().any(|maps| maps.iter().all(|map| map.on_disk != 0))
        {
            let message = "an id mapping that leaves out id 0 on disk, as which an overlay writes";
            return Err(refused(Kind::InvalidInput, message));
        }
        for name in self.upper.iter().flat_map(|upper| [&upper.upper, &upper.work]) {
            let mut components = Path::new(name).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(refused(Kind::InvalidInput, format!("{name:?} is not the name of a directory")));
            }
        }
        self.lowers.iter().try_for_each(|lower| lower.check(depth))
    }
}

impl Source {
    fn check(&self, depth: usize) -> Result<()> {
        match self {
            Self::Path(_) => Ok(()),
            Self::Plan { plan, .. } => plan.check_at(depth + 1),
        }
    }
}

fn check_mapping(mapping: Option<&IdMapping>) -> Result<()> {
    match mapping {
        Some(mapping) if mapping.users.is_empty() || mapping.groups.is_empty() => {
            Err(refused(Kind::InvalidInput, "an id mapping without users or groups"))
        }
        _ => Ok(()),
    }
}

fn refused(kind: Kind, message: impl Into<String>) -> Error {
    Error::new(kind, "check mount plan", message)
}
