//! An open directory, and what can be done to its entries by name.
//!
//! A name is one component (or `.`); nothing here follows a symlink in the last component, and there is no way
//! to pass more than one component by accident that would be followed: callers hold a clean component.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType as RawType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid,
};

use crate::error::{Result, call, show};
use crate::file::File;
use crate::stat::{DeviceId, FileType, Stat, Timestamp};

/// An open directory. Cloning shares the descriptor.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    /// Where it was opened: for messages only, never walked again.
    path: Arc<Path>,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory by path, following symlinks: for paths that a person configured.
    ///
    /// # Errors
    /// Those of `openat`: `ENOENT`, `ENOTDIR`, `EACCES` …
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = call("openat", || show(path), || rustix::fs::openat(CWD, path, flags, Mode::empty()))?;
        Ok(Self::from_fd(fd, path))
    }

    /// Takes a descriptor that is known to be a directory; `path` is what messages call it.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { fd: Arc::new(fd), path: path.into().into() }
    }

    /// Opens the directory that holds the last component of a path.
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn holding(path: &Path) -> Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self::open(parent.unwrap_or(Path::new(".")))
    }

    /// The same directory under the name that messages are to call it by.
    #[must_use]
    pub fn called(self, path: impl Into<PathBuf>) -> Self {
        Self { fd: self.fd, path: path.into().into() }
    }

    /// Where this directory was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An entry of this directory as messages show it.
    pub fn show(&self, name: &[u8]) -> String {
        if name.is_empty() { show(&self.path) } else { show(&self.child_path(name)) }
    }

    fn child_path(&self, name: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(name))
    }

    /// Opens a subdirectory; a symlink is `ENOTDIR` (Linux says so for `O_DIRECTORY | O_NOFOLLOW`).
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn open_dir(&self, name: &[u8]) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd =
            call("openat", || self.show(name), || rustix::fs::openat(&self.fd, name, flags, Mode::empty()))?;
        Ok(Self::from_fd(fd, self.child_path(name)))
    }

    /// Opens a file for reading, without blocking on a fifo and without following a symlink (`ELOOP`).
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn open_file(&self, name: &[u8]) -> Result<File> {
        self.open_with(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn open_file_rw(&self, name: &[u8]) -> Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::NONBLOCK, 0)
    }

    /// Creates a file that must not exist yet and opens it for reading and writing.
    ///
    /// # Errors
    /// `EEXIST`, and those of `openat`.
    pub fn create_file(&self, name: &[u8], mode: u32) -> Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// Opens a file for reading and writing, creating it if it is missing and keeping what is there.
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn open_or_create_file(&self, name: &[u8], mode: u32) -> Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE, mode)
    }

    /// Opens whatever lies at `name` as a bare handle (`O_PATH`): for mounts and comparisons.
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn open_handle(&self, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        call("openat", || self.show(name), || rustix::fs::openat(&self.fd, name, flags, Mode::empty()))
    }

    fn open_with(&self, name: &[u8], flags: OFlags, mode: u32) -> Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode);
        let fd = call("openat", || self.show(name), || rustix::fs::openat(&self.fd, name, flags, mode))?;
        Ok(File::from_fd(fd, self.child_path(name)))
    }

    /// Makes a subdirectory (the process's umask applies).
    ///
    /// # Errors
    /// `EEXIST`, and those of `mkdirat`.
    pub fn make_dir(&self, name: &[u8], mode: u32) -> Result<()> {
        call("mkdirat", || self.show(name), || rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)))
    }

    /// Makes a subdirectory unless it is there, and opens it.
    ///
    /// # Errors
    /// Those of `mkdirat` and `openat`.
    pub fn ensure_dir(&self, name: &[u8], mode: u32) -> Result<Self> {
        // Nearly always it is there.
        match self.open_dir(name) {
            Err(error) if error.is_not_found() => match self.make_dir(name, mode) {
                Err(error) if !error.is_exists() => Err(error),
                _ => self.open_dir(name),
            },
            opened => opened,
        }
    }

    /// Makes a symlink with this text.
    ///
    /// # Errors
    /// `EEXIST`, and those of `symlinkat`.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> Result<()> {
        call("symlinkat", || self.show(name), || rustix::fs::symlinkat(target, &self.fd, name))
    }

    /// Makes a fifo, socket or device.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` without the privilege, and those of `mknodat`.
    pub fn make_node(&self, name: &[u8], kind: FileType, mode: u32, device: DeviceId) -> Result<()> {
        let raw = match kind {
            FileType::Fifo => RawType::Fifo,
            FileType::CharDevice => RawType::CharacterDevice,
            FileType::BlockDevice => RawType::BlockDevice,
            FileType::Socket => RawType::Socket,
            _ => RawType::RegularFile,
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        call(
            "mknodat",
            || self.show(name),
            || rustix::fs::mknodat(&self.fd, name, raw, Mode::from_raw_mode(mode), number),
        )
    }

    /// Gives the entry `name` of this directory another name, `new_name` in `new_dir`; symlinks are not followed.
    ///
    /// # Errors
    /// `EEXIST`, `EMLINK`, and those of `linkat`.
    pub fn link(&self, name: &[u8], new_dir: &Self, new_name: &[u8]) -> Result<()> {
        call(
            "linkat",
            || format!("{}, {}", self.show(name), new_dir.show(new_name)),
            || rustix::fs::linkat(&self.fd, name, &new_dir.fd, new_name, AtFlags::empty()),
        )
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// Those of `unlinkat`.
    pub fn unlink(&self, name: &[u8]) -> Result<()> {
        call("unlinkat", || self.show(name), || rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOTEMPTY`, and those of `unlinkat`.
    pub fn remove_dir(&self, name: &[u8]) -> Result<()> {
        call("unlinkat", || self.show(name), || rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR))
    }

    /// Renames, replacing what is at the new name.
    ///
    /// # Errors
    /// Those of `renameat2`.
    pub fn rename(&self, name: &[u8], new_dir: &Self, new_name: &[u8]) -> Result<()> {
        self.rename_with(name, new_dir, new_name, RenameFlags::empty())
    }

    /// Renames, unless the new name is taken (`EEXIST`).
    ///
    /// # Errors
    /// `EEXIST`, and those of `renameat2`.
    pub fn rename_noreplace(&self, name: &[u8], new_dir: &Self, new_name: &[u8]) -> Result<()> {
        self.rename_with(name, new_dir, new_name, RenameFlags::NOREPLACE)
    }

    /// Swaps two entries.
    ///
    /// # Errors
    /// Those of `renameat2`.
    pub fn exchange(&self, name: &[u8], other_dir: &Self, other_name: &[u8]) -> Result<()> {
        self.rename_with(name, other_dir, other_name, RenameFlags::EXCHANGE)
    }

    fn rename_with(&self, name: &[u8], new_dir: &Self, new_name: &[u8], flags: RenameFlags) -> Result<()> {
        call(
            "renameat2",
            || format!("{}, {}", self.show(name), new_dir.show(new_name)),
            || rustix::fs::renameat_with(&self.fd, name, &new_dir.fd, new_name, flags),
        )
    }

    /// What the entry is; symlinks are not followed.
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn stat(&self, name: &[u8]) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let statx =
            call("statx", || self.show(name), || rustix::fs::statx(&self.fd, name, flags, Stat::WANTED))?;
        Ok(Stat::from_statx(&statx))
    }

    /// What the entry is, or none when there is no such name.
    ///
    /// # Errors
    /// Those of `statx` other than `ENOENT`.
    pub fn try_stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What this directory itself is.
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn stat_self(&self) -> Result<Stat> {
        let statx = call(
            "statx",
            || self.show(b""),
            || rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, Stat::WANTED),
        )?;
        Ok(Stat::from_statx(&statx))
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// `EINVAL` when it is none, and those of `readlinkat`.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let text =
            call("readlinkat", || self.show(name), || rustix::fs::readlinkat(&self.fd, name, Vec::new()))?;
        Ok(text.into_bytes())
    }

    /// Sets owner and group of an entry, not following a symlink; `.` is the directory itself. Clears
    /// set-user-id bits and file capabilities: set mode and xattrs afterwards.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL` for an id that the user namespace does not map, and those of `fchownat`.
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> Result<()> {
        call(
            "fchownat",
            || format!("{}, {uid}, {gid}", self.show(name)),
            || {
                rustix::fs::chownat(
                    &self.fd,
                    name,
                    Some(Uid::from_raw(uid)),
                    Some(Gid::from_raw(gid)),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
            },
        )
    }

    /// Sets the permission bits of an entry that is known not to be a symlink.
    ///
    /// `fchmodat` follows symlinks, so the caller must own the tree or use [`File::set_mode`].
    ///
    /// # Errors
    /// Those of `fchmodat`.
    pub fn set_mode(&self, name: &[u8], mode: u32) -> Result<()> {
        call(
            "fchmodat",
            || format!("{}, 0o{mode:o}", self.show(name)),
            || rustix::fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty()),
        )
    }

    /// Sets the permission bits of an entry that is not a symlink; if one is swapped in, the call fails with
    /// `EOPNOTSUPP` instead of following it.
    ///
    /// # Errors
    /// Those of `openat` and `chmod`.
    pub fn set_mode_nofollow(&self, name: &[u8], mode: u32) -> Result<()> {
        use std::os::fd::AsRawFd as _;
        let handle = self.open_handle(name)?;
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        call(
            "chmod",
            || format!("{}, 0o{mode:o}", self.show(name)),
            || rustix::fs::chmod(&*path, Mode::from_raw_mode(mode)),
        )
    }

    /// Sets the permission bits of this directory itself.
    ///
    /// # Errors
    /// Those of `fchmod`.
    pub fn set_mode_self(&self, mode: u32) -> Result<()> {
        call(
            "fchmod",
            || format!("{}, 0o{mode:o}", self.show(b"")),
            || rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)),
        )
    }

    /// Sets the modification time of an entry, not following a symlink; `.` is the directory itself.
    ///
    /// # Errors
    /// Those of `utimensat`.
    pub fn set_mtime(&self, name: &[u8], mtime: Timestamp) -> Result<()> {
        call(
            "utimensat",
            || self.show(name),
            || rustix::fs::utimensat(&self.fd, name, &only_mtime(mtime), AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    /// Makes the names of this directory durable.
    ///
    /// # Errors
    /// Those of `fsync`; never try again after one, the pages count as clean then.
    pub fn sync(&self) -> Result<()> {
        call("fsync", || self.show(b""), || rustix::fs::fsync(&self.fd))
    }

    /// Makes the whole file system that holds this directory durable. Errors of earlier write-back are reported
    /// since Linux 5.8, if this descriptor was opened before the writes.
    ///
    /// # Errors
    /// Those of `syncfs`.
    pub fn sync_file_system(&self) -> Result<()> {
        call("syncfs", || self.show(b""), || rustix::fs::syncfs(&self.fd))
    }
}

/// Times for `utimensat` that leave the access time alone.
pub(crate) fn only_mtime(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    }
}
