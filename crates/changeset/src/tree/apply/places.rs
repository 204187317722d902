//! What an apply remembers: the directories that it met, and which names the stream has put.
//!
//! A *place* is a directory's row and a name in it, known by a keyed hash of 128 bits, so that remembering an entry
//! costs some 20 bytes however long its path is. The keys are random, so nobody can make two places collide.
//!
//! Invariant: a cached [`MergedDir`] shows what the view has now; whoever removes or replaces a directory or a
//! symlink calls [`Places::forget`].

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use layerstore_sys::{Dir, Errno};

use super::super::attributes::{Attributes, Gives, timestamp};
use super::super::spill::{Spill, part, record};
use super::super::times::{ROOT, Times};
use super::super::view::{MergedDir, Node, Part, View};
use super::known::Table;
use super::way::Way;
use crate::change::Time;
use crate::error::Result;
use crate::path::RelPath;

/// Most pages of rows in memory: 2 MiB, some 65,000 directories.
const PAGES: u64 = 512;
/// Most directories that stay open, over all layers.
const MAX_OPEN: usize = 256;

/// A place, as a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u8; 16]);

/// Below it are not places but the names of what was skipped.
const NAMES: Key = Key([0xff; 16]);

/// The stream has put this name.
pub(super) const PUT: u8 = 1;
/// The stream has put something at or below this directory.
pub(super) const ALIVE: u8 = 2;

/// What is known of a directory, besides its [`Times`]: a record of 32 bytes.
///
/// ```text
/// 0 key 16 │ 16 what it gives: 0 not ready, 1 nothing, 2 something │ 17 made
/// ```
#[derive(Debug, Clone, Copy)]
struct Row {
    key: Key,
    /// What it gives to new entries, once it is ready to be written to.
    gives: Option<Gives>,
    /// Whether this apply made it, so that the target has nothing in it but what this apply put there.
    made: bool,
}

impl Row {
    fn encode(self) -> [u8; 32] {
        let gives = match self.gives {
            None => 0,
            Some(Gives::Nothing) => 1,
            Some(Gives::Something) => 2,
        };
        record(&[&self.key.0, &[gives, u8::from(self.made)]])
    }

    fn decode(record: &[u8; 32]) -> Self {
        let [gives, made] = part(record, 16);
        let gives = match gives {
            0 => None,
            1 => Some(Gives::Nothing),
            _ => Some(Gives::Something),
        };
        Self { key: Key(part(record, 0)), gives, made: made != 0 }
    }
}

/// The memory of one apply.
#[derive(Debug)]
pub(super) struct Places {
    root: Rc<MergedDir>,
    times: Times,
    rows: Spill,
    /// Directories by place, and what the apply has put, made or removed in the target, with [`PUT`] and [`ALIVE`].
    table: Table,
    cache: HashMap<u32, Rc<MergedDir>>,
    open: usize,
    way: Way,
    /// Whether a device was skipped.
    skipped: bool,
    hashers: [RandomState; 2],
}

impl Places {
    /// Remembers nothing yet; what does not fit into memory goes to the file system of `dir`.
    pub(super) fn new(view: View, dir: &Dir) -> Result<Self> {
        let root = view
            .root()?
            .and_then(|node| node.merged)
            .ok_or_else(|| layerstore_sys::Error::new("openat", "the target of an apply", Errno::NOENT))?;
        let key = Key([0; 16]);
        let mut table = Table::new(dir);
        table.update(key, |known| known.row = Some(ROOT))?;
        let mut rows = Spill::new(dir, PAGES);
        rows.set(u64::from(ROOT), &Row { key, gives: None, made: false }.encode())?;
        Ok(Self {
            root: Rc::new(root),
            times: Times::new(dir),
            rows,
            table,
            cache: HashMap::new(),
            open: 0,
            way: Way::default(),
            skipped: false,
            hashers: [RandomState::new(), RandomState::new()],
        })
    }

    pub(super) fn into_times(self) -> Times {
        self.times
    }

    pub(super) fn times(&mut self) -> &mut Times {
        &mut self.times
    }

    pub(super) fn path(&mut self, row: u32) -> Result<Vec<u8>> {
        self.times.path(row)
    }

    pub(super) fn parent(&mut self, row: u32) -> Result<u32> {
        self.times.parent(row)
    }

    pub(super) fn name(&mut self, row: u32) -> Result<Vec<u8>> {
        self.times.name(row)
    }

