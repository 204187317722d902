//! Removing whole trees: by descriptors, without recursion, without following a symlink or leaving the file
//! system; subvolumes of btrfs in a tree belong to it.

use crate::dir::Dir;
use crate::error::{Errno, Result, call};
use crate::stat::{DeviceId, FileType, Stat};

/// Removes the entry `name` of `dir` with everything below it. A name that is not there is left alone.
///
/// # Errors
/// Those of the calls made; `EXDEV` when something is mounted below, which stays untouched.
pub fn tree(dir: &Dir, name: &[u8]) -> Result<()> {
    tree_with(dir, name, |_, _| {})
}

/// As [`tree`]; `before` is called with the directory at the top, where it is one, before anything is removed.
///
/// # Errors
/// As those of [`tree`].
pub fn tree_with(dir: &Dir, name: &[u8], before: impl FnOnce(&Dir, &Stat)) -> Result<()> {
    match dir.unlink(name) {
        Ok(()) => return Ok(()),
        Err(error) if error.is_not_found() => return Ok(()),
        // Linux answers EISDIR, POSIX EPERM.
        Err(error) if matches!(error.errno(), Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = match dir.open_dir(name) {
        Err(error) if error.is_not_found() => return Ok(()),
        opened => opened?,
    };
    let stat = top.stat_self()?;
    before(&top, &stat);
    let device = stat.device;
    // Each level: the open directory, which inode it is, its name in the level above, and the subdirectories still
    // to do. Only the lowest levels keep their descriptors; on the way back up the others are opened again as
    // `..`, and have to be the same inode then, so nobody can lead the walk elsewhere by moving a directory.
    let mut stack =
        vec![Level { dir: Some(top), device, inode: stat.inode, name: name.to_vec(), pending: None }];
    while let Some(level) = stack.last_mut() {
        let Some(current) = level.dir.clone() else {
            return Err(crate::Error::new("openat", dir.show(name), Errno::BADF));
        };
        let subdirectories = match &mut level.pending {
            Some(subdirectories) => subdirectories,
            None => level.pending.insert(unlink_files(&current)?),
        };
        if let Some(next) = subdirectories.pop() {
            let child = current.open_dir(&next)?;
            let stat = child.stat_self()?;
            if stat.device != level.device && !is_inner_subvolume(&child)? {
                return Err(crate::Error::new("unlinkat", current.show(&next), Errno::XDEV));
            }
            if let Some(above) = stack.len().checked_sub(MAX_OPEN).and_then(|index| stack.get_mut(index)) {
                above.dir = None;
            }
            let Stat { device, inode, .. } = stat;
            stack.push(Level { dir: Some(child), device, inode, name: next, pending: None });
            continue;
        }
        if let Some(finished) = stack.pop() {
            if let Some(above) = stack.last_mut()
                && above.dir.is_none()
            {
                let parent = current.open_dir(b"..")?;
                let stat = parent.stat_self()?;
                if (stat.device, stat.inode) != (above.device, above.inode) {
                    return Err(crate::Error::new("openat", parent.show(b""), Errno::STALE));
                }
                above.dir = Some(parent);
            }
            let parent = stack.last().and_then(|above| above.dir.as_ref()).unwrap_or(dir);
            match parent.remove_dir(&finished.name) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Most levels that keep their descriptors.
const MAX_OPEN: usize = 64;

struct Level {
    dir: Option<Dir>,
    device: DeviceId,
    inode: u64,
    name: Vec<u8>,
    pending: Option<Vec<Vec<u8>>>,
}

/// Whether a directory with another device number than the one above it is a subvolume of btrfs that lies there, and
/// nothing that is mounted there. On kernels that do not tell mount points (before Linux 5.8) it counts as mounted.
fn is_inner_subvolume(dir: &Dir) -> Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    if !crate::btrfs::is_subvolume(dir)? {
        return Ok(false);
    }
    let flags = AtFlags::EMPTY_PATH;
    let answer = call("statx", || dir.show(b""), || statx(dir, c"", flags, StatxFlags::TYPE))?;
    let is_root = StatxAttributes::MOUNT_ROOT;
    Ok(answer.stx_attributes_mask.contains(is_root) && !answer.stx_attributes.contains(is_root))
}

/// Unlinks everything in `dir` that is not a directory and returns the names of those that are.
fn unlink_files(dir: &Dir) -> Result<Vec<Vec<u8>>> {
    let mut directories = Vec::new();
    for entry in dir.entries()? {
        let is_directory = match entry.kind {
            FileType::Directory => true,
            FileType::Unknown => {
                dir.try_stat(&entry.name)?.is_some_and(|stat| stat.kind == FileType::Directory)
            }
            _ => false,
        };
        if is_directory {
            directories.push(entry.name);
            continue;
        }
        match dir.unlink(&entry.name) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(directories)
}
