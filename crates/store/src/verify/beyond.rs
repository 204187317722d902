//! What a layer shows and no entry of its tar tells of: what somebody added to it after it was sealed.
//!
//! The driver says how the layer differs from its parent. Each difference has to come from the tar: a name that is new
//! or another one from an entry or from what lies below it, a name that is gone from a whiteout, an opaque mark or from
//! what took its place. And where the layer hides what lies below, it shows nothing but its own entries.
//!
//! Only what leaves no doubt counts. Names of one file that the tar says something about may be told together; so
//! what is said to differ is looked at in both views. What a name led to when the tar was applied may be hidden
//! by now; so what is suspicious is looked at again with all that a name may lead to.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use layerstore_changeset::tree::{ChangeKind, PathChange};
use layerstore_changeset::{Change, ChangeSource, Context, Kind as EntryKind, RelPath};
use layerstore_driver::Base;
use layerstore_sys::{Errno, FileType};

use crate::db::layers::LayerRow;
use crate::error::{Explain as _, Result};
use crate::store::Store;
use crate::way::Way;

use super::entry::same_entry;
use super::place::{self, Found, Step};
use super::{Fault, MOST, View};

/// Where a tar puts something.
const PUTS: u8 = 1;
/// Where it takes away what lower layers have, and below.
const HIDES: u8 = 2;

/// Which names a tar tells of, without the names: a few bytes for each, however long they are.
#[derive(Debug, Default)]
pub(super) struct Described {
    marks: HashMap<u64, u8>,
    keys: RandomState,
    /// Directories whose lower content is hidden.
    hidden: Vec<RelPath>,
    /// The directory whose ancestors are known.
    last: Option<RelPath>,
}

impl Described {
    fn mark(&mut self, path: &RelPath, mark: u8) {
        *self.marks.entry(self.keys.hash_one(path)).or_default() |= mark;
        let mut above = path.parent();
        if above == self.last {
            return;
        }
        self.last.clone_from(&above);
        while let Some(path) = above {
            *self.marks.entry(self.keys.hash_one(&path)).or_default() |= PUTS;
            above = path.parent();
        }
    }

    /// Notes that an entry lies at a place.
    pub(super) fn put(&mut self, place: &RelPath) {
        self.mark(place, PUTS);
    }

    /// Notes a change, which is about a place.
    pub(super) fn change(&mut self, change: &Change, place: &RelPath) {
        match change {
            Change::Put(entry) if entry.kind == EntryKind::Directory => self.mark(place, PUTS),
            // What was a directory below is none here.
            Change::Put(_) => self.mark(place, PUTS | HIDES),
            Change::Remove(_) | Change::Opaque(_) => {
                self.mark(place, HIDES);
                if self.hidden.len() < MOST {
                    self.hidden.push(place.clone());
                }
            }
        }
    }

    fn has(&self, path: &RelPath, mark: u8) -> bool {
        self.marks.get(&self.keys.hash_one(path)).is_some_and(|marks| marks & mark != 0)
    }

    fn hides(&self, path: &RelPath) -> bool {
        std::iter::successors(Some(path.clone()), RelPath::parent).any(|path| self.has(&path, HIDES))
    }
}

/// What there is too much, or too little, by its places.
pub(super) type Beyond = std::collections::BTreeMap<RelPath, Fault>;

impl Store {
    /// What a layer shows that its tar does not tell of.
    pub(super) fn beyond(
        &self,
        operation: &'static str,
        layer: &LayerRow,
        (view, described): (&View, Described),
        context: &Context,
    ) -> Result<Beyond> {
        let id = &layer.layer.id;
        let changes = self.driver().changes(id, Base::Parent, context).explain(operation, id)?;
        let of_tar = |described: &Described, change: &PathChange| match change.kind {
            ChangeKind::Deleted => described.has(&change.path, PUTS) || described.hides(&change.path),
            ChangeKind::Added | ChangeKind::Modified => described.has(&change.path, PUTS),
        };
        let mut open: Vec<PathChange> =
            changes.into_iter().filter(|change| !of_tar(&described, change)).collect();
        let shown = view.shown_through(&described, context).explain(operation, id)?;
        if open.is_empty() && shown.is_empty() {
            return Ok(Beyond::new());
        }
        let below = match &layer.layer.parent {
            Some(parent) => Some(View::open(self, operation, parent, false)?),
            None => None,
        };
        let more = self.with_tar(operation, layer, context, |changes| {
            let mut more = described;
            view.describe_all(changes, below.as_ref(), &mut more, context)?;
            Ok(more)
        })?;
        let Some(described) = more else { return Ok(Beyond::new()) };
        let mut beyond: Beyond = shown
            .into_iter()
            .filter(|path| !described.has(path, PUTS))
            .map(|path| (path, Fault::IsThere))
            .collect();
        open.retain(|change| !of_tar(&described, change));
        let directories = self.judge(operation, layer, (view, below.as_ref()), open, &mut beyond)?;
        // A directory that got another entry has another time.
        let parents: std::collections::HashSet<RelPath> = beyond.keys().filter_map(RelPath::parent).collect();
        beyond.extend(directories.into_iter().filter(|(path, _)| !parents.contains(path)));
        Ok(beyond)
    }