    fn row(&mut self, row: u32) -> Result<Row> {
        Ok(Row::decode(&self.rows.get(u64::from(row))?))
    }

    fn change_row(&mut self, row: u32, change: impl FnOnce(&mut Row)) -> Result<()> {
        let mut known = self.row(row)?;
        change(&mut known);
        self.rows.set(u64::from(row), &known.encode())
    }

    pub(super) fn row_key(&mut self, row: u32) -> Result<Key> {
        Ok(self.row(row)?.key)
    }

    /// The place `name` in a directory.
    pub(super) fn key(&mut self, row: u32, name: &[u8]) -> Result<Key> {
        let parent = self.row_key(row)?;
        Ok(self.key_below(parent, name))
    }

    /// The place `name` in the directory at another place.
    pub(super) fn key_below(&self, parent: Key, name: &[u8]) -> Key {
        let mut bytes = [0; 16];
        for (half, hasher) in bytes.chunks_exact_mut(8).zip(&self.hashers) {
            let mut hash = hasher.build_hasher();
            hash.write(&parent.0);
            hash.write(name);
            half.copy_from_slice(&hash.finish().to_le_bytes());
        }
        Key(bytes)
    }

    /// What the apply did at a place; none if it never touched it.
    pub(super) fn marks(&mut self, key: Key) -> Result<Option<u8>> {
        Ok(self.table.get(key)?.and_then(|known| known.marks))
    }

    /// Notes that the apply made something at a place that the stream did not put there.
    pub(super) fn mark_touched(&mut self, key: Key) -> Result<()> {
        self.mark(key, 0)
    }

    fn mark(&mut self, key: Key, marks: u8) -> Result<()> {
        self.table.update(key, |known| known.marks = Some(known.marks.unwrap_or_default() | marks))
    }

    /// Notes that a device was skipped, or that something else has its name now. It is known by the name that the
    /// stream gave it: nothing was made for it, perhaps not even a directory.
    pub(super) fn set_skipped(&mut self, path: &RelPath, skipped: bool) -> Result<()> {
        if skipped || self.is_skipped(path)? {
            self.skipped = true;
            let key = self.key_below(NAMES, path.as_bytes());
            self.table.update(key, |known| known.marks = Some(if skipped { PUT } else { 0 }))?;
        }
        Ok(())
    }

    /// Whether the last that came of this name is a device that was skipped, or a link to one.
    pub(super) fn is_skipped(&mut self, path: &RelPath) -> Result<bool> {
        if !self.skipped {
            return Ok(false);
        }
        let key = self.key_below(NAMES, path.as_bytes());
        Ok(self.marks(key)?.is_some_and(|marks| marks & PUT != 0))
    }

    /// Notes that the stream has put `name` in a directory.
    pub(super) fn mark_put(&mut self, row: u32, key: Key) -> Result<()> {
        self.mark(key, PUT)?;
        self.way.put(key);
        let mut above = row;
        loop {
            let key = self.row_key(above)?;
            if self.marks(key)?.is_some_and(|marks| marks & ALIVE != 0) {
                return Ok(());
            }
            self.mark(key, ALIVE)?;
            if above == ROOT {
                return Ok(());
            }
            above = self.times.parent(above)?;
        }
    }

    /// Notes what a directory gives to new entries.
    pub(super) fn set_gives(&mut self, row: u32, gives: Gives) -> Result<()> {
        self.change_row(row, |row| row.gives = Some(gives))
    }

    /// What a directory gives to new entries; everything, until it is ready.
    pub(super) fn gives(&mut self, row: u32) -> Result<Gives> {
        Ok(self.row(row)?.gives.unwrap_or(Gives::Something))
    }

    /// Whether the target has nothing at a place, as far as memory tells.
    pub(super) fn is_vacant(&mut self, row: u32, key: Key) -> Result<bool> {
        Ok(self.row(row)?.made && self.marks(key)?.is_none())
    }

    /// The row of the directory `name` in another one.
    pub(super) fn row_of(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let key = self.key(parent, name)?;
        if let Some(row) = self.table.get(key)?.and_then(|known| known.row) {
            return Ok(row);
        }
        let row = self.times.add(parent, name)?;
        self.rows.set(u64::from(row), &Row { key, gives: None, made: false }.encode())?;
        self.table.update(key, |known| known.row = Some(row))?;
        Ok(row)
    }

