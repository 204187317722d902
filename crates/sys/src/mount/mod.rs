//! Mounts as descriptors: the calls that Linux has had since 5.2 (`fsopen`, `fsconfig`, `fsmount`, `open_tree`,
//! `move_mount`) and 5.12 (`mount_setattr`), and `umount2`. What came before is in [`legacy`].
//!
//! Invariant: a mount made here is held by its descriptor only, until [`attach`] puts it somewhere: nobody sees
//! it, and it is gone when the descriptor is closed.

#![allow(unsafe_code, reason = "mount_setattr, which no crate wraps")]

mod flags;
pub mod legacy;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string,
};

pub use self::flags::{Flags, flags_of};
use crate::error::{Error, Result, call, last_errno, show};

/// A file system that is being configured.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    kind: &'static str,
}

impl FsContext {
    /// Begins a mount of this file system type.
    ///
    /// # Errors
    /// `ENOSYS` before Linux 5.2, `ENODEV` for a type that the kernel does not have, `EPERM`.
    pub fn open(kind: &'static str) -> Result<Self> {
        let fd =
            call("fsopen", || kind.to_owned(), || rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC))?;
        Ok(Self { fd, kind })
    }

    /// Sets an option without a value.
    ///
    /// # Errors
    /// `EINVAL` for an option that the file system does not know.
    pub fn set_flag(&self, key: &str) -> Result<()> {
        self.explained(call("fsconfig", || self.show(key), || fsconfig_set_flag(&self.fd, key)))
    }

    /// Sets an option to a text of at most 255 bytes.
    ///
    /// # Errors
    /// `EINVAL` for an option or a value that the file system does not know, or one too long.
    pub fn set_string(&self, key: &str, value: &[u8]) -> Result<()> {
        let subject = || format!("{}={}", self.show(key), value.escape_ascii());
        self.explained(call("fsconfig", subject, || fsconfig_set_string(&self.fd, key, value)))
    }

    /// Sets an option to an open directory (overlay layers: Linux 6.13).
    ///
    /// # Errors
    /// `EINVAL` where the option takes no descriptor.
    pub fn set_fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        let subject = || format!("{}={}", self.show(key), describe(value));
        self.explained(call("fsconfig", subject, || fsconfig_set_fd(&self.fd, key, value)))
    }

    /// Makes the file system.
    ///
    /// # Errors
    /// Those of the file system, with what it logged.
    pub fn create(&self) -> Result<()> {
        self.explained(call("fsconfig", || self.show("create"), || fsconfig_create(&self.fd)))
    }

    /// A mount of the file system that was made.
    ///
    /// # Errors
    /// Those of `fsmount`.
    pub fn mount(&self, flags: Flags) -> Result<OwnedFd> {
        let attributes = flags.attributes();
        self.explained(call(
            "fsmount",
            || self.kind.to_owned(),
            || rustix::mount::fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes),
        ))
    }

    fn show(&self, key: &str) -> String {
        format!("{}, {key}", self.kind)
    }

    /// Adds to an error what the file system said about it.
    fn explained<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else { return result };
        let mut said = Vec::new();
        let mut buffer = [0_u8; 1024];
        // One message per read; ENODATA after the last. The bound is that of the kernel's ring.
        for _ in 0..8 {
            let Ok(length) = rustix::io::read(&self.fd, &mut buffer) else { break };
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            let text = text.trim_end();
            // Messages begin with their level: "e ", "w " or "i ".
            said.push(text.split_once(' ').map_or(text, |(_, message)| message).to_owned());
        }
        if said.is_empty() {
            return Err(error);
        }
        let subject = format!("{}; the kernel says {:?}", error.subject(), said.join("; "));
        Err(Error::new(error.call(), subject, error.errno()))
    }
}

/// The path that the kernel knows for what a descriptor has open, without symlinks.
///
/// # Errors
/// Those of `readlinkat`.
pub fn path_of(fd: BorrowedFd<'_>) -> Result<PathBuf> {
    let link = legacy::descriptor_path(fd);
    let text = call("readlinkat", || show(&link), || rustix::fs::readlinkat(CWD, &link, Vec::new()))?;
    Ok(std::ffi::OsString::from_vec(text.into_bytes()).into())
}

