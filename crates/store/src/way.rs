//! Walking a tree from one entry to the next, without following anything.

use layerstore_sys::{self as sys, Dir};

/// A tree, and the directories on the way to what was looked for last: tars go through a tree in order.
pub(crate) struct Way {
    root: Dir,
    open: Vec<(Vec<u8>, Dir)>,
}

impl Way {
    pub(crate) fn new(root: Dir) -> Self {
        Self { root, open: Vec::new() }
    }

    /// Goes to the directory with this path, as far as there is a way.
    pub(crate) fn enter(&mut self, path: &[&[u8]]) -> sys::Result<()> {
        let shared = self.open.iter().zip(path).take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(shared);
        for part in path.iter().skip(shared) {
            let dir = self.here().open_dir(part)?;
            self.open.push((part.to_vec(), dir));
        }
        Ok(())
    }

    /// How many directories deep this is.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The directory that was entered last.
    pub(crate) fn here(&self) -> &Dir {
        self.open.last().map_or(&self.root, |(_, dir)| dir)
    }
}