    /// Notes that the apply made the directory `name`, which is open.
    pub(super) fn made(
        &mut self,
        parent: u32,
        name: &[u8],
        dir: Dir,
        gives: Gives,
        mtime: Time,
    ) -> Result<u32> {
        let child = self.row_of(parent, name)?;
        let key = self.row_key(child)?;
        self.mark_touched(key)?;
        self.change_row(child, |row| {
            row.made = true;
            row.gives = Some(gives);
        })?;
        self.times.set_mtime(child, timestamp(mtime))?;
        self.drop_cached(child);
        let above = if parent == ROOT { Some(&self.root) } else { self.cache.get(&parent) };
        if let Some(above) = above
            && above.parts.iter().all(|part| part.layer == 0)
        {
            // Nothing of a lower layer can be in it: what was just made is all that there is.
            let (layers, stat) = (Arc::clone(&above.layers), dir.stat_self()?);
            let part = Part { layer: 0, dir, stat, xattr_whiteouts: false };
            self.remember(child, MergedDir { layers, parts: vec![part] });
        }
        Ok(child)
    }

    /// What a directory of the view is made of; it is known to be there.
    pub(super) fn node(&mut self, row: u32) -> Result<Rc<MergedDir>> {
        let mut missing = Vec::new();
        let mut above = row;
        let mut current = loop {
            if above == ROOT {
                break Rc::clone(&self.root);
            }
            if let Some(known) = self.cache.get(&above) {
                break Rc::clone(known);
            }
            missing.push(above);
            above = self.times.parent(above)?;
        };
        while let Some(next) = missing.pop() {
            let name = self.times.name(next)?;
            let Some(found) = current.lookup(&name)?.and_then(|node| node.merged) else {
                let shown = String::from_utf8_lossy(&self.times.path(next)?).into_owned();
                return Err(layerstore_sys::Error::new("openat", shown, Errno::NOENT).into());
            };
            current = self.remember(next, found);
        }
        Ok(current)
    }

    /// The directory `name` of a directory, if it is known to be one.
    pub(super) fn known(&mut self, row: u32, name: &[u8]) -> Result<Option<u32>> {
        let key = self.key(row, name)?;
        let row = self.table.get(key)?.and_then(|known| known.row);
        Ok(row.filter(|row| self.cache.contains_key(row)))
    }

    /// Whether a place was a directory at some time.
    pub(super) fn is_directory(&mut self, key: Key) -> Result<bool> {
        Ok(self.table.get(key)?.is_some_and(|known| known.row.is_some()))
    }

    /// Keeps what a directory is made of.
    pub(super) fn remember(&mut self, row: u32, dir: MergedDir) -> Rc<MergedDir> {
        if self.open + dir.parts.len() > MAX_OPEN {
            self.cache.clear();
            self.open = 0;
        }
        self.drop_cached(row);
        self.open += dir.parts.len();
        let dir = Rc::new(dir);
        if row == ROOT {
            self.root = Rc::clone(&dir);
        } else {
            self.cache.insert(row, Rc::clone(&dir));
        }
        dir
    }

    fn drop_cached(&mut self, row: u32) {
        if let Some(old) = self.cache.remove(&row) {
            self.open = self.open.saturating_sub(old.parts.len());
        }
    }

    /// Forgets what is cached of the view, because a directory or symlink was removed or replaced.
    pub(super) fn forget(&mut self) {
        self.cache.clear();
        self.open = 0;
        self.way = Way::default();
    }

    /// The way to the parent that was resolved last, as far as nothing changed since.
    pub(super) fn way(&mut self) -> &mut Way {
        &mut self.way
    }

    /// What the lower layers have at a place that the target hides.
    pub(super) fn below(&mut self, row: u32, name: &[u8]) -> Result<Option<Node>> {
        self.node(row)?.lookup_below(name, 1)
    }

    /// Makes an existing directory of the target ready to be written to: remembers its time, to be put back, and
    /// what it gives to new entries.
    pub(super) fn make_ready(&mut self, row: u32, dir: &Dir, attributes: &Attributes) -> Result<()> {
        if self.is_ready(row)? {
            return Ok(());
        }
        let stat = dir.stat_self()?;
        self.set_gives(row, attributes.dir_gives(dir, &stat)?)?;
        if self.times.mtime(row)?.is_none() {
            self.times.set_mtime(row, stat.mtime)?;
        }
        Ok(())
    }

    pub(super) fn is_ready(&mut self, row: u32) -> Result<bool> {
        Ok(self.row(row)?.gives.is_some())
    }
}