/// A descriptor as messages show it.
fn describe(fd: BorrowedFd<'_>) -> String {
    path_of(fd).map_or_else(|_| format!("descriptor {}", fd.as_raw_fd()), |path| show(&path))
}

/// Opens a directory by path as a bare handle (`O_PATH`), following symlinks: what lowers, bind sources and
/// targets are opened with. Never blocks and reads nothing.
///
/// # Errors
/// Those of `openat`: `ENOENT`, `ENOTDIR` …
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    call("openat", || show(path), || rustix::fs::openat(CWD, path, flags, Mode::empty()))
}

/// A detached copy of the mount that holds this directory, with the directory as its root (a bind mount that is
/// attached nowhere; Linux 5.2, of a directory inside a detached mount 6.15). Mounts below it are left out.
///
/// # Errors
/// `ENOSYS`, `EPERM`; `EINVAL` where the kernel cannot copy a detached mount.
pub fn clone_tree(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    call("open_tree", || describe(directory), || rustix::mount::open_tree(directory, "", flags))
}

/// Puts a detached mount onto a directory.
///
/// # Errors
/// `ENOSYS` before Linux 5.2; `ENOTDIR`, `EINVAL`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    call("move_mount", || describe(target), || rustix::mount::move_mount(mount, "", target, "", flags))
}

/// Unmounts what is on top at a path, unless it is busy. The last component is not followed if it is a symlink.
///
/// # Errors
/// `EBUSY` while somebody works in it, `EINVAL` when nothing is mounted there.
pub fn unmount(path: &Path) -> Result<()> {
    call("umount2", || show(path), || rustix::mount::unmount(path, UnmountFlags::NOFOLLOW))
}

/// Takes what is on top at a path out of sight at once; it lives on as long as somebody uses it.
///
/// # Errors
/// `EINVAL` when nothing is mounted there.
pub fn unmount_lazily(path: &Path) -> Result<()> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
    call("umount2", || show(path), || rustix::mount::unmount(path, flags))
}

/// What [`set_attributes`] changes of a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// Flags to set; those that are not set here stay as they are.
    pub flags: Flags,
    /// Shows ids as this user namespace maps them; only once, on a mount that nobody has seen.
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// Passes no mount below it on to others and takes none from them (`MS_PRIVATE`).
    pub private: bool,
}

/// `struct mount_attr` of Linux 5.12, its first version.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
/// Not a bit but a number of two: whoever sets how access times are kept has to clear how they were.
const MOUNT_ATTR__ATIME: u64 = 0x70;

/// Changes a mount, all at once or not at all (Linux 5.12).
///
/// # Errors
/// `ENOSYS`; `EINVAL` where the file system cannot map ids or they are mapped already; `EPERM`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: &Attributes<'_>) -> Result<()> {
    let mut raw = MountAttr { set: u64::from(attributes.flags.attributes().bits()), ..MountAttr::default() };
    if attributes.flags.noatime {
        raw.clear = MOUNT_ATTR__ATIME;
    }
    if let Some(namespace) = attributes.user_namespace {
        raw.set |= MOUNT_ATTR_IDMAP;
        raw.user_namespace = u64::try_from(namespace.as_raw_fd()).unwrap_or_default();
    }
    if attributes.private {
        raw.propagation = libc::MS_PRIVATE;
    }
    call(
        "mount_setattr",
        || describe(mount),
        || {
            // SAFETY: the path is a C string, the structure is that of the kernel and its size is passed along;
            // the kernel reads both during the call and keeps neither.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_mount_setattr,
                    mount.as_raw_fd(),
                    c"".as_ptr(),
                    libc::AT_EMPTY_PATH,
                    &raw const raw,
                    size_of::<MountAttr>(),
                )
            };
            if result == 0 { Ok(()) } else { Err(last_errno()) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_holds_what_the_kernel_said() {
        let context = FsContext::open("tmpfs").unwrap();
        let error = context.set_flag("nonsense").unwrap_err();
        assert!(error.to_string().contains("Unknown parameter 'nonsense'"), "{error}");
    }
}
