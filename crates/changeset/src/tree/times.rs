//! Directories whose times are set when everything else is written: writing an entry changes
//! its directory's time.
//!
//! Directories are kept as a table in which a row points to its parent's, so a directory costs its own name and
//! 32 bytes however deep it lies; the table is in memory up to a bound ([`Spill`]), and at most [`MAX_OPEN`]
//! descriptors are open.
//!
//! ```text
//! row    0 parent 4 │ 4 nanoseconds 4 │ 8 seconds 8 │ 16 where its name lies 8 │ 24 its length 2 │ 26 has a time 1
//! ```
//!
//! Invariant: directories are opened again from the root, one component at a time without following symlinks; one
//! that became something else meanwhile is left out with everything below it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use layerstore_sys::{Dir, Timestamp};

use super::spill::{Spill, part, record};
use super::view::is_gone;
use crate::error::{Code, Error, Result};

/// Most directories that are open at once.
const MAX_OPEN: usize = 128;
/// Most pages of rows that are in memory, and as many of names: 2 MiB each, some 65,000 directories.
const PAGES: u64 = 512;
/// Most directories.
pub(crate) const MAX_ROWS: u32 = (1 << 28) - 2;

/// Most threads that set times, and the least number of directories for one.
const THREADS: usize = 4;
const LEAST: u32 = 256;

/// The row of the root.
pub(crate) const ROOT: u32 = 0;

/// Directories that are open, by row; none where something else lies.
pub(crate) type OpenDirs = HashMap<u32, Option<Dir>>;

/// One directory.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    parent: u32,
    name: u64,
    length: u16,
    mtime: Option<Timestamp>,
}

/// Directories, with what is to be set at the end.
#[derive(Debug)]
pub(crate) struct Times {
    rows: Spill,
    count: u32,
    names: Spill,
    length: u64,
}

impl Row {
    fn encode(self) -> [u8; 32] {
        let mtime = self.mtime.unwrap_or(Timestamp { seconds: 0, nanos: 0 });
        record(&[
            &self.parent.to_le_bytes(),
            &mtime.nanos.to_le_bytes(),
            &mtime.seconds.to_le_bytes(),
            &self.name.to_le_bytes(),
            &self.length.to_le_bytes(),
            &[u8::from(self.mtime.is_some())],
        ])
    }

    fn decode(record: &[u8; 32]) -> Self {
        let word = |at: usize| u32::from_le_bytes(part(record, at));
        let mtime = Timestamp { seconds: i64::from_le_bytes(part(record, 8)), nanos: word(4) };
        Self {
            parent: word(0),
            name: u64::from_le_bytes(part(record, 16)),
            length: u16::from_le_bytes(part(record, 24)),
            mtime: (part(record, 26) != [0]).then_some(mtime),
        }
    }
}

impl Times {
    /// A table with the root only, which keeps what does not fit into memory on the file system of `dir`.
    pub(crate) fn new(dir: &Dir) -> Self {
        Self { rows: Spill::new(dir, PAGES), count: 1, names: Spill::new(dir, PAGES), length: 0 }
    }

    /// Adds a directory; its parent is in the table already.
    ///
    /// # Errors
    /// System calls; `LIMIT_EXCEEDED`.
    pub(crate) fn add(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let index = self.count;
        if index >= MAX_ROWS {
            let reason = format!("the layer has more than {MAX_ROWS} directories");
            return Err(Error::refused(Code::LimitExceeded, name, reason));
        }
        // A component has at most 255 bytes.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.names.write(self.length, name)?;
        self.put(index, Row { parent, name: self.length, length, mtime: None })?;
        self.length += u64::from(length);
        self.count += 1;
        Ok(index)
    }

    pub(crate) fn parent(&mut self, row: u32) -> Result<u32> {
        Ok(self.get(row)?.parent)
    }

