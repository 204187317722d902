//! The difference of two views, in normal form: a function of what the views show, however they are stored.
//!
//! - Order: a directory before its children, the names of a directory by their bytes.
//! - An entry is put when it is new or differs in kind, mode, owner, mtime (nanoseconds, directories too), xattrs,
//!   size, content, symlink text or device number. What did not change is not told, also when it was copied up.
//! - A name that is gone is removed, only the topmost of a tree; there are no opaque marks. Where the kind changes
//!   there is only the new entry.
//! - Hard links as in [`links`]: the first name of a group carries the data, the others are links to it.
//! - The root is put when its attributes differ.
//!
//! A view that is written to meanwhile may be compared: what changes is in or out, what vanishes is gone, and data
//! has the size that its entry announces.

mod ahead;
mod compare;
mod links;
mod renamed;
mod same;
mod walk;

use super::data::TreeFile;
use super::view::{MergedDir, Node, View, is_gone};
use crate::change::{Change, Entry, Kind, Metadata};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::path::RelPath;
use crate::stream::ChangeSink;
use ahead::Ahead;
pub use compare::compare;
use links::{Links, Scanned};
use same::differs;
pub(super) use walk::Walk;
use walk::{Step, layers_above};

/// How a name differs between two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is in both, and differs.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A name that differs between two views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// The name.
    pub path: RelPath,
    /// How it differs.
    pub kind: ChangeKind,
}

/// What a difference tells.
enum Told<'a> {
    Removed(&'a RelPath),
    Put {
        path: &'a RelPath,
        was: bool,
        now: &'a Node,
        dir: Option<&'a MergedDir>,
        carrier: Option<&'a RelPath>,
    },
}

/// Writes what leads from `base` to `now` into `sink`, in normal form. Where `now` is built on the layers of
/// `base`, the cost follows the number of changes, unless hard links of a shared layer are involved.
///
/// # Errors
/// System calls, cancellation and the sink's.
pub fn diff(base: &View, now: &View, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
    ahead::read_ahead(|ahead| walk(base, now, context, &mut |told| read(told, ahead)), sink, context)
}

/// Opens and reads what is told; says whether it was there.
fn read(told: Told<'_>, ahead: &mut Ahead) -> Result<bool> {
    let (path, was, now, dir, carrier) = match told {
        Told::Removed(path) => {
            ahead.put(Change::Remove(path.clone()), None)?;
            return Ok(true);
        }
        Told::Put { path, was, now, dir, carrier } => (path, was, now, dir, carrier),
    };
    let described = match carrier {
        // Of no use to us, but docker, containerd and podman set on the inode what a further name says.
        Some(target) => {
            now.metadata().map(|metadata| Some((Kind::HardLink { target: target.clone() }, metadata, None)))
        }
        None => describe(now, dir),
    };
    match described {
        Ok(Some((kind, metadata, data))) => {
            ahead.put(Change::Put(Entry { path: path.clone(), kind, metadata }), data)?;
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(Error::System(error)) if is_gone(&error) => {
            if was {
                ahead.put(Change::Remove(path.clone()), None)?;
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The names that differ, in the order of the normal form, without data; the root is left out, as `docker diff`
/// does.
///
/// # Errors
/// System calls and cancellation, and those of `found`.
pub fn changes(
    base: &View,
    now: &View,
    found: &mut dyn FnMut(PathChange) -> Result<()>,
    context: &Context,
) -> Result<()> {
    walk(base, now, context, &mut |told| {
        let (path, kind) = match told {
            Told::Removed(path) => (path, ChangeKind::Deleted),
            Told::Put { path, was: true, .. } => (path, ChangeKind::Modified),
            Told::Put { path, was: false, .. } => (path, ChangeKind::Added),
        };
        if !path.is_root() {
            found(PathChange { path: path.clone(), kind })?;
        }
        Ok(true)
    })
}

/// Walks both views and tells what differs; `tell` says whether the entry was there.
fn walk(
    base: &View,
    now: &View,
    context: &Context,
    tell: &mut dyn FnMut(Told<'_>) -> Result<bool>,
) -> Result<()> {
    let above = layers_above(base, now)?;
    let mut links = Links::new(base, now, above);
    let changes_tell = links.prepare(context)? == Scanned::Known;
    let mut walk = Walk::new(base, now, above.filter(|_| changes_tell), context);
    let mut after = None;
    while let Some(step) = walk.next()? {
        if after.as_ref().is_some_and(|after| step.path < *after) {
            continue;
        }
        if let Scanned::All = links.meet(&step, context)? {
            // What came before is the same in both walks.
            (walk, after) = (Walk::new(base, now, None, context), Some(step.path));
            continue;
        }
        let Some(now) = &step.now else {
            if !step.path.is_root() {
                tell(Told::Removed(&step.path))?;
            }
            continue;
        };
        if !is_told(&step, now, &links, context)? {
            continue;
        }
        let carrier = links.carrier(&now.stat).filter(|_| now.merged.is_none()).cloned();
        let told = Told::Put {
            path: &step.path,
            was: step.base.is_some(),
            now,
            dir: step.now_dir.as_deref(),
            carrier: carrier.as_ref(),
        };
        if tell(told)? && carrier.is_none() && now.merged.is_none() {
            links.carried(&now.stat, &step.path);
        }
    }
    Ok(())
}

fn is_told(step: &Step, now: &Node, links: &Links, context: &Context) -> Result<bool> {
    let Some(base) = &step.base else { return Ok(true) };
    match links.told(step) {
        Some(told) => Ok(told),
        None => differs((base, step.base_dir.as_deref()), (now, step.now_dir.as_deref()), context),
    }
}

/// What an entry is, with its data; none for a kind that nothing can say.
fn describe(node: &Node, dir: Option<&MergedDir>) -> Result<Option<(Kind, Metadata, Option<TreeFile>)>> {
    let Some(kind) = node.kind()? else { return Ok(None) };
    let (Kind::File { size }, Some(dir)) = (&kind, dir) else {
        let metadata = node.metadata()?;
        return Ok(Some((kind, metadata, None)));
    };
    let (file, metadata) = dir.open_with_metadata(node)?;
    let data = TreeFile::with_blocks(file, *size, node.stat.blocks);
    Ok(Some((kind, metadata, Some(data))))
}
