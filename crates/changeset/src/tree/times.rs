//! Directories whose times are set when everything else is written: writing an entry changes
//! its directory's time.
//!
//! Directories are kept as a table in which a row points to its parent's, so a directory costs its own name and
//! some 40 bytes however deep it lies, and at most [`MAX_OPEN`] descriptors are open.
//!
//! Invariant: directories are opened again from the root, one component at a time without following symlinks; one
//! that became something else meanwhile is left out with everything below it.

use std::collections::HashMap;

use layerstore_sys::{Dir, Timestamp};

use super::view::is_gone;
use crate::error::Result;

/// Most directories that are open at once.
const MAX_OPEN: usize = 128;

/// Most threads that set times, and the least number of directories for one.
const THREADS: usize = 4;
const LEAST: usize = 256;

/// The row of the root.
pub(crate) const ROOT: u32 = 0;

/// Directories that are open, by row; none where something else lies.
pub(crate) type OpenDirs = HashMap<u32, Option<Dir>>;

/// One directory.
#[derive(Debug, Default)]
struct Row {
    parent: u32,
    name: Box<[u8]>,
    mtime: Option<Timestamp>,
}

/// Directories, with what is to be set at the end.
#[derive(Debug)]
pub(crate) struct Times {
    rows: Vec<Row>,
}

impl Times {
    /// A table with the root only.
    pub(crate) fn new() -> Self {
        Self { rows: vec![Row::default()] }
    }

    /// Adds a directory; its parent is in the table already.
    pub(crate) fn add(&mut self, parent: u32, name: &[u8]) -> u32 {
        self.rows.push(Row { parent, name: name.into(), mtime: None });
        u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn parent(&self, row: u32) -> u32 {
        self.get(row).map_or(ROOT, |row| row.parent)
    }

    pub(crate) fn name(&self, row: u32) -> &[u8] {
        self.get(row).map_or(b"", |row| &row.name)
    }

    fn get(&self, row: u32) -> Option<&Row> {
        self.rows.get(row as usize)
    }

    pub(crate) fn mtime(&self, row: u32) -> Option<Timestamp> {
        self.get(row).and_then(|row| row.mtime)
    }

    /// The time to set at the end.
    pub(crate) fn set_mtime(&mut self, row: u32, mtime: Timestamp) {
        if let Some(row) = self.rows.get_mut(row as usize) {
            row.mtime = Some(mtime);
        }
    }

    /// The path of a directory from the root.
    pub(crate) fn path(&self, mut row: u32) -> Vec<u8> {
        let mut names = Vec::new();
        while row != ROOT {
            names.push(self.name(row));
            row = self.parent(row);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Sets what is to be set, and tells of each directory once that is done; of one that became something else,
    /// none. Several threads share the work where it is worth it.
    ///
    /// # Errors
    /// System calls, and those of `done`.
    pub(crate) fn finish(
        &self,
        root: &Dir,
        done: &(dyn Fn(Option<&Dir>) -> Result<()> + Sync),
    ) -> Result<()> {
        // Neighbours in the table are neighbours in the tree, so each thread opens directories of its own.
        let share = self.rows.len().div_ceil(THREADS).max(LEAST);
        let work = &|(number, rows): (usize, &[Row])| -> Result<()> {
            let mut open = OpenDirs::new();
            let first = u32::try_from(number * share).unwrap_or(u32::MAX);
            for (index, row) in (first..).zip(rows) {
                let Some(mtime) = row.mtime else { continue };
                let dir = self.open(root, index, &mut open)?;
                if let Some(dir) = &dir {
                    dir.set_mtime(b".", mtime)?;
                }
                done(dir.as_ref())?;
            }
            Ok(())
        };
        let mut shares = self.rows.chunks(share).enumerate();
        let Some(own) = shares.next() else { return Ok(()) };
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            let mut result = Ok(());
            for share in shares {
                let builder = std::thread::Builder::new().name("layer-times".to_owned());
                match builder.spawn_scoped(scope, move || work(share)) {
                    Ok(other) => others.push(other),
                    // No more threads: this one can do it, too.
                    Err(_) => result = result.and_then(|()| work(share)),
                }
            }
            result = result.and_then(|()| work(own));
            for other in others {
                let ended = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(ended);
            }
            result
        })
    }

    /// Opens a directory of the table; none where something else is there.
    pub(crate) fn open(&self, root: &Dir, row: u32, open: &mut OpenDirs) -> Result<Option<Dir>> {
        let mut missing = Vec::new();
        let mut above = row;
        let mut current = loop {
            if above == ROOT {
                break Some(root.clone());
            }
            if let Some(known) = open.get(&above) {
                break known.clone();
            }
            missing.push(above);
            above = self.parent(above);
        };
        while let Some(next) = missing.pop() {
            current = match &current {
                None => None,
                Some(parent) => match parent.open_dir(self.name(next)) {
                    Ok(dir) => Some(dir),
                    Err(error) if is_gone(&error) => None,
                    Err(error) => return Err(error.into()),
                },
            };
            if open.len() >= MAX_OPEN {
                open.clear();
            }
            open.insert(next, current.clone());
        }
        Ok(current)
    }
}
