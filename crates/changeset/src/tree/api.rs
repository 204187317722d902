//! Placeholder signatures; replaced by the real modules.
use super::view::{LayerTree, View};
#[cfg(doc)]
use crate::encoding::Encoding;
use crate::{ChangeSink, ChangeSource, Context, Limits, RelPath, Result};

/// How a changeset is applied.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Limits against hostile input.
    pub limits: Limits,
    /// Threads that write files; 0 is one per core, 1 is none besides the caller's.
    pub threads: usize,
}

/// What an apply wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries put, whiteouts counted.
    pub entries: u64,
    /// Bytes of file data.
    pub bytes: u64,
    /// Entries that lie elsewhere than they are called, because a parent is a symlink: name to place.
    pub relocated: Vec<(RelPath, RelPath)>,
    /// Files of this stream that a later entry of it replaced or removed: their data is not in the tree.
    pub replaced: u64,
    /// What was left out, for a person: reserved xattrs, devices that may not be made.
    pub warnings: Vec<String>,
}

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

/// Applies a changeset to `target`, whose parent's view is `parent`.
///
/// For [`Encoding::Flat`] the target holds the parent's content already and `parent` is empty.
///
/// # Errors
/// Refused input, system calls, cancellation. What is half written is the caller's to remove.
pub fn apply(
    target: &LayerTree,
    parent: &View,
    source: &mut dyn ChangeSource,
    options: &ApplyOptions,
    context: &Context,
) -> Result<Applied> {
    let _ = (target, parent, source, options, context);
    todo!()
}

/// Writes what leads from `base` to `now` into `sink`, in normal form. Where `now` is built on the layers of
/// `base`, the cost follows the number of changes.
///
/// # Errors
/// System calls, cancellation and the sink's.
pub fn diff(base: &View, now: &View, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
    let _ = (base, now, sink, context);
    todo!()
}

/// The names that differ, in the order of the normal form, without data.
///
/// # Errors
/// System calls and cancellation.
pub fn changes(
    base: &View,
    now: &View,
    found: &mut dyn FnMut(PathChange) -> Result<()>,
    context: &Context,
) -> Result<()> {
    let _ = (base, now, found, context);
    todo!()
}
