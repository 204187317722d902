//! The one language for what a layer does: changes, entries and their metadata.

use std::collections::BTreeMap;

use crate::path::RelPath;

/// One thing that a layer does to its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts an entry at its path, replacing what is there completely; a directory over a directory keeps the
    /// children and takes the new metadata.
    Put(Entry),
    /// Hides the name in the lower layers (a whiteout); a name that they don't have is left alone.
    Remove(RelPath),
    /// Hides everything that the lower layers have in this directory.
    Opaque(RelPath),
}

impl Change {
    /// The path that the change is about.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Put(entry) => &entry.path,
            Self::Remove(path) | Self::Opaque(path) => path,
        }
    }
}

/// A name in a layer, what it is and its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: RelPath,
    /// What it is.
    pub kind: Kind,
    /// Owner, mode, time and xattrs. For [`Kind::HardLink`] a copy of its target's, for the programs that set it
    /// again when they read it in a tar; a sink of ours ignores it.
    pub metadata: Metadata,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of `size` bytes (holes counted); its data follows as a stream.
    File {
        /// Logical size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link; the target is kept as it is written, any bytes without NUL, not empty.
    Symlink {
        /// The link's text.
        target: Box<[u8]>,
    },
    /// Another name for an entry that this stream put before or that a lower layer has.
    HardLink {
        /// The other name, from the layer's root.
        target: RelPath,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A unix socket. Tar cannot say it: a tar sink skips it with a warning.
    Socket,
}

impl Kind {
    /// Whether it is a character device 0/0, which no layer can show: overlay file systems read it as a whiteout.
    pub const fn is_whiteout_device(&self) -> bool {
        matches!(self, Self::CharDevice(Device { major: 0, minor: 0 }))
    }
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// Major number, below 2^12 where the kernel is to create it.
    pub major: u32,
    /// Minor number, below 2^20 where the kernel is to create it.
    pub minor: u32,
}

/// What every entry carries besides its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Owner, as stored (before any id mapping).
    pub uid: u32,
    /// Group, as stored.
    pub gid: u32,
    /// Permission bits with set-user-id, set-group-id and sticky: at most `0o7777`.
    pub mode: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Every extended attribute that is the user's own, POSIX ACLs (`system.posix_acl_*`, in the kernel's
    /// xattr form) and file capabilities (`security.capability`) included; the encodings' reserved ones never.
    pub xattrs: Xattrs,
}

/// Extended attributes, full name (`user.note`) to value.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// A point in time to the nanosecond, also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 10^9.
    pub nanos: u32,
}
