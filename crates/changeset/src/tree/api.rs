//! Placeholder signatures; replaced by the real modules.
use super::view::View;
#[cfg(doc)]
use crate::encoding::Encoding;
use crate::{ChangeSink, Context, RelPath, Result};

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
