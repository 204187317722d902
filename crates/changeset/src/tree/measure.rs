//! The space that a layer takes by itself.

use std::collections::HashSet;

use layerstore_sys::{Dir, FileType};

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
    // Names still to do of each level, so that one descriptor per level is open.
    let mut stack: Vec<(Dir, Vec<Vec<u8>>)> = vec![(tree.root.clone(), names(&tree.root)?)];
    while let Some((dir, pending)) = stack.last_mut() {
        context.check()?;
        let Some(name) = pending.pop() else {
            stack.pop();
            continue;
        };
        let Some(stat) = dir.try_stat(&name)? else { continue };
        if stat.kind == FileType::Directory {
            usage.bytes += stat.blocks * 512;
            usage.inodes += 1;
            match dir.open_dir(&name) {
                Ok(child) => {
                    let below = names(&child)?;
                    stack.push((child, below));
                }
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

fn names(dir: &Dir) -> Result<Vec<Vec<u8>>> {
    match dir.entries() {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