    /// Which of these changes, which no tar tells of, are some; directories that differ apart.
    fn judge(
        &self,
        operation: &'static str,
        layer: &LayerRow,
        (view, below): (&View, Option<&View>),
        changes: Vec<PathChange>,
        beyond: &mut Beyond,
    ) -> Result<Beyond> {
        let id = &layer.layer.id;
        let mut directories = Beyond::new();
        for PathChange { path, kind } in changes {
            let fault = match kind {
                ChangeKind::Added => Fault::Added,
                ChangeKind::Deleted => Fault::Gone,
                ChangeKind::Modified => {
                    let Some(below) = below else { continue };
                    let (Some(now), Some(was)) =
                        (view.at(&path).explain(operation, id)?, below.at(&path).explain(operation, id)?)
                    else {
                        continue;
                    };
                    if same_entry(&was, &now).explain(operation, id)? {
                        continue;
                    }
                    if now.stat.kind == FileType::Directory && was.stat.kind == FileType::Directory {
                        directories.insert(path, Fault::Changed);
                        continue;
                    }
                    Fault::Changed
                }
            };
            if beyond.len() < MOST {
                beyond.entry(path).or_insert(fault);
            }
        }
        Ok(directories)
    }
}

impl View {
    /// Notes the places of a change: as it is called, and where that is.
    pub(super) fn describe(&self, change: &Change, place: Option<&RelPath>, described: &mut Described) {
        described.change(change, change.path());
        if let Some(place) = place.filter(|place| *place != change.path()) {
            described.change(change, place);
        }
    }

    /// Notes everything that the names of a tar may lead to, here and in the parent's view.
    fn describe_all(
        &self,
        changes: &mut dyn ChangeSource,
        below: Option<&View>,
        described: &mut Described,
        context: &Context,
    ) -> layerstore_changeset::Result<()> {
        let mut ways = [Some(self), below].map(|view| view.map(|view| (view, Way::new(view.root.clone()))));
        while let Some(item) = changes.next()? {
            context.check()?;
            for (view, way) in ways.iter_mut().flatten() {
                let place = view.place(&item.change, way)?;
                view.describe(&item.change, place.as_ref(), described);
            }
        }
        Ok(())
    }

    /// Where a change lies. An opaque mark is an entry of the directory that it is about.
    pub(super) fn place(
        &self,
        change: &Change,
        way: &mut Way,
    ) -> layerstore_changeset::Result<Option<RelPath>> {
        let Change::Opaque(path) = change else {
            return Ok(self.find(change.path(), way)?.map(|(place, _)| place));
        };
        let found = self.find(&path.join(b"x")?, way)?;
        Ok(found.and_then(|(place, _)| place.parent()))
    }

    /// What directories show whose lower content is hidden, and the tar did not put there.
    fn shown_through(
        &self,
        described: &Described,
        context: &Context,
    ) -> layerstore_changeset::Result<Vec<RelPath>> {
        let mut shown = Vec::new();
        let mut way = Way::new(self.root.clone());
        let mut todo = described.hidden.clone();
        while let Some(path) = todo.pop() {
            context.check()?;
            let parts: Vec<&[u8]> = path.components().collect();
            match way.enter(&parts) {
                // It is gone altogether, or is something else now.
                Err(error)
                    if error.is_not_found() || matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) =>
                {
                    continue;
                }
                entered => entered?,
            }
            for entry in way.here().clone().entries()? {
                let path = path.join(&entry.name)?;
                if !described.has(&path, PUTS) {
                    if shown.len() < MOST {
                        shown.push(path);
                    }
                } else if entry.kind == FileType::Directory || entry.kind == FileType::Unknown {
                    todo.push(path);
                }
            }
        }
        Ok(shown)
    }

    /// What lies at a place.
    fn at(&self, path: &RelPath) -> layerstore_changeset::Result<Option<Found>> {
        match place::find(&mut Way::new(self.root.clone()), path)? {
            Step::At(found) => Ok(found),
            Step::Through(_) => Ok(None),
        }
    }
}
