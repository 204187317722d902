//! The space that a layer takes by itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use layerstore_sys::{Dir, FileType, Stat};

use super::names::Names;
use super::view::{LayerTree, is_gone};
use crate::context::Context;
use crate::error::Result;

/// Space that a layer takes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Bytes on disk (blocks), each inode counted once.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Measures a layer by walking it, the root counted. Whiteouts count as what they are.
///
/// # Errors
/// System calls and cancellation.
pub fn measure(tree: &LayerTree, context: &Context) -> Result<Usage> {
    let root = tree.root.stat_self()?;
    let mut usage = Usage { bytes: root.blocks * 512, inodes: 1 };
    // Inodes with several names that were counted.
    let mut seen = HashSet::new();
    // One descriptor per level is open.
    let mut stack = vec![(tree.root.clone(), Names::new())];
    while let Some((dir, pending)) = stack.last_mut() {
        context.check()?;
        let Some(name) = pending.next(dir)? else {
            stack.pop();
            continue;
        };
        let Some(stat) = dir.try_stat(&name)? else { continue };
        if stat.kind == FileType::Directory {
            usage.bytes += stat.blocks * 512;
            usage.inodes += 1;
            match dir.open_dir(&name) {
                Ok(child) => stack.push((child, Names::new())),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        } else if stat.links == 1 || seen.insert((stat.device, stat.inode)) {
            usage.bytes += stat.blocks * 512;
            usage.inodes += 1;
        }
    }
    Ok(usage)
}

/// Counts what a tree takes while it is being made, so that nobody has to walk it afterwards. Several threads count
/// at once.
///
/// Invariant: what is counted is what [`measure`] would say, or it is given up. It holds for a tree that was empty,
/// as long as nothing that was counted is removed or changed again.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    inodes: AtomicU64,
    lost: AtomicBool,
}

impl Tally {
    /// Begins to count for a tree.
    ///
    /// # Errors
    /// Those of `openat` and `getdents64`.
    pub(crate) fn of(root: &Dir) -> Result<Self> {
        let tally = Self::default();
        if !root.entries()?.is_empty() {
            tally.give_up();
        }
        Ok(tally)
    }

    /// Counting would be wrong from here on.
    pub(crate) fn give_up(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Counts an entry that is complete: closed, since a file system may give back then what it set aside.
    ///
    /// # Errors
    /// Those of `statx`.
    pub(crate) fn entry(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        if !self.lost.load(Ordering::Relaxed) {
            // Somebody who takes it away meanwhile is told elsewhere.
            dir.try_stat(name)?.map_or_else(|| self.give_up(), |stat| self.add(&stat));
        }
        Ok(())
    }

    /// Counts a directory with everything in it.
    ///
    /// # Errors
    /// Those of `statx`.
    pub(crate) fn directory(&self, dir: &Dir) -> Result<()> {
        if !self.lost.load(Ordering::Relaxed) {
            self.add(&dir.stat_self()?);
        }
        Ok(())
    }

    fn add(&self, stat: &Stat) {
        self.bytes.fetch_add(stat.blocks * 512, Ordering::Relaxed);
        self.inodes.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted; none if that was given up.
    pub(crate) fn usage(self) -> Option<Usage> {
        let usage = Usage { bytes: self.bytes.into_inner(), inodes: self.inodes.into_inner() };
        (!self.lost.into_inner()).then_some(usage)
    }
}
