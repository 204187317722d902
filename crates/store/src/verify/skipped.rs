//! Which entries of a tar no layer shows: devices that were left out when it was unpacked, and hard links to them.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use layerstore_changeset::{Change, Entry, Kind, RelPath};

/// The names of a tar, so far, that were left out; of each a hash, because there may be millions.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    names: HashSet<u64>,
    hasher: RandomState,
}

impl Skipped {
    /// Whether a change was left out, whoever unpacked it; else its name is what it says from now on.
    pub(super) fn is(&mut self, change: &Change) -> bool {
        let skipped = match change {
            Change::Put(Entry { kind: Kind::HardLink { target }, .. }) => self.has(target),
            Change::Put(entry) => entry.kind.is_whiteout_device(),
            _ => return false,
        };
        if skipped {
            self.add(change.path());
        } else if !self.names.is_empty() {
            self.names.remove(&self.hasher.hash_one(change.path()));
        }
        skipped
    }

    /// Takes down a device that is not there.
    pub(super) fn add(&mut self, path: &RelPath) {
        self.names.insert(self.hasher.hash_one(path));
    }

    fn has(&self, path: &RelPath) -> bool {
        !self.names.is_empty() && self.names.contains(&self.hasher.hash_one(path))
    }
}
