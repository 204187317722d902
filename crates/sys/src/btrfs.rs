//! Subvolumes and quota groups of btrfs, as far as a size limit of one directory tree needs them.
//!
//! A limit is set on the *qgroup* of a subvolume, which the kernel makes together with the subvolume while quotas
//! are on (full or simple ones; nothing here switches them on). A subvolume is a directory with an inode number of
//! its own kind and an own device number; it is renamed like any directory, and `rmdir` removes an empty one
//! (Linux 4.18). The structures and numbers are those of include/uapi/linux/btrfs.h.
//!
//! ```text
//! vol_args        fd 0..8 (unused)    name 8..4096, ends in 0
//! qgroup_limit    qgroup 0..8 (0: the subvolume of the descriptor)   flags   max referenced   three more
//! qgroup_create   create 0..8 (0: destroy)    qgroup 8..16
//! ino_lookup      tree 0..8    object 8..16    name 16..4096
//! fs_info         …    fsid 16..32    …        1,024 bytes
//! ```

#![allow(unsafe_code, reason = "ioctls that no crate wraps")]

use std::os::fd::{AsFd as _, AsRawFd as _};

use crate::dir::Dir;
use crate::error::{Errno, Result, call, last_errno};
use crate::fsinfo::FsInfo;
use crate::stat::Stat;

