//! Flags of one mount, as each kind of call takes them.

use std::os::fd::BorrowedFd;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountAttrFlags, MountFlags};

use crate::error::{Result, call};

/// What a mount refuses or leaves out (mount(8), "filesystem-independent mount options").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Writing is refused.
    pub read_only: bool,
    /// No device node opens a device.
    pub nodev: bool,
    /// Set-user-id and set-group-id bits and file capabilities count for nothing.
    pub nosuid: bool,
    /// Nothing is executed.
    pub noexec: bool,
    /// Reading leaves access times alone.
    pub noatime: bool,
}

impl Flags {
    /// Whether nothing is set.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// For `fsmount` and `mount_setattr`.
    pub(super) fn attributes(self) -> MountAttrFlags {
        let all = [
            (self.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (self.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
            (self.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (self.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (self.noatime, MountAttrFlags::MOUNT_ATTR_NOATIME),
        ];
        all.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect()
    }

    /// For `mount`.
    pub(super) fn of_mount(self) -> MountFlags {
        let all = [
            (self.read_only, MountFlags::RDONLY),
            (self.nodev, MountFlags::NODEV),
            (self.nosuid, MountFlags::NOSUID),
            (self.noexec, MountFlags::NOEXEC),
            (self.noatime, MountFlags::NOATIME),
        ];
        all.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect()
    }

    /// These and others.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self {
            read_only: self.read_only || others.read_only,
            nodev: self.nodev || others.nodev,
            nosuid: self.nosuid || others.nosuid,
            noexec: self.noexec || others.noexec,
            noatime: self.noatime || others.noatime,
        }
    }
}

/// The flags of the mount that something open lies in.
///
/// # Errors
/// Those of `fstatfs`.
pub fn flags_of(fd: BorrowedFd<'_>) -> Result<Flags> {
    let mounted = call("fstatfs", || super::describe(fd), || rustix::fs::fstatvfs(fd))?;
    let has = |flag| mounted.f_flag.contains(flag);
    Ok(Flags {
        read_only: has(StatVfsMountFlags::RDONLY),
        nodev: has(StatVfsMountFlags::NODEV),
        nosuid: has(StatVfsMountFlags::NOSUID),
        noexec: has(StatVfsMountFlags::NOEXEC),
        noatime: has(StatVfsMountFlags::NOATIME),
    })
}
