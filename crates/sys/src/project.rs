//! Project quotas, as far as a size limit of one directory tree needs them: xfs and ext4, and whatever else answers
//! the same calls (f2fs).
//!
//! Every inode has a *project ID*, 0 unless somebody gave it another one, and the file system counts and limits what
//! all inodes of a project take. What is made in a directory with the flag `PROJINHERIT` gets the directory's ID and,
//! if it is a directory, the flag. Such a directory takes an entry from elsewhere by `rename` or `link` only if that
//! has its ID (`EXDEV`), so nothing gets in uncounted; what leaves keeps its ID.
//!
//! Limits are set by `quotactl_fd` (Linux 5.14), which needs no block device. Its commands are those of xfs; for ext4
//! and f2fs the kernel translates them (`fs/quota/quota.c`). xfs answers `ENOSPC` where a project is full, the others
//! `EDQUOT`, and the others let who has CAP_SYS_RESOURCE pass (`ignore_hardlimit` of fs/quota/dquot.c).
//!
//! ```text
//! fsxattr          flags 0..4   …   project 12..16   …              28 bytes, include/uapi/linux/fs.h
//! fs_disk_quota    version 0   flags 1   fields 2..4   id 4..8   block limits, hard and soft 8..24
//!                  inode limits 24..40   blocks 40..48   inodes 48..56   …   112 bytes, include/uapi/linux/dqblk_xfs.h
//! fs_quota_stat    version 0   flags 2..4   …              80 bytes, include/uapi/linux/dqblk_xfs.h
//! ```

#![allow(unsafe_code, reason = "ioctls and a call that no crate wraps")]

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use crate::dir::Dir;
use crate::error::{Errno, Result, call, last_errno};
use crate::fsinfo::FsInfo;