/// The inode number of every subvolume's root directory (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT_INODE: u64 = 256;
/// `_IOW(0x94, 14, struct btrfs_ioctl_vol_args)`.
const SUBVOL_CREATE: u32 = 0x5000_940e;
/// `_IOWR(0x94, 18, struct btrfs_ioctl_ino_lookup_args)`.
const INO_LOOKUP: u32 = 0xd000_9412;
/// `_IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)`.
const FS_INFO: u32 = 0x8400_941f;
/// `_IOW(0x94, 42, struct btrfs_ioctl_qgroup_create_args)`.
const QGROUP_CREATE: u32 = 0x4010_942a;
/// `_IOR(0x94, 43, struct btrfs_ioctl_qgroup_limit_args)`.
const QGROUP_LIMIT: u32 = 0x8030_942b;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`: the limit counts everything that the subvolume refers to.
const MAX_RFER: u64 = 1;
/// A qgroup that nobody has: the highest level, the highest number.
const NO_QGROUP: u64 = u64::MAX;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
#[derive(Default)]
struct QgroupLimit {
    qgroup: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved: [u64; 2],
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct QgroupCreate {
    create: u64,
    qgroup: u64,
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct FsInfoArgs {
    before: [u64; 2],
    fsid: [u8; 16],
    after: [u64; 124],
}

/// Structures that the kernel takes by their address: plain numbers without padding.
trait Argument: 'static {}

impl Argument for VolArgs {}
impl Argument for QgroupLimit {}
impl Argument for QgroupCreate {}
impl Argument for InoLookup {}
impl Argument for FsInfoArgs {}

/// What keeps a file system's quotas from limiting anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Nothing: they are on, and a limit holds.
    On,
    /// They were never switched on (`btrfs quota enable`).
    Off,
    /// They are on, but what is used is being counted again, or has to be (`btrfs quota rescan`).
    Inconsistent,
    /// It is not btrfs.
    OtherFileSystem,
    /// The process may not set limits (CAP_SYS_ADMIN in the first user namespace).
    NotPermitted,
}

/// Whether limits can be set on the file system that holds `dir`, and hold. Changes nothing.
///
/// # Errors
/// Those of the calls made, where they answer neither.
pub fn quota(dir: &Dir) -> Result<Quota> {
    if !is_btrfs(dir)? {
        return Ok(Quota::OtherFileSystem);
    }
    // The kernel looks for the permission first, then for quotas, then for the qgroup.
    let mut arguments = QgroupLimit { qgroup: NO_QGROUP, ..QgroupLimit::default() };
    match ioctl(dir, "BTRFS_IOC_QGROUP_LIMIT", QGROUP_LIMIT, &mut arguments) {
        // Without a limit in the arguments, a qgroup of this number would have been left as it is.
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        // Before Linux 5.9 EINVAL.
        Err(error) if matches!(error.errno(), Errno::NOTCONN | Errno::INVAL) => return Ok(Quota::Off),
        Err(error) if matches!(error.errno(), Errno::PERM | Errno::ACCESS) => return Ok(Quota::NotPermitted),
        Err(error) => return Err(error),
    }
    // Where sysfs is not to be seen, or does not say so yet (before Linux 5.9), the limit is taken at its word.
    let path = format!("/sys/fs/btrfs/{}/qgroups/inconsistent", uuid(dir)?);
    match crate::fs::read_to_string(path, 64) {
        Ok(text) if text.trim() == "1" => Ok(Quota::Inconsistent),
        _ => Ok(Quota::On),
    }
}

/// Whether a directory lies on btrfs.
///
/// # Errors
/// Those of `fstatfs`.
pub fn is_btrfs(dir: &Dir) -> Result<bool> {
    Ok(FsInfo::of(dir)?.name() == "btrfs")
}

/// Whether an open directory, of which this is known, is the root of a subvolume.
///
/// # Errors
/// Those of `fstatfs`, which most directories are spared.
pub fn is_subvolume(dir: &Dir, stat: &Stat) -> Result<bool> {
    Ok(stat.inode == ROOT_INODE && is_btrfs(dir)?)
}

/// Makes an empty subvolume as the entry `name` of a directory; its mode is 0777 less the process's umask.
///
/// # Errors
/// `EEXIST`, `ENAMETOOLONG`, `ENOTTY` on another file system, `EDQUOT`, `ENOSPC` …
pub fn make_subvolume(dir: &Dir, name: &[u8]) -> Result<()> {
    let mut arguments = VolArgs { fd: 0, name: [0; 4088] };
    // A name has 255 bytes at most; the last byte stays 0.
    match arguments.name.get_mut(..name.len()) {
        Some(room) if name.len() < 256 => room.copy_from_slice(name),
        _ => return Err(crate::Error::new("ioctl", dir.show(name), Errno::NAMETOOLONG)),
    }
    ioctl(dir, "BTRFS_IOC_SUBVOL_CREATE", SUBVOL_CREATE, &mut arguments)
}

/// Sets how many bytes the subvolume that holds `dir` may refer to; none takes the limit away.
///
/// # Errors
/// `ENOTCONN` (before Linux 5.9 `EINVAL`) while quotas are off, `EPERM` without CAP_SYS_ADMIN, `ENOENT` for a
/// subvolume without a qgroup, `ENOTTY` on another file system.
pub fn limit(dir: &Dir, bytes: Option<u64>) -> Result<()> {
    let mut arguments = QgroupLimit {
        flags: MAX_RFER,
        // All ones clear it (`CLEAR_VALUE` of fs/btrfs/qgroup.c).
        max_referenced: bytes.unwrap_or(u64::MAX),
        ..QgroupLimit::default()
    };
    ioctl(dir, "BTRFS_IOC_QGROUP_LIMIT", QGROUP_LIMIT, &mut arguments)
}

/// The number of the subvolume that holds `dir`, which is that of its qgroup too.
///
/// # Errors
/// `ENOTTY` on another file system.
pub fn subvolume(dir: &Dir) -> Result<u64> {
    let mut arguments = InoLookup { tree: 0, object: ROOT_INODE, name: [0; 4080] };
    ioctl(dir, "BTRFS_IOC_INO_LOOKUP", INO_LOOKUP, &mut arguments)?;
    Ok(arguments.tree)
}

/// Destroys the qgroup of a subvolume that is gone; `dir` is any directory of the file system.
///
/// # Errors
/// `EBUSY` while the kernel still frees the subvolume (since Linux 6.11 it destroys the qgroup by itself after
/// that), `ENOENT` where there is none any more, `ENOTCONN`, `EPERM`.
pub fn destroy_qgroup(dir: &Dir, subvolume: u64) -> Result<()> {
    let mut arguments = QgroupCreate { create: 0, qgroup: subvolume };
    ioctl(dir, "BTRFS_IOC_QGROUP_CREATE", QGROUP_CREATE, &mut arguments)
}

/// The file system's UUID as sysfs writes it.
fn uuid(dir: &Dir) -> Result<String> {
    let mut arguments = FsInfoArgs { before: [0; 2], fsid: [0; 16], after: [0; 124] };
    ioctl(dir, "BTRFS_IOC_FS_INFO", FS_INFO, &mut arguments)?;
    let mut text = String::new();
    for (at, byte) in arguments.fsid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

fn ioctl<T: Argument>(dir: &Dir, name: &str, request: u32, arguments: &mut T) -> Result<()> {
    call(
        "ioctl",
        || format!("{}, {name}", dir.show(b"")),
        || {
            // SAFETY: the descriptor is open for the call; each request above goes with the one structure whose
            // size is part of the request's number, and the kernel reads and writes no more than that.
            let result = unsafe {
                libc::ioctl(dir.as_fd().as_raw_fd(), request as _, std::ptr::from_mut::<T>(arguments))
            };
            if result == -1 { Err(last_errno()) } else { Ok(()) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_sizes_that_the_requests_name() {
        let sizes = [
            (SUBVOL_CREATE, size_of::<VolArgs>()),
            (INO_LOOKUP, size_of::<InoLookup>()),
            (FS_INFO, size_of::<FsInfoArgs>()),
            (QGROUP_CREATE, size_of::<QgroupCreate>()),
            (QGROUP_LIMIT, size_of::<QgroupLimit>()),
        ];
        for (request, size) in sizes {
            assert_eq!((request >> 16) as usize & 0x3fff, size, "request {request:#x}");
        }
    }

    #[test]
    fn another_file_system_has_neither_subvolumes_nor_quotas() {
        let shm = Dir::open("/dev/shm").unwrap();
        assert_eq!(quota(&shm).unwrap(), Quota::OtherFileSystem);
        assert!(!is_subvolume(&shm, &shm.stat_self().unwrap()).unwrap());
        assert_eq!(make_subvolume(&shm, b"x").unwrap_err().errno(), Errno::NOTTY);
        assert_eq!(make_subvolume(&shm, &[b'x'; 300]).unwrap_err().errno(), Errno::NAMETOOLONG);
        assert_eq!(limit(&shm, None).unwrap_err().errno(), Errno::NOTTY);
    }
}
