//! The oracle: what a changeset means and what the difference of two trees is, over trees in memory.
//!
//! Written from the clauses A and N of `conformance/README.md` alone, for clarity and not for speed.

mod apply;
mod diff;

pub use apply::{Refused, accepted, apply, is_reserved, resolve_name};
pub use diff::{Difference, changes, diff};

use std::fmt;

use crate::path::Path;
use crate::tree::Entry;

/// One change.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts an entry.
    Put(Path, Entry),
    /// Removes a name from the lower layers.
    Remove(Path),
    /// Hides what the lower layers have in a directory.
    Opaque(Path),
}

impl Change {
    /// What it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Put(path, _) | Self::Remove(path) | Self::Opaque(path) => path,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(path, Entry::Inode(inode)) => write!(f, "put {path} {}", crate::dump::describe(inode)),
            Self::Put(path, Entry::Link(target)) => write!(f, "put {path} hard link to {target}"),
            Self::Remove(path) => write!(f, "remove {path}"),
            Self::Opaque(path) => write!(f, "opaque {path}"),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The lines in which two changesets differ; none when they are equal, order included.
pub fn changeset_differences(expected: &[Change], found: &[Change]) -> Option<String> {
    if expected == found {
        return None;
    }
    let mut text = String::new();
    let start = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let end =
        expected[start..].iter().rev().zip(found[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let shown = |list: &[Change], sign: char| {
        let changed = &list[start..list.len() - end];
        changed.iter().take(20).map(|change| format!("{sign} {change}\n")).collect::<String>()
    };
    text.push_str(&shown(expected, '-'));
    text.push_str(&shown(found, '+'));
    Some(text)
}
