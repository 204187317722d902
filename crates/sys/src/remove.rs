//! Removing whole trees: by descriptors, without recursion, without following a symlink or leaving the file
//! system; subvolumes of btrfs in a tree belong to it, and files that are protected by flags (`chattr +i`) go, too.

use crate::dir::Dir;
use crate::error::{Errno, Result, call};
use crate::protect;
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
    match or_unprotected(dir, name, Dir::unlink) {
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
    // Each level: the open directory, which inode it is, its name in the level above, and some subdirectories still
    // to do. Only the lowest levels keep their descriptors; on the way back up the others are opened again as
    // `..`, and have to be the same inode then, so nobody can lead the walk elsewhere by moving a directory.
    let mut stack = vec![Level::new(top, &stat, name.to_vec())];
    while let Some(level) = stack.last_mut() {
        let Some(current) = level.dir.clone() else {
            return Err(crate::Error::new("openat", dir.show(name), Errno::BADF));
        };
        if level.pending.is_empty() && !level.empty {
            let from = level.place;
            level.place = unlink_files(&current, from, &mut level.pending)?;
            // File systems differ in what a place means once something was removed: what was read in pieces is
            // read again until nothing is there.
            level.empty = level.place.is_none() && from.is_none();
        }
        if let Some(next) = level.pending.pop() {
            let child = current.open_dir(&next)?;
            let stat = child.stat_self()?;
            if stat.device != level.device && !is_inner_subvolume(&child, &stat)? {
                return Err(crate::Error::new("unlinkat", current.show(&next), Errno::XDEV));
            }
            if let Some(above) = stack.len().checked_sub(MAX_OPEN).and_then(|index| stack.get_mut(index)) {
                above.dir = None;
            }
            stack.push(Level::new(child, &stat, next));
            continue;
        }
        if !level.empty {
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
            match or_unprotected(parent, &finished.name, Dir::remove_dir) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes an entry, and where that is refused, tries again without the flags that protect it.
fn or_unprotected(dir: &Dir, name: &[u8], remove: impl Fn(&Dir, &[u8]) -> Result<()>) -> Result<()> {
    match remove(dir, name) {
        Err(error) if error.errno() == Errno::PERM && protect::lift(dir, name).unwrap_or(false) => {
            remove(dir, name)
        }
        done => done,
    }
}

/// Most levels that keep their descriptors.
const MAX_OPEN: usize = 64;

struct Level {
    dir: Option<Dir>,
    device: DeviceId,
    inode: u64,
    name: Vec<u8>,
    /// Subdirectories that were found and are still to be removed.
    pending: Vec<Vec<u8>>,
    /// Where to go on reading; at the start where there is none.
    place: Option<u64>,
    /// Whether nothing but those subdirectories is left.
    empty: bool,
}

impl Level {
    fn new(dir: Dir, stat: &Stat, name: Vec<u8>) -> Self {
        let Stat { device, inode, .. } = *stat;
        Self { dir: Some(dir), device, inode, name, pending: Vec::new(), place: None, empty: false }
    }
}

/// Whether a directory with another device number than the one above it is a subvolume of btrfs that lies there, and
/// nothing that is mounted there. On kernels that do not tell mount points (before Linux 5.8) it counts as mounted.
fn is_inner_subvolume(dir: &Dir, stat: &Stat) -> Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    if !crate::btrfs::is_subvolume(dir, stat)? {
        return Ok(false);
    }
    let flags = AtFlags::EMPTY_PATH;
    let answer = call("statx", || dir.show(b""), || statx(dir, c"", flags, StatxFlags::TYPE))?;
    let is_root = StatxAttributes::MOUNT_ROOT;
    Ok(answer.stx_attributes_mask.contains(is_root) && !answer.stx_attributes.contains(is_root))
}

/// Unlinks what is not a directory among some entries of `dir`, gives the names of those that are, and says where
/// the next entries begin. Memory does not depend on how many there are.
fn unlink_files(dir: &Dir, from: Option<u64>, directories: &mut Vec<Vec<u8>>) -> Result<Option<u64>> {
    let batch = dir.batch(from)?;
    for entry in batch.entries {
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
        match or_unprotected(dir, &entry.name, Dir::unlink) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(batch.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_many_entries_is_read_in_pieces_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        let many = root.ensure_dir(b"many", 0o700).unwrap();
        for n in 0..3000 {
            let name = format!("{n:0>100}");
            if n % 3 == 0 {
                let below = many.ensure_dir(name.as_bytes(), 0o700).unwrap();
                below.create_file(b"f", 0o600).unwrap();
            } else {
                many.create_file(name.as_bytes(), 0o600).unwrap();
            }
        }
        let (mut names, mut place, mut pieces) = (Vec::new(), None, 0);
        loop {
            let batch = many.batch(place).unwrap();
            names.extend(batch.entries.into_iter().map(|entry| entry.name));
            pieces += 1;
            place = batch.next;
            if place.is_none() {
                break;
            }
        }
        assert!(pieces > 5, "{pieces} pieces");
        let mut all: Vec<_> = many.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        all.sort();
        assert_eq!(names, all);
        assert_eq!(all.len(), 3000);
        tree(&root, b"many").unwrap();
        assert_eq!(root.entries().unwrap().len(), 0);
    }
}
