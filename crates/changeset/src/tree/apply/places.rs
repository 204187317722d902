//! What an apply remembers: the directories that it met, and which names the stream has put.
//!
//! A *place* is a directory's row and a name in it, known by a keyed hash of 128 bits, so that remembering an entry
//! costs some 20 bytes however long its path is. The keys are random, so nobody can make two places collide.
//!
//! Invariant: a cached [`MergedDir`] shows what the view has now; whoever removes or replaces a directory or a
//! symlink calls [`Places::forget`].

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use layerstore_sys::{Dir, Errno};

use super::super::attributes::{Attributes, Gives, timestamp};
use super::super::times::{ROOT, Times};
use super::super::view::{MergedDir, Node, Part, View};
use crate::change::Time;
use crate::error::Result;

/// Most directories that stay open, over all layers.
const MAX_OPEN: usize = 256;

/// A place, as a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

/// The hash of a key: it is one already.
#[derive(Debug, Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

type Keyed<T> = HashMap<Key, T, BuildHasherDefault<Identity>>;

/// The stream has put this name.
pub(super) const PUT: u8 = 1;
/// The stream has put something at or below this directory.
pub(super) const ALIVE: u8 = 2;

/// What is known of a directory, besides its [`Times`].
#[derive(Debug)]
struct Row {
    key: Key,
    /// What it gives to new entries, once it is ready to be written to.
    gives: Option<Gives>,
    /// Whether this apply made it, so that the target has nothing in it but what this apply put there.
    made: bool,
}

/// The memory of one apply.
#[derive(Debug)]
pub(super) struct Places {
    root: Rc<MergedDir>,
    times: Times,
    rows: Vec<Row>,
    index: Keyed<u32>,
    /// What the apply has put, made or removed in the target, with [`PUT`] and [`ALIVE`].
    marks: Keyed<u8>,
    cache: HashMap<u32, Rc<MergedDir>>,
    open: usize,
    /// The parent path that was resolved last, where it led, and whether a symlink was followed.
    last: Option<(Vec<u8>, u32, bool)>,
    hashers: [RandomState; 2],
}

impl Places {
    pub(super) fn new(view: View) -> Result<Self> {
        let root = view
            .root()?
            .and_then(|node| node.merged)
            .ok_or_else(|| layerstore_sys::Error::new("openat", "the target of an apply", Errno::NOENT))?;
        let key = Key([0; 16]);
        let mut index = Keyed::default();
        index.insert(key, ROOT);
        Ok(Self {
            root: Rc::new(root),
            times: Times::new(),
            rows: vec![Row { key, gives: None, made: false }],
            index,
            marks: Keyed::default(),
            cache: HashMap::new(),
            open: 0,
            last: None,
            hashers: [RandomState::new(), RandomState::new()],
        })
    }

    pub(super) fn into_times(self) -> Times {
        self.times
    }

    pub(super) fn times(&mut self) -> &mut Times {
        &mut self.times
    }

    pub(super) fn path(&self, row: u32) -> Vec<u8> {
        self.times.path(row)
    }

    pub(super) fn parent(&self, row: u32) -> u32 {
        self.times.parent(row)
    }

    pub(super) fn name(&self, row: u32) -> Vec<u8> {
        self.times.name(row).to_vec()
    }

    fn row(&self, row: u32) -> Option<&Row> {
        self.rows.get(row as usize)
    }

    pub(super) fn row_key(&self, row: u32) -> Key {
        self.row(row).map_or(Key([0; 16]), |row| row.key)
    }

