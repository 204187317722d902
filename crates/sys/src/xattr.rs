//! Extended attributes of open files, and of the entries of open directories without following symlinks.
//!
//! The kernel has descriptor-relative xattr calls since 6.13 only; here an entry is reached as
//! `/proc/self/fd/N/NAME`, whose last component is not followed, so no earlier one can be swapped.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;

use crate::dir::Dir;
use crate::error::{Errno, Result, call};
use crate::file::File;

/// What an xattr is set on or read from.
#[derive(Debug, Clone, Copy)]
pub enum On<'a> {
    /// An open file.
    File(&'a File),
    /// An open directory itself.
    Dir(&'a Dir),
    /// An entry of a directory, not followed if it is a symlink.
    Entry(&'a Dir, &'a [u8]),
}

impl On<'_> {
    /// Where it lies, for messages.
    pub fn shown(&self) -> String {
        match self {
            Self::File(file) => file.show(),
            Self::Dir(dir) => dir.show(b""),
            Self::Entry(dir, entry) => dir.show(entry),
        }
    }

    /// Bytes that an ordinary user may still take on its file system; none where that cannot be told.
    pub fn free_space(&self) -> Option<u64> {
        let info = match self {
            Self::File(file) => crate::fsinfo::FsInfo::of(file.as_fd()),
            Self::Dir(dir) | Self::Entry(dir, _) => crate::fsinfo::FsInfo::of(dir.as_fd()),
        };
        info.ok().map(|info| info.available)
    }

    fn show(&self, name: &[u8]) -> String {
        format!("{}, {}", self.shown(), name.escape_ascii())
    }

    /// The descriptor of what is open itself. That of a mount that is not attached yet stands for a path only, and
    /// the kernel takes no such descriptor here (`EBADF`): then [`On::path`] leads there.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::File(file) => Some(file.as_fd()),
            Self::Dir(dir) => Some(dir.as_fd()),
            Self::Entry(..) => None,
        }
    }

    /// Does a call by descriptor where that is possible, else by path.
    fn either<T>(
        &self,
        by_fd: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>,
        by_path: impl FnOnce(Vec<u8>) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match self.fd().map(by_fd) {
            None | Some(Err(Errno::BADF)) => by_path(self.path()),
            Some(result) => result,
        }
    }

    fn path(&self) -> Vec<u8> {
        match self {
            Self::File(file) => format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into_bytes(),
            Self::Dir(dir) => format!("/proc/self/fd/{}/.", dir.as_fd().as_raw_fd()).into_bytes(),
            Self::Entry(dir, entry) => {
                let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
                path.extend_from_slice(entry);
                path
            }
        }
    }
}

/// Sets an attribute, replacing its value.
///
/// # Errors
/// The call's: `EOPNOTSUPP` where the file system has no such attributes, `EPERM` for those that need privilege.
pub fn set(on: On<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    call(
        "fsetxattr",
        || on.show(name),
        || {
            on.either(
                |fd| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
                |path| rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()),
            )
        },
    )
}

/// The value of an attribute, or none when it is not set (also where the file system has no such attributes).
///
/// # Errors
/// The call's, other than `ENODATA` and `EOPNOTSUPP`.
pub fn get(on: On<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let read = |buffer: &mut [u8]| match on.fd().map(|fd| rustix::fs::fgetxattr(fd, name, &mut *buffer)) {
        None | Some(Err(Errno::BADF)) => rustix::fs::lgetxattr(on.path(), name, buffer),
        Some(result) => result,
    };
    match grow("lgetxattr", || on.show(name), 256, read) {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno(), Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of all attributes; empty where the file system has none.
///
/// # Errors
/// The call's, other than `EOPNOTSUPP`.
pub fn list(on: On<'_>) -> Result<Vec<Vec<u8>>> {
    let read = |buffer: &mut [u8]| match on.fd().map(|fd| rustix::fs::flistxattr(fd, &mut *buffer)) {
        None | Some(Err(Errno::BADF)) => rustix::fs::llistxattr(on.path(), buffer),
        Some(result) => result,
    };
    // Few files have any, and then nothing is put aside for them.
    let mut names = [0; 256];
    let names = match call("llistxattr", || on.show(b"*"), || read(&mut names)) {
        Ok(length) => Ok(names.get(..length).unwrap_or_default().to_vec()),
        Err(error) if error.errno() == Errno::RANGE => grow("llistxattr", || on.show(b"*"), 1024, read),
        Err(error) => Err(error),
    };
    match names {
        Ok(names) => {
            Ok(names.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        }
        Err(error) if error.errno() == Errno::OPNOTSUPP => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes an attribute; one that is not set is left alone.
///
/// # Errors
/// The call's, other than `ENODATA`.
pub fn remove(on: On<'_>, name: &[u8]) -> Result<()> {
    let result = call(
        "fremovexattr",
        || on.show(name),
        || on.either(|fd| rustix::fs::fremovexattr(fd, name), |path| rustix::fs::lremovexattr(path, name)),
    );
    match result {
        Err(error) if error.errno() == Errno::NODATA => Ok(()),
        result => result,
    }
}

/// Reads into a buffer that grows until the kernel says that it is large enough.
fn grow(
    name: &'static str,
    subject: impl Fn() -> String,
    start: usize,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<u8>> {
    let mut buffer = vec![0; start];
    loop {
        match call(name, &subject, || read(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(error) if error.errno() == Errno::RANGE && buffer.len() < 1 << 20 => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            Err(error) => return Err(error),
        }
    }
}
