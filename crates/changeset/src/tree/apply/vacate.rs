//! What the target has at a place, and how it makes room for what is put there.

use layerstore_sys::{Dir, FileType, Stat};

use super::Applier;
use super::places::{ALIVE, Key, PUT};
use crate::error::Result;

/// What the target has at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Nothing,
    Whiteout,
    Directory,
    Other(Stat),
}

impl Applier<'_> {
    /// Makes a place of the target free for something that is not a directory, and returns its directory.
    pub(super) fn vacate(&mut self, row: u32, name: &[u8], key: Key) -> Result<Dir> {
        let own = self.writable(row)?;
        match self.own(row, &own, name, key)? {
            Own::Nothing => {}
            Own::Whiteout => {
                self.tally.give_up();
                own.unlink(name)?;
            }
            Own::Other(stat) => self.unlink(&own, name, key, &stat)?,
            Own::Directory => self.remove_tree(&own, name, key)?,
        }
        // A directory of the lower layers may be cached that is hidden from now on.
        if self.places.is_directory(key)? {
            self.places.forget();
        }
        Ok(own)
    }

    /// What the target itself has at a place.
    pub(super) fn own(&mut self, row: u32, own: &Dir, name: &[u8], key: Key) -> Result<Own> {
        if self.places.is_vacant(row, key)? {
            return Ok(Own::Nothing);
        }
        if self.places.marks(key)?.is_some_and(|marks| marks & PUT != 0) {
            self.settle()?;
        }
        Ok(match own.try_stat(name)? {
            None => Own::Nothing,
            Some(stat) if stat.kind == FileType::Directory => Own::Directory,
            Some(stat) if self.namespace().is_some() && stat.is_whiteout_device() => Own::Whiteout,
            Some(stat) => Own::Other(stat),
        })
    }

    /// Removes an entry of the target that is not a directory and that another one replaces.
    pub(super) fn unlink(&mut self, own: &Dir, name: &[u8], key: Key, stat: &Stat) -> Result<()> {
        if stat.kind == FileType::Regular && self.places.marks(key)?.is_some_and(|marks| marks & PUT != 0) {
            self.applied.replaced += 1;
        }
        if stat.kind == FileType::Symlink {
            self.places.forget();
        }
        self.tally.give_up();
        Ok(own.unlink(name)?)
    }

    /// Removes a directory of the target with everything in it.
    pub(super) fn remove_tree(&mut self, own: &Dir, name: &[u8], key: Key) -> Result<()> {
        if self.places.marks(key)?.is_some_and(|marks| marks & (ALIVE | PUT) != 0) {
            self.settle()?;
            self.applied.replaced += self.count_files(own.open_dir(name)?, key)?;
        }
        self.places.forget();
        self.tally.give_up();
        Ok(layerstore_sys::remove::tree(own, name)?)
    }

    /// How many files of this stream lie in a directory of the target.
    fn count_files(&mut self, dir: Dir, key: Key) -> Result<u64> {
        let mut count = 0;
        let entries = dir.entries()?;
        let mut stack = vec![(dir, key, entries)];
        while let Some((dir, key, pending)) = stack.last_mut() {
            let Some(entry) = pending.pop() else {
                stack.pop();
                continue;
            };
            let place = self.places.key_below(*key, &entry.name);
            let Some(marks) = self.places.marks(place)? else { continue };
            match dir.try_stat(&entry.name)?.map(|stat| stat.kind) {
                Some(FileType::Regular) if marks & PUT != 0 => count += 1,
                Some(FileType::Directory) => {
                    let child = dir.open_dir(&entry.name)?;
                    let entries = child.entries()?;
                    stack.push((child, place, entries));
                }
                _ => {}
            }
        }
        Ok(count)
    }
}