/// `_IOR('X', 31, struct fsxattr)`.
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`.
const INHERIT: u32 = 0x200;
/// The same number on every architecture (`include/uapi/asm-generic/unistd.h`).
const SYS_QUOTACTL_FD: libc::c_long = 443;
/// `PRJQUOTA`.
const PROJECT: u32 = 2;
/// `Q_GETFMT`.
const GET_FORMAT: u32 = 0x80_0004;
/// `Q_XGETQUOTA`.
const GET_QUOTA: u32 = 0x5803;
/// `Q_XSETQLIM`.
const SET_LIMIT: u32 = 0x5804;
/// `Q_XGETQSTAT`.
const GET_STATE: u32 = 0x5805;
/// `FS_QUOTA_PDQ_ACCT`.
const COUNTED: u16 = 1 << 4;
/// `FS_QUOTA_PDQ_ENFD`.
const ENFORCED: u16 = 1 << 5;
/// `FS_DQUOT_VERSION`.
const VERSION: i8 = 1;
/// `XFS_PROJ_QUOTA`.
const FLAG_PROJECT: i8 = 2;
/// `FS_DQ_BHARD`.
const FIELD_HARD: u16 = 1 << 3;
/// The unit of sizes, in bytes.
const BLOCK: u64 = 512;
/// File systems that have project quotas where the kernel was built with them.
const KNOWN: [&str; 3] = ["xfs", "ext4", "f2fs"];

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u32; 2],
}

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    hard_blocks: u64,
    soft_blocks: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    blocks: u64,
    inodes: u64,
    more: [u64; 7],
}

/// `struct fs_quota_stat`.
#[repr(C)]
#[derive(Default)]
struct State {
    version: u8,
    padding: u8,
    flags: u16,
    more: [u32; 19],
}

/// Structures that the kernel takes by their address: plain numbers.
trait Argument: Default + 'static {}

impl Argument for FsXattr {}
impl Argument for DiskQuota {}
impl Argument for State {}
impl Argument for u32 {}

/// What keeps a file system's project quotas from limiting anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Nothing: they are on, and a limit holds.
    On,
    /// What projects take is counted, and limits are not looked at.
    CountingOnly,
    /// They are off: a mount option switches them on.
    Off,
    /// This kernel was built without them for this file system.
    NotBuilt,
    /// This kernel has no `quotactl_fd` (Linux 5.14).
    OldKernel,
    /// The file system has none.
    OtherFileSystem,
    /// The process may not set limits (CAP_SYS_ADMIN in the first user namespace).
    NotPermitted,
}

/// What a project takes, and may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Most bytes that it may take.
    pub limit: Option<u64>,
}

/// The project of a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its number; 0 is nobody's.
    pub id: u32,
    /// Whether what is made in the directory belongs to the project too.
    pub inherited: bool,
}

/// Whether limits can be set on the file system that holds `dir`, and hold. Changes nothing.
///
/// # Errors
/// Those of the calls made, where they answer neither.
pub fn quota(dir: &Dir) -> Result<Quota> {
    let is_known = || Ok(KNOWN.contains(&&*FsInfo::of(dir)?.name()));
    match quotactl(dir, "Q_GETFMT", GET_FORMAT, 0, &mut 0_u32) {
        // xfs has no format, whether quotas are on or off.
        Ok(()) => {}
        Err(error) if error.errno() == Errno::SRCH => {}
        Err(error) => {
            return match error.errno() {
                Errno::NOSYS if !is_known()? => Ok(Quota::OtherFileSystem),
                Errno::NOSYS if has_quotactl_fd() => Ok(Quota::NotBuilt),
                Errno::NOSYS => Ok(Quota::OldKernel),
                // A file system with quotas, and none for projects.
                Errno::INVAL => Ok(Quota::OtherFileSystem),
                // A filter of system calls.
                Errno::PERM | Errno::ACCESS => Ok(Quota::NotPermitted),
                _ => Err(error),
            };
        }
    }
    let mut state = State::default();
    match quotactl(dir, "Q_XGETQSTAT", GET_STATE, 0, &mut state) {
        Ok(()) => {}
        // No quota of any kind is on.
        Err(error) if error.errno() == Errno::NOSYS => return Ok(Quota::Off),
        Err(error) => return Err(error),
    }
    match state.flags & (COUNTED | ENFORCED) {
        0 => return Ok(Quota::Off),
        COUNTED => return Ok(Quota::CountingOnly),
        _ => {}
    }
    match usage(dir, 0) {
        Ok(_) => Ok(Quota::On),
        Err(error) if matches!(error.errno(), Errno::PERM | Errno::ACCESS) => Ok(Quota::NotPermitted),
        Err(error) => Err(error),
    }
}

/// Whether processes with CAP_SYS_RESOURCE may write beyond a limit on the file system that holds `dir`.
///
/// # Errors
/// Those of `fstatfs`.
pub fn exempts_privileged(dir: &Dir) -> Result<bool> {
    Ok(FsInfo::of(dir)?.name() != "xfs")
}

/// The project of an open directory; none on a file system that has no projects.
///
/// # Errors
/// Those of `ioctl`.
pub fn of(dir: &Dir) -> Result<Option<Membership>> {
    let mut attributes = FsXattr::default();
    match ioctl(dir, "FS_IOC_FSGETXATTR", FS_IOC_FSGETXATTR, &mut attributes) {
        Ok(()) => Ok(Some(Membership { id: attributes.project, inherited: attributes.flags & INHERIT != 0 })),
        Err(error) if matches!(error.errno(), Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives an empty directory to a project, and what is made in it from now on; 0 takes it back.
///
/// # Errors
/// `EOPNOTSUPP` for a file system made without projects, `EINVAL` outside of the first user namespace or for a number
/// that the file system has no room for (xfs without `projid32bit`: 65,535 at most), `EPERM`, `EDQUOT`.
pub fn assign(dir: &Dir, id: u32) -> Result<()> {
    let mut attributes = FsXattr::default();
    ioctl(dir, "FS_IOC_FSGETXATTR", FS_IOC_FSGETXATTR, &mut attributes)?;
    attributes.project = id;
    attributes.flags = if id == 0 { attributes.flags & !INHERIT } else { attributes.flags | INHERIT };
    ioctl(dir, "FS_IOC_FSSETXATTR", FS_IOC_FSSETXATTR, &mut attributes)
}

/// What a project takes on the file system that holds `dir`.
///
/// # Errors
/// `ESRCH` while quotas are off, `EPERM` without CAP_SYS_ADMIN, `ENOSYS`.
pub fn usage(dir: &Dir, id: u32) -> Result<Usage> {
    let mut answer = DiskQuota::default();
    match quotactl(dir, "Q_XGETQUOTA", GET_QUOTA, id, &mut answer) {
        Ok(()) => {}
        // xfs knows nothing of a project that has neither limits nor inodes.
        Err(error) if error.is_not_found() => return Ok(Usage::default()),
        Err(error) => return Err(error),
    }
    let limit = (answer.hard_blocks != 0).then_some(answer.hard_blocks);
    Ok(Usage {
        bytes: answer.blocks.saturating_mul(BLOCK),
        inodes: answer.inodes,
        limit: limit.map(|blocks| blocks.saturating_mul(BLOCK)),
    })
}

/// Sets how many bytes a project may take on the file system that holds `dir`; none takes the limit away.
///
/// # Errors
/// `EINVAL` for project 0, whose limits are everybody's default on xfs; `ESRCH` or `ENOSYS` while quotas are off,
/// `EPERM` without CAP_SYS_ADMIN, `ERANGE`.
pub fn limit(dir: &Dir, id: u32, bytes: Option<u64>) -> Result<()> {
    if id == 0 {
        return Err(crate::Error::new("quotactl_fd", dir.show(b""), Errno::INVAL));
    }
    let mut arguments = DiskQuota {
        version: VERSION,
        flags: FLAG_PROJECT,
        fields: FIELD_HARD,
        id,
        // 0 is no limit.
        hard_blocks: bytes.map_or(0, |bytes| bytes.div_ceil(BLOCK).max(1)),
        ..DiskQuota::default()
    };
    quotactl(dir, "Q_XSETQLIM", SET_LIMIT, id, &mut arguments)
}

/// Whether the kernel has the call at all: it looks at the descriptor first.
fn has_quotactl_fd() -> bool {
    // SAFETY: the descriptor is none, so nothing is read or written.
    let result = unsafe { libc::syscall(SYS_QUOTACTL_FD, -1, GET_FORMAT << 8 | PROJECT, 0, 0) };
    result == -1 && last_errno() == Errno::BADF
}

fn quotactl<T: Argument>(dir: &Dir, name: &str, command: u32, id: u32, arguments: &mut T) -> Result<()> {
    call(
        "quotactl_fd",
        || format!("{}, {name}, project {id}", dir.show(b"")),
        || {
            let fd: RawFd = dir.as_fd().as_raw_fd();
            let address = std::ptr::from_mut::<T>(arguments);
            // SAFETY: the descriptor is open for the call; each command above goes with the one structure of the
            // size that the kernel's headers give it, and the kernel reads and writes no more than that.
            let result = unsafe { libc::syscall(SYS_QUOTACTL_FD, fd, command << 8 | PROJECT, id, address) };
            if result == -1 { Err(last_errno()) } else { Ok(()) }
        },
    )
}

fn ioctl(dir: &Dir, name: &str, request: u32, arguments: &mut FsXattr) -> Result<()> {
    call(
        "ioctl",
        || format!("{}, {name}", dir.show(b"")),
        || {
            let address = std::ptr::from_mut::<FsXattr>(arguments);
            // SAFETY: the descriptor is open for the call; both requests go with this structure, whose size is part
            // of the request's number, and the kernel reads and writes no more than that.
            let result = unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), request as _, address) };
            if result == -1 { Err(last_errno()) } else { Ok(()) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_sizes_of_the_kernels_headers() {
        assert_eq!((FS_IOC_FSGETXATTR >> 16) as usize & 0x3fff, size_of::<FsXattr>());
        assert_eq!((FS_IOC_FSSETXATTR >> 16) as usize & 0x3fff, size_of::<FsXattr>());
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<State>(), 80);
    }

    #[test]
    fn another_file_system_has_no_project_quotas() {
        let proc = Dir::open("/proc/self").unwrap();
        assert_eq!(quota(&proc).unwrap(), Quota::OtherFileSystem);
        assert_eq!(of(&proc).unwrap(), None);
        assert!(assign(&proc, 1).is_err() && usage(&proc, 1).is_err() && limit(&proc, 1, None).is_err());
    }

    #[test]
    fn nobody_limits_the_project_of_everybody_else() {
        let shm = Dir::open("/dev/shm").unwrap();
        assert_eq!(limit(&shm, 0, Some(1)).unwrap_err().errno(), Errno::INVAL);
    }
}
