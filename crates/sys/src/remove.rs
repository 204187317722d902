//! Removing whole trees: by descriptors, without recursion, without following a symlink or leaving the file
//! system.

use crate::dir::Dir;
use crate::error::{Errno, Result};
use crate::stat::FileType;

/// Removes the entry `name` of `dir` with everything below it. A name that is not there is left alone.
///
/// # Errors
/// Those of the calls made; `EXDEV` when something is mounted below, which stays untouched.
pub fn tree(dir: &Dir, name: &[u8]) -> Result<()> {
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
    let device = top.stat_self()?.device;
    // Each level: the open directory, its name in the level above, and the subdirectories still to do. A level
    // keeps its descriptor, so depth is bounded by the limit of descriptors; layers stay far below it because
    // paths have at most 1,024 components.
    let mut stack = vec![(top, name.to_vec(), None::<Vec<Vec<u8>>>)];
    while let Some((current, _, pending)) = stack.last_mut() {
        let subdirectories = match pending {
            Some(subdirectories) => subdirectories,
            None => pending.insert(unlink_files(current)?),
        };
        if let Some(next) = subdirectories.pop() {
            let child = current.open_dir(&next)?;
            if child.stat_self()?.device != device {
                return Err(crate::Error::new("unlinkat", current.show(&next), Errno::XDEV));
            }
            stack.push((child, next, None));
            continue;
        }
        if let Some((_, finished, _)) = stack.pop() {
            let parent = stack.last().map_or(dir, |(parent, _, _)| parent);
            match parent.remove_dir(&finished) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
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
