//! The space that a layer takes by itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use layerstore_sys::{DeviceId, Dir, FileType, Stat};

use super::names::Names;
use super::pool::with_pool;
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

/// Most names that one job looks at.
const BATCH: usize = 64;
/// What a name counts for in the pool, in bytes: its threads are woken for a few hundred of them.
const WEIGHT: usize = 2 << 10;

/// Measures a layer by walking it, the root counted. Whiteouts count as what they are. One thread walks, others look
/// at what is no directory: so many as [`ApplyOptions::threads`](super::ApplyOptions::threads) says.
///
/// # Errors
/// System calls and cancellation.
pub fn measure(tree: &LayerTree, threads: usize, context: &Context) -> Result<Usage> {
    let walked = Walked::default();
    let run = |(dir, names): (Dir, Vec<Vec<u8>>)| {
        names.iter().try_for_each(|name| walked.entry(&dir, name).map(drop))
    };
    with_pool(threads, &run, |pool| {
        walked.add(&tree.root.stat_self()?);
        // One descriptor per level is open, and those of the jobs.
        let mut stack = vec![(tree.root.clone(), Names::new(), Vec::new())];
        while let Some((dir, pending, others)) = stack.last_mut() {
            context.check()?;
            let entry = pending.next_entry(dir)?;
            if others.len() == BATCH || (entry.is_none() && !others.is_empty()) {
                let names = std::mem::take(others);
                let weight = names.len() * WEIGHT;
                pool.push((dir.clone(), names), weight)?;
            }
            let Some(entry) = entry else {
                stack.pop();
                continue;
            };
            if !matches!(entry.kind, FileType::Directory | FileType::Unknown) {
                others.push(entry.name);
                continue;
            }
            if walked.entry(dir, &entry.name)? == Some(FileType::Directory) {
                match dir.open_dir(&entry.name) {
                    Ok(child) => stack.push((child, Names::new(), Vec::new())),
                    Err(error) if is_gone(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    })?;
    Ok(walked.tally.counted())
}

/// What a walk has seen so far.
#[derive(Default)]
struct Walked {
    tally: Tally,
    /// Inodes with several names that were counted.
    seen: Mutex<HashSet<(DeviceId, u64)>>,
}

impl Walked {
    /// Counts an entry; of what kind it is, if it is there.
    fn entry(&self, dir: &Dir, name: &[u8]) -> Result<Option<FileType>> {
        let stat = dir.try_stat(name)?;
        Ok(stat.inspect(|stat| self.add(stat)).map(|stat| stat.kind))
    }

    fn add(&self, stat: &Stat) {
        let once = stat.kind == FileType::Directory || stat.links == 1;
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if once || seen().insert((stat.device, stat.inode)) {
            self.tally.add(stat);
        }
    }
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
        let lost = self.lost.load(Ordering::Relaxed);
        (!lost).then(|| self.counted())
    }

    fn counted(self) -> Usage {
        Usage { bytes: self.bytes.into_inner(), inodes: self.inodes.into_inner() }
    }
}
