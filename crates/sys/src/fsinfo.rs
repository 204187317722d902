//! Which file system a directory lies on, and how full it is.

use std::os::fd::AsFd;

use crate::error::{Result, call};
use crate::stat::DeviceId;

/// What `statfs` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsInfo {
    /// The type's magic number (include/uapi/linux/magic.h).
    magic: u32,
    /// Size in bytes.
    pub total: u64,
    /// Free bytes that an ordinary user may take.
    pub available: u64,
    /// Inodes there are; 0 where the file system does not count them.
    pub inodes: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
}

/// Magic numbers (include/uapi/linux/magic.h) and the names that people know.
const NAMES: &[(u32, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x6175_6673, "aufs"),
    (0xca45_1a4e, "bcachefs"),
    (0xe0f5_e1e2, "erofs"),
    (0x7371_7368, "squashfs"),
    (0x4d44, "vfat"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0xf15f, "ecryptfs"),
    (0x0102_1997, "v9fs"),
    (0x00c3_6400, "ceph"),
    (0x1161_970d, "gfs2"),
    (0x9660, "iso9660"),
    (0x8584_58f6, "ramfs"),
];

impl FsInfo {
    /// Asks about the file system that holds what a descriptor has open.
    ///
    /// # Errors
    /// Those of `fstatfs`.
    pub fn of(fd: impl AsFd) -> Result<Self> {
        let raw = call("fstatfs", || "directory".to_owned(), || rustix::fs::fstatfs(fd.as_fd()))?;
        let block = u64::try_from(raw.f_frsize).unwrap_or(0);
        Ok(Self {
            // The kernel's numbers have 32 bits; some platforms sign-extend them.
            magic: (raw.f_type as u64 & 0xffff_ffff) as u32,
            total: raw.f_blocks.saturating_mul(block),
            available: raw.f_bavail.saturating_mul(block),
            inodes: raw.f_files,
            free_inodes: raw.f_ffree,
        })
    }

    /// The type's name, or its magic number where that is not known. ext2 and ext3 share that of ext4.
    pub fn name(&self) -> String {
        let known = NAMES.iter().find(|(magic, _)| *magic == self.magic);
        known.map_or_else(|| format!("{:#x}", self.magic), |(_, name)| (*name).to_owned())
    }
}

/// Whether a file system with this device number is mounted anywhere, in whatever namespace, or held open
/// (`ustat`). False also where the kernel has no such call (it is missing on newer architectures).
#[allow(unsafe_code, reason = "ustat, which no crate wraps")]
pub fn is_device_mounted(device: DeviceId) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let DeviceId { major, minor } = device;
        let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        // `struct ustat` has 32 bytes.
        let mut answer = [0_u64; 8];
        // SAFETY: the kernel writes one structure of 32 bytes into the buffer of 64.
        unsafe { libc::syscall(libc::SYS_ustat, number, answer.as_mut_ptr()) == 0 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = device;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_is_told_by_name() {
        let shm = crate::Dir::open("/dev/shm").unwrap();
        let info = FsInfo::of(&shm).unwrap();
        assert_eq!(info.name(), "tmpfs");
        assert!(info.available <= info.total);
        assert!(is_device_mounted(shm.stat_self().unwrap().device));
        assert!(!is_device_mounted(DeviceId { major: 0, minor: 0xf_fff0 }));
        assert_eq!(FsInfo { magic: 0x1234, ..info }.name(), "0x1234");
    }
}
