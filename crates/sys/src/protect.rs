//! Inode flags that keep a file from being changed and removed: `chattr +i` and `+a` (ioctl_iflags(2)).
//!
//! A privileged container sets them as anybody does. Where its root file system is an overlay, the kernel keeps them
//! in an attribute since Linux 5.15 (`fs/overlayfs`, `protattr`); before, and in a plain directory, they are on the
//! inode, and hold against the one who removes the container.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::dir::Dir;
use crate::error::{Result, call};
use crate::stat::FileType;

/// How a file is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Nothing of it changes (`chattr +i`).
    Immutable,
    /// A file only grows, and from a directory nothing is removed (`chattr +a`).
    AppendOnly,
}

/// Protects a file or directory, `name` in `dir`, beside what protects it already.
///
/// # Errors
/// Those of `openat` and of the ioctls: `ENOTTY` or `EOPNOTSUPP` where the file system has no flags, `EPERM` without
/// CAP_LINUX_IMMUTABLE in the first user namespace.
pub fn set(dir: &Dir, name: &[u8], protection: Protection) -> Result<()> {
    let flag = match protection {
        Protection::Immutable => IFlags::IMMUTABLE,
        Protection::AppendOnly => IFlags::APPEND,
    };
    let file = dir.open_file(name)?;
    let flags = get(file.as_fd(), file.path())?;
    put(file.as_fd(), file.path(), flags | flag)
}

/// Takes the protection from the entry `name` of `dir` and from `dir` itself, so that the entry can be removed. Says
/// whether there was any. Only files and directories can have it.
pub(crate) fn lift(dir: &Dir, name: &[u8]) -> Result<bool> {
    let above = clear(dir.as_fd(), dir.path())?;
    let entry = match dir.try_stat(name)?.map(|stat| stat.kind) {
        Some(FileType::Directory | FileType::Regular) => {
            let entry = dir.open_file(name)?;
            clear(entry.as_fd(), entry.path())?
        }
        _ => false,
    };
    Ok(above || entry)
}

fn clear(fd: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    let flags = get(fd, path)?;
    let protecting = IFlags::IMMUTABLE | IFlags::APPEND;
    if !flags.intersects(protecting) {
        return Ok(false);
    }
    put(fd, path, flags - protecting)?;
    Ok(true)
}

fn get(fd: BorrowedFd<'_>, path: &Path) -> Result<IFlags> {
    call("ioctl", || format!("{}, FS_IOC_GETFLAGS", path.display()), || ioctl_getflags(fd))
}

fn put(fd: BorrowedFd<'_>, path: &Path, flags: IFlags) -> Result<()> {
    call("ioctl", || format!("{}, FS_IOC_SETFLAGS, {flags:?}", path.display()), || ioctl_setflags(fd, flags))
}
