//! Drivers broken in one clause of A, N, V or X each.
//!
//! Each breaks only names that begin with its clause, which no other clause's cases use. Three hands do it: changes
//! are bent on their way into `apply` ([`Bent`]) or out of `diff` ([`BentSink`]), or a layer's files are spoiled
//! where they lie ([`spoil`]).

mod applying;
mod diffing;
mod viewing;

use std::collections::VecDeque;

use layerstore_changeset::{
    self as changeset, Change, ChangeSink, ChangeSource, Entry, FileData, Item, Kind, Metadata, RelPath,
};
use layerstore_driver::{Driver, LayerId};
use layerstore_sys::Dir;

use crate::saboteur::Saboteur;

/// The tables.
pub(crate) const SABOTEURS: &[&[Saboteur]] = &[applying::SABOTEURS, diffing::SABOTEURS, viewing::SABOTEURS];

/// What becomes of one change: itself, and changes without data that follow it.
type Bend = fn(Change) -> Vec<Change>;

/// Whether a change is about a name that begins so.
fn is_about(change: &Change, mark: &str) -> bool {
    change.path().as_bytes().starts_with(mark.as_bytes())
}

/// Whether a change is about exactly this name.
fn is_at(change: &Change, name: &str) -> bool {
    change.path().as_bytes() == name.as_bytes()
}

/// A path that is known to be one.
fn named(path: &str) -> RelPath {
    RelPath::new(path).unwrap_or_default()
}

/// A change that changes nothing.
fn nothing() -> Change {
    Change::Remove(named("nothing-here"))
}

/// The change that puts a plain directory.
fn directory(path: RelPath, mode: u32) -> Change {
    Change::Put(Entry { path, kind: Kind::Directory, metadata: Metadata { mode, ..Metadata::default() } })
}

/// Whether a change puts a directory.
fn is_directory(change: &Change) -> bool {
    matches!(change, Change::Put(entry) if entry.kind == Kind::Directory)
}

/// Whether a change puts a hard link.
fn is_link(change: &Change) -> bool {
    matches!(change, Change::Put(entry) if matches!(entry.kind, Kind::HardLink { .. }))
}

/// A change with other metadata.
fn with_metadata(mut change: Change, edit: impl FnOnce(&mut Metadata)) -> Change {
    if let Change::Put(entry) = &mut change {
        edit(&mut entry.metadata);
    }
    change
}

/// A source whose changes are bent on their way into a driver.
struct Bent<'a> {
    inner: &'a mut dyn ChangeSource,
    bend: Bend,
    after: VecDeque<Change>,
}

impl<'a> Bent<'a> {
    fn new(inner: &'a mut dyn ChangeSource, bend: Bend) -> Self {
        Self { inner, bend, after: VecDeque::new() }
    }
}

impl ChangeSource for Bent<'_> {
    fn next(&mut self) -> changeset::Result<Option<Item<'_>>> {
        if let Some(change) = self.after.pop_front() {
            return Ok(Some(Item { change, data: None, offset: None }));
        }
        let Some(item) = self.inner.next()? else { return Ok(None) };
        let mut bent: VecDeque<Change> = (self.bend)(item.change).into();
        let change = bent.pop_front().unwrap_or_else(nothing);
        self.after = bent;
        let is_file = matches!(&change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. }));
        Ok(Some(Item { change, data: item.data.filter(|_| is_file), offset: item.offset }))
    }
}

/// A sink whose changes are bent on their way out of a driver.
struct BentSink<'a> {
    inner: &'a mut dyn ChangeSink,
    bend: Bend,
}

impl ChangeSink for BentSink<'_> {
    fn put(&mut self, change: Change, data: Option<&mut dyn FileData>) -> changeset::Result<()> {
        let mut data = data;
        for change in (self.bend)(change) {
            let is_file = matches!(&change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. }));
            self.inner.put(change, if is_file { data.take() } else { None })?;
        }
        Ok(())
    }
}

/// Does something to the directory that holds a layer's files, if `name` is in it. Where that is, the driver's
/// metadata says.
fn spoil(driver: &dyn Driver, id: &LayerId, name: &str, how: impl Fn(&Dir) -> layerstore_sys::Result<()>) {
    for (_, path) in driver.metadata(id).unwrap_or_default() {
        let Ok(dir) = Dir::open(&path) else { continue };
        if matches!(dir.try_stat(name.as_bytes()), Ok(Some(_))) {
            // A saboteur that fails to break anything is found out by not being caught.
            let _ = how(&dir);
        }
    }
}
