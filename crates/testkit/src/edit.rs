//! Operations of programs on a mounted tree.

use std::io;

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{Dir, Errno, FileType, Timestamp};

use crate::disk;
use crate::path::Path;
use crate::tree::Inode;

/// One thing that a program does to a tree. Symlinks are not followed, in no component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Makes an entry where there is none, with its metadata.
    Make(Path, Inode),
    /// Writes bytes at an offset of a file.
    Write(Path, u64, Vec<u8>),
    /// Sets the length of a file.
    Truncate(Path, u64),
    /// Gives the first another name, the second.
    Link(Path, Path),
    /// Removes a name that is not a directory.
    Unlink(Path),
    /// Removes an empty directory.
    RemoveDir(Path),
    /// Removes a whole tree, entry by entry.
    RemoveTree(Path),
    /// Renames the first to the second, over what is there.
    Rename(Path, Path),
    /// `chmod`.
    SetMode(Path, u32),
    /// `chown`.
    SetOwner(Path, u32, u32),
    /// `utimensat`.
    SetTime(Path, i64, u32),
    /// `setxattr`.
    SetXattr(Path, Vec<u8>, Vec<u8>),
    /// `removexattr`; one that is not there is left alone.
    RemoveXattr(Path, Vec<u8>),
}

impl Edit {
    /// Does it below a directory.
    ///
    /// # Errors
    /// The failing call's errno; nothing was changed then. A directory that is not empty is `ENOTEMPTY`, also
    /// where the file system says `EEXIST`: POSIX allows both.
    pub fn perform(&self, root: &Dir) -> Result<(), Errno> {
        self.attempt(root).map_err(|error| {
            let full = matches!(self, Self::Rename(..) | Self::RemoveDir(_));
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<layerstore_sys::Error>());
            let errno = inner.map_or_else(
                || Errno::from_io_error(&error).unwrap_or(Errno::IO),
                layerstore_sys::Error::errno,
            );
            if full && errno == Errno::EXIST { Errno::NOTEMPTY } else { errno }
        })
    }

    fn attempt(&self, root: &Dir) -> io::Result<()> {
        match self {
            Self::Make(path, inode) => {
                let (dir, name) = disk::descend(root, path)?;
                if dir.try_stat(name)?.is_some() {
                    return Err(Errno::EXIST.into());
                }
                disk::make(&dir, name, inode)
            }
            Self::Write(path, offset, bytes) => Ok(open(root, path)?.write_all_at(bytes, *offset)?),
            Self::Truncate(path, length) => Ok(open(root, path)?.set_length(*length)?),
            Self::Link(old, new) => {
                let ((from, old), (to, new)) = (disk::descend(root, old)?, disk::descend(root, new)?);
                Ok(from.link(old, &to, new)?)
            }
            Self::Unlink(path) => {
                let (dir, name) = disk::descend(root, path)?;
                Ok(dir.unlink(name)?)
            }
            Self::RemoveDir(path) => {
                let (dir, name) = disk::descend(root, path)?;
                Ok(dir.remove_dir(name)?)
            }
            Self::RemoveTree(path) => {
                let (dir, name) = disk::descend(root, path)?;
                remove_tree(&dir, name)
            }
            Self::Rename(old, new) => {
                let ((from, old), (to, new)) = (disk::descend(root, old)?, disk::descend(root, new)?);
                Ok(from.rename(old, &to, new).map_err(|error| match error.errno() {
                    // rename(2) allows both for a directory that is not empty; xfs says the one, overlay the other.
                    Errno::EXIST => layerstore_sys::Error::new("renameat2", "", Errno::NOTEMPTY),
                    _ => error,
                })?)
            }
            Self::SetMode(path, mode) => {
                let (dir, name) = disk::descend(root, path)?;
                if dir.stat(name)?.kind == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP.into());
                }
                Ok(dir.set_mode(name, *mode)?)
            }
            Self::SetOwner(path, uid, gid) => {
                let (dir, name) = disk::descend(root, path)?;
                Ok(dir.set_owner(name, *uid, *gid)?)
            }
            Self::SetTime(path, seconds, nanos) => {
                let (dir, name) = disk::descend(root, path)?;
                Ok(dir.set_mtime(name, Timestamp { seconds: *seconds, nanos: *nanos })?)
            }
            Self::SetXattr(path, attribute, value) => {
                let (dir, name) = disk::descend(root, path)?;
                Ok(xattr::set(On::Entry(&dir, name), attribute, value)?)
            }
            Self::RemoveXattr(path, attribute) => {
                let (dir, name) = disk::descend(root, path)?;
                Ok(xattr::remove(On::Entry(&dir, name), attribute)?)
            }
        }
    }
}

fn open(root: &Dir, path: &Path) -> io::Result<layerstore_sys::File> {
    let (dir, name) = disk::descend(root, path)?;
    // A device or fifo must not be opened by a test.
    match dir.stat(name)?.kind {
        FileType::Regular => Ok(dir.open_file_rw(name)?),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(Errno::INVAL.into()),
    }
}

fn remove_tree(dir: &Dir, name: &[u8]) -> io::Result<()> {
    if dir.stat(name)?.kind != FileType::Directory {
        return Ok(dir.unlink(name)?);
    }
    let inner = dir.open_dir(name)?;
    for entry in inner.entries()? {
        remove_tree(&inner, &entry.name)?;
    }
    Ok(dir.remove_dir(name)?)
}
