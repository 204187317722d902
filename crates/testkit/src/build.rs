//! Short names for writing trees and changesets down.

use crate::data::Data;
use crate::model::Change;
use crate::path::Path;
use crate::tree::{Entry, Inode, Kind};

/// A tree, written as `path => entry` pairs in order; missing parents are made.
///
/// ```
/// use layerstore_testkit::{build::*, tree};
/// let tree = tree! { "a/b" => file("text").mode(0o600), "a/c" => link("a/b"), b"\xff" => dir(0o700) };
/// assert_eq!(tree.len(), 5);
/// ```
#[macro_export]
macro_rules! tree {
    ($($path:expr => $entry:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty tree is not changed")]
        let mut tree = $crate::Tree::new();
        $(tree.put($path, $entry);)*
        tree
    }};
}

/// A regular file, 0644.
pub fn file(data: impl Into<Data>) -> Inode {
    Inode::new(Kind::File(data.into()))
}

/// A directory.
pub fn dir(mode: u32) -> Inode {
    Inode::new(Kind::Dir).mode(mode)
}

/// A symbolic link.
pub fn symlink(target: impl AsRef<[u8]>) -> Inode {
    Inode::new(Kind::Symlink(target.as_ref().to_vec()))
}

/// A named pipe.
pub fn fifo() -> Inode {
    Inode::new(Kind::Fifo)
}

/// A socket.
pub fn socket() -> Inode {
    Inode::new(Kind::Socket)
}

/// A character device.
pub fn char_device(major: u32, minor: u32) -> Inode {
    Inode::new(Kind::Char(major, minor))
}

/// A block device.
pub fn block_device(major: u32, minor: u32) -> Inode {
    Inode::new(Kind::Block(major, minor))
}

/// A hard link.
pub fn link(target: impl Into<Path>) -> Entry {
    Entry::Link(target.into())
}

/// The change that puts an entry.
pub fn put(path: impl Into<Path>, entry: impl Into<Entry>) -> Change {
    Change::Put(path.into(), entry.into())
}

/// The change that removes a name.
pub fn remove(path: impl Into<Path>) -> Change {
    Change::Remove(path.into())
}

/// The change that hides a directory's lower content.
pub fn opaque(path: impl Into<Path>) -> Change {
    Change::Opaque(path.into())
}

/// The value of `security.capability` (version 2, effective) for these permitted capabilities, as in
/// linux/capability.h: magic and flags, then permitted and inheritable, low and high words, little endian.
pub fn capability(permitted: u64) -> Vec<u8> {
    let words = [0x0200_0001, permitted as u32, 0, (permitted >> 32) as u32, 0];
    words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}

/// The value of a POSIX ACL xattr that gives `uid` these permissions besides owner, group and others of `mode`;
/// the mask is the group bits of `mode`, so that setting it changes no mode. Form: linux/posix_acl_xattr.h.
pub fn acl(mode: u32, uid: u32, permissions: u16) -> Vec<u8> {
    let (user, group, other) = ((mode >> 6 & 7) as u16, (mode >> 3 & 7) as u16, (mode & 7) as u16);
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, user, none), (2, permissions, uid), (4, group, none), (16, group, none), (32, other, none)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permission.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}
