//! Placeholder: the one place that mounts.
use crate::driver::Driver;
use crate::error::Result;
use crate::id::LayerId;
use crate::plan::{MountPlan, PlanOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A mount that is visible nowhere; gone when dropped (or when the process dies).
#[derive(Debug)]
pub struct DetachedMount {}

impl DetachedMount {
    /// The mount's root directory.
    pub fn fd(&self) -> &OwnedFd {
        todo!()
    }
}

/// Performs a plan where nobody sees it, without any lease: for a driver's probe, which tries a mount before there
/// is a layer. Everybody else uses [`DriverExt::mount_detached`].
///
/// # Errors
/// `Unsupported` with the missing kernel feature or privilege, `System` for other calls that fail.
pub fn perform(plan: &MountPlan) -> Result<DetachedMount> {
    let _ = plan;
    todo!()
}

/// A mount at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub target: PathBuf,
}

/// One mount(2) call for somebody who mounts by himself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MountString {
    /// File system type.
    pub r#type: String,
    /// Source.
    pub source: String,
    /// Options.
    pub options: Vec<String>,
}

/// Mounting, for everybody who uses a driver. Implemented once, for all drivers.
pub trait DriverExt {
    /// Mounts a layer's view where nobody sees it: for reading, diffing, or passing on.
    ///
    /// # Errors
    /// Those of `plan`; `InUse` when it has a writable mount already.
    fn mount_detached(&self, id: &LayerId, options: &PlanOptions) -> Result<DetachedMount>;

    /// Mounts a layer's view at a directory.
    ///
    /// # Errors
    /// As `mount_detached`; `NotFound` or `InvalidInput` for the target.
    fn mount(&self, id: &LayerId, options: &PlanOptions, target: &Path) -> Result<Mounted>;

    /// Undoes [`mount`](Self::mount) at this target and releases the layer when it was the last. Idempotent.
    ///
    /// # Errors
    /// `InUse` when somebody still works in it.
    fn unmount(&self, id: &LayerId, target: &Path) -> Result<()>;

    /// What others have to mount; counts as use until [`DriverExt::release_strings`].
    ///
    /// # Errors
    /// `LimitExceeded` for what strings cannot say, with the reason.
    fn mount_strings(&self, id: &LayerId, options: &PlanOptions) -> Result<Vec<MountString>>;

    /// Ends the use by strings. Idempotent.
    ///
    /// # Errors
    /// `System`.
    fn release_strings(&self, id: &LayerId) -> Result<()>;

    /// Where the layer is mounted, in this mount namespace, as the kernel sees it.
    ///
    /// # Errors
    /// `System`.
    fn mounts(&self, id: &LayerId) -> Result<Vec<Mounted>>;
}

impl<D: Driver + ?Sized> DriverExt for D {
    fn mount_detached(&self, _: &LayerId, _: &PlanOptions) -> Result<DetachedMount> {
        todo!()
    }
    fn mount(&self, _: &LayerId, _: &PlanOptions, _: &Path) -> Result<Mounted> {
        todo!()
    }
    fn unmount(&self, _: &LayerId, _: &Path) -> Result<()> {
        todo!()
    }
    fn mount_strings(&self, _: &LayerId, _: &PlanOptions) -> Result<Vec<MountString>> {
        todo!()
    }
    fn release_strings(&self, _: &LayerId) -> Result<()> {
        todo!()
    }
    fn mounts(&self, _: &LayerId) -> Result<Vec<Mounted>> {
        todo!()
    }
}