    pub(crate) fn name(&mut self, row: u32) -> Result<Vec<u8>> {
        let row = self.get(row)?;
        let mut name = vec![0; usize::from(row.length)];
        self.names.read(row.name, &mut name)?;
        Ok(name)
    }

    fn get(&mut self, row: u32) -> Result<Row> {
        Ok(Row::decode(&self.rows.get(u64::from(row))?))
    }

    fn put(&mut self, index: u32, row: Row) -> Result<()> {
        self.rows.set(u64::from(index), &row.encode())
    }

    pub(crate) fn mtime(&mut self, row: u32) -> Result<Option<Timestamp>> {
        Ok(self.get(row)?.mtime)
    }

    /// The time to set at the end.
    pub(crate) fn set_mtime(&mut self, row: u32, mtime: Timestamp) -> Result<()> {
        let known = self.get(row)?;
        self.put(row, Row { mtime: Some(mtime), ..known })
    }

    /// The path of a directory from the root.
    pub(crate) fn path(&mut self, mut row: u32) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        while row != ROOT {
            names.push(self.name(row)?);
            row = self.parent(row)?;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// Sets what is to be set, and tells of each directory once that is done; of one that became something else,
    /// none. Several threads share the work where it is worth it.
    ///
    /// # Errors
    /// System calls, and those of `done`.
    pub(crate) fn finish(
        &mut self,
        root: &Dir,
        done: &(dyn Fn(Option<&Dir>) -> Result<()> + Sync),
    ) -> Result<()> {
        let threads = usize::try_from(self.count / LEAST).unwrap_or(THREADS).clamp(1, THREADS);
        let (count, next, table) = (self.count, AtomicU32::new(0), Mutex::new(self));
        let work = &|| -> Result<()> {
            let mut open = OpenDirs::new();
            loop {
                // Neighbours in the table are neighbours in the tree, so each thread opens directories of its own.
                let first = next.fetch_add(LEAST, Ordering::Relaxed).min(count);
                if first == count {
                    return Ok(());
                }
                for row in first..first.saturating_add(LEAST).min(count) {
                    let (mtime, route) = {
                        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                        let Some(mtime) = table.mtime(row)? else { continue };
                        (mtime, table.route(row, &open)?)
                    };
                    let dir = route.open(root, &mut open)?;
                    if let Some(dir) = &dir {
                        dir.set_mtime(b".", mtime)?;
                    }
                    done(dir.as_ref())?;
                }
            }
        };
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            for _ in 1..threads {
                let builder = std::thread::Builder::new().name("layer-times".to_owned());
                // Where there are no more threads this one does it all.
                others.extend(builder.spawn_scoped(scope, work).ok());
            }
            let mut result = work();
            for other in others {
                let ended = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(ended);
            }
            result
        })
    }

    /// Opens a directory of the table; none where something else is there.
    pub(crate) fn open(&mut self, root: &Dir, row: u32, open: &mut OpenDirs) -> Result<Option<Dir>> {
        self.route(row, open)?.open(root, open)
    }

    /// How to get to a directory from one that is open.
    fn route(&mut self, row: u32, open: &OpenDirs) -> Result<Route> {
        let mut route = Route { from: ROOT, names: Vec::new() };
        let mut above = row;
        while above != ROOT && !open.contains_key(&above) {
            route.names.push((above, self.name(above)?));
            above = self.parent(above)?;
        }
        route.from = above;
        Ok(route)
    }
}

/// The way to a directory: an open one above it, and the names from there, the last one first.
struct Route {
    from: u32,
    names: Vec<(u32, Vec<u8>)>,
}

impl Route {
    fn open(mut self, root: &Dir, open: &mut OpenDirs) -> Result<Option<Dir>> {
        let mut current = match open.get(&self.from) {
            Some(known) => known.clone(),
            None => Some(root.clone()),
        };
        while let Some((next, name)) = self.names.pop() {
            current = match &current {
                None => None,
                Some(parent) => match parent.open_dir(&name) {
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