    /// The place `name` in a directory.
    pub(super) fn key(&self, row: u32, name: &[u8]) -> Key {
        self.key_below(self.row_key(row), name)
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
    pub(super) fn marks(&self, key: Key) -> Option<u8> {
        self.marks.get(&key).copied()
    }

    /// Notes that the apply made something at a place that the stream did not put there.
    pub(super) fn mark_touched(&mut self, key: Key) {
        self.marks.entry(key).or_insert(0);
    }

    /// Notes that the stream has put `name` in a directory.
    pub(super) fn mark_put(&mut self, row: u32, key: Key) {
        *self.marks.entry(key).or_insert(0) |= PUT;
        let mut above = row;
        loop {
            let mark = self.marks.entry(self.row_key(above)).or_insert(0);
            if *mark & ALIVE != 0 {
                return;
            }
            *mark |= ALIVE;
            if above == ROOT {
                return;
            }
            above = self.times.parent(above);
        }
    }

    /// Notes what a directory gives to new entries.
    pub(super) fn set_gives(&mut self, row: u32, gives: Gives) {
        if let Some(row) = self.rows.get_mut(row as usize) {
            row.gives = Some(gives);
        }
    }

    /// What a directory gives to new entries; everything, until it is ready.
    pub(super) fn gives(&self, row: u32) -> Gives {
        self.row(row).and_then(|row| row.gives).unwrap_or(Gives::Something)
    }

    /// Whether the target has nothing at a place, as far as memory tells.
    pub(super) fn is_vacant(&self, row: u32, key: Key) -> bool {
        self.row(row).is_some_and(|row| row.made) && !self.marks.contains_key(&key)
    }

    /// The row of the directory `name` in another one.
    pub(super) fn row_of(&mut self, parent: u32, name: &[u8]) -> u32 {
        let key = self.key(parent, name);
        if let Some(&row) = self.index.get(&key) {
            return row;
        }
        let row = self.times.add(parent, name);
        self.rows.push(Row { key, gives: None, made: false });
        self.index.insert(key, row);
        row
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
        let child = self.row_of(parent, name);
        let key = self.row_key(child);
        self.mark_touched(key);
        if let Some(row) = self.rows.get_mut(child as usize) {
            row.made = true;
            row.gives = Some(gives);
        }
        self.times.set_mtime(child, timestamp(mtime));
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
            above = self.times.parent(above);
        };
        while let Some(next) = missing.pop() {
            let name = self.times.name(next);
            let found = current.lookup(name)?.and_then(|node| node.merged).ok_or_else(|| {
                let shown = String::from_utf8_lossy(&self.times.path(next)).into_owned();
                layerstore_sys::Error::new("openat", shown, Errno::NOENT)
            })?;
            current = self.remember(next, found);
        }
        Ok(current)
    }

    /// The directory `name` of a directory, if it is known to be one.
    pub(super) fn known(&self, row: u32, name: &[u8]) -> Option<u32> {
        self.index.get(&self.key(row, name)).copied().filter(|row| self.cache.contains_key(row))
    }

    /// Whether a place was a directory at some time.
    pub(super) fn is_directory(&self, key: Key) -> bool {
        self.index.contains_key(&key)
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
        self.last = None;
    }

    /// Where the same parent path led the last time, if nothing changed since.
    pub(super) fn last(&self, path: &[u8]) -> Option<(u32, bool)> {
        self.last.as_ref().filter(|(last, ..)| last == path).map(|(_, row, followed)| (*row, *followed))
    }

    pub(super) fn set_last(&mut self, path: &[u8], row: u32, followed: bool) {
        self.last = Some((path.to_vec(), row, followed));
    }

    /// What the lower layers have at a place that the target hides.
    pub(super) fn below(&mut self, row: u32, name: &[u8]) -> Result<Option<Node>> {
        self.node(row)?.lookup_below(name, 1)
    }

    /// Makes an existing directory of the target ready to be written to: remembers its time, to be put back, and
    /// what it gives to new entries.
    pub(super) fn make_ready(&mut self, row: u32, dir: &Dir, attributes: &Attributes) -> Result<()> {
        if self.row(row).is_some_and(|row| row.gives.is_some()) {
            return Ok(());
        }
        let stat = dir.stat_self()?;
        self.set_gives(row, attributes.dir_gives(dir, &stat)?);
        if self.times.mtime(row).is_none() {
            self.times.set_mtime(row, stat.mtime);
        }
        Ok(())
    }

    pub(super) fn is_ready(&self, row: u32) -> bool {
        self.row(row).is_some_and(|row| row.gives.is_some())
    }
}
