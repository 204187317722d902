//! Mounts at a path.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use layerstore_sys::mount::{self, Attributes, legacy};
use layerstore_sys::mountinfo::{self, MountId};
use layerstore_sys::process::MountNamespace;
use layerstore_sys::{Dir, Errno};

use super::detached;
use super::error::{MOUNT, UNMOUNT, failed, patiently};
use super::fallback;
use crate::error::{Error, Kind, Result};
use crate::id::LayerId;
use crate::lease::{Attached, Held, Leases};
use crate::plan::{MountPlan, PlanOptions};

/// A directory to mount on.
pub(super) struct Target {
    /// It, or what is mounted on it.
    pub(super) fd: OwnedFd,
    /// Its path without symlinks.
    pub(super) path: PathBuf,
    /// The mount it lies in.
    pub(super) mount: MountId,
}

impl Target {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fd = mount::open_directory(path).map_err(|error| match error.errno() {
            Errno::NOENT => Error::new(Kind::NotFound, MOUNT, error.to_string())
                .with_hint("make the target directory first")
                .with_source(error),
            Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => {
                Error::new(Kind::InvalidInput, MOUNT, error.to_string()).with_source(error)
            }
            _ => Error::system(MOUNT, error),
        })?;
        let path = mount::path_of(fd.as_fd()).map_err(failed)?;
        let mount = mountinfo::id_of(&fd).map_err(failed)?;
        Ok(Self { fd, path, mount })
    }
}

/// Performs a plan at a target and leaves the lease to the kernel's mount. The lease is there before the mount.
pub(super) fn attach(
    leases: &Leases,
    id: &LayerId,
    options: &PlanOptions,
    plan: &MountPlan,
    target: &Target,
) -> Result<()> {
    let namespace = MountNamespace::current().map_err(failed)?;
    let performed = detached::perform(plan)?;
    if performed.movable {
        let attached = known(&performed.fd, target, namespace)?;
        let lease = leases.take(id, &leases.record(options, Held::Attached(attached)))?;
        mount::attach(performed.fd.as_fd(), target.fd.as_fd()).map_err(failed)?;
        lease.leave();
        // Attaching to a shared mount has made it shared: what the container mounts below it is its own affair.
        let private = Attributes { private: true, ..Attributes::default() };
        return match mount::set_attributes(performed.fd.as_fd(), &private) {
            Err(error) if error.errno() == Errno::NOSYS => legacy::make_private(&target.path).map_err(failed),
            result => result.map_err(failed),
        };
    }
    // What was performed cannot be moved: mount again, at the target.
    drop(performed);
    let pending = Attached::pending(&target.path, namespace, target.mount);
    let mut lease = leases.take(id, &leases.record(options, Held::Attached(pending)))?;
    fallback::attach(plan, target, &leases.scratch)?;
    let mounted = mount::open_directory(&target.path).map_err(failed)?;
    let attached = known(&mounted, target, namespace)?;
    lease.update(&leases.record(options, Held::Attached(attached)))?;
    lease.leave();
    Ok(())
}

/// What tells this mount from every other.
fn known(mount: &OwnedFd, target: &Target, namespace: MountNamespace) -> Result<Attached> {
    let id = mountinfo::id_of(mount).map_err(failed)?;
    let root = mount.try_clone().map_err(super::error::descriptor)?;
    let device = Dir::from_fd(root, &*target.path).stat_self().map_err(failed)?.device;
    Ok(Attached::new(&target.path, namespace, id, device))
}

/// Unmounts what is at a path, unless it is busy.
pub(super) fn detach(path: &Path) -> Result<()> {
    match patiently(|| mount::unmount(path), |error| error.errno() == Errno::BUSY) {
        // Nothing is mounted there any more.
        Err(error) if matches!(error.errno(), Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) if error.errno() == Errno::BUSY => {
            Err(Error::new(Kind::InUse, UNMOUNT, format!("somebody still works in it: {error}"))
                .with_hint("end the processes that have files open below the target (see fuser -vm TARGET)")
                .with_source(error))
        }
        result => result.map_err(|error| Error::system(UNMOUNT, error)),
    }
}
