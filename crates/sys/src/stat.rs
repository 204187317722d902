//! What the kernel says of a file.

use rustix::fs::{Statx, StatxFlags};

/// What kind of file an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A unix socket.
    Socket,
    /// None of these.
    Unknown,
}

impl FileType {
    pub(crate) fn from_rustix(kind: rustix::fs::FileType) -> Self {
        use rustix::fs::FileType as T;
        match kind {
            T::RegularFile => Self::Regular,
            T::Directory => Self::Directory,
            T::Symlink => Self::Symlink,
            T::Fifo => Self::Fifo,
            T::CharacterDevice => Self::CharDevice,
            T::BlockDevice => Self::BlockDevice,
            T::Socket => Self::Socket,
            T::Unknown => Self::Unknown,
        }
    }
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A point in time to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that, below 10^9.
    pub nanos: u32,
}

/// The facts of one inode, from one `statx` call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileType,
    /// Permission bits with set-user-id, set-group-id and sticky (at most `0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Number of names.
    pub links: u32,
    /// Inode number, unique together with `device`.
    pub inode: u64,
    /// The file system's device.
    pub device: DeviceId,
    /// For devices, which one.
    pub represents: DeviceId,
    /// Last modification.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

impl Stat {
    pub(crate) const WANTED: StatxFlags = StatxFlags::BASIC_STATS;

    pub(crate) fn from_statx(statx: &Statx) -> Self {
        Self {
            kind: FileType::from_rustix(rustix::fs::FileType::from_raw_mode(u32::from(statx.stx_mode))),
            mode: u32::from(statx.stx_mode) & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            links: statx.stx_nlink,
            inode: statx.stx_ino,
            device: DeviceId { major: statx.stx_dev_major, minor: statx.stx_dev_minor },
            represents: DeviceId { major: statx.stx_rdev_major, minor: statx.stx_rdev_minor },
            mtime: Timestamp { seconds: statx.stx_mtime.tv_sec, nanos: statx.stx_mtime.tv_nsec },
            ctime: Timestamp { seconds: statx.stx_ctime.tv_sec, nanos: statx.stx_ctime.tv_nsec },
        }
    }

    /// Whether this is a character device 0/0, the overlay file system's whiteout.
    pub fn is_whiteout_device(&self) -> bool {
        self.kind == FileType::CharDevice && self.represents == DeviceId { major: 0, minor: 0 }
    }

    /// Whether both are the same inode of the same file system.
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
