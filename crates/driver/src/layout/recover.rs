//! Finishes or undoes what a crash left half done.
//!
//! | found | done |
//! |---|---|
//! | an entry of `staging` that nobody holds | thrown away, with the marker in its parent |
//! | an entry of `trash` that nobody holds | freed, with the marker in its parent |
//! | one of them that cannot be freed | reported |
//! | a mark in `applying` that nobody holds | the layer is removed: it holds a part of a changeset |
//! | files of locks that nobody holds, uses that are dead | removed |
//! | after a reboot: a marker of no child, a child without a marker | dropped, made again |
//! | after a reboot: a `sealed.json` that cannot be read | taken away: the layer was not sealed durably |
//! | after a reboot: a `layer.json` that cannot be read, a missing parent | reported |
//!
//! The last three need a look at every layer and happen once per boot (a [memo](super::Memo) says that it was done):
//! only a power cut can reorder what reached the disk. A repair that a person wants looks again
//! ([`Look::Everything`]).

use layerstore_sys::{self as sys, Dir, lock::Lock};

use crate::driver::{LayerState, Look, Outcome, Recovered};
use crate::error::{Kind, Result};
use crate::id::LayerId;

use super::layers::Layers;
use super::limit;
use super::operation::Operation;
use super::record::{self, RECORD, Record, SEALED, Sealed};
use super::root::{Layer, Layout, add_marker, drop_marker};

/// What is told of something that was to be freed. What cannot be costs space only, be it that a person protected or
/// mounted something there or that the file system is damaged: nothing else waits for it, and who recovers next tries
/// again.
fn freed(done: sys::Result<()>, id: Option<LayerId>, what: &str) -> Recovered {
    match done {
        Ok(()) => Recovered { id, what: what.to_owned(), outcome: Outcome::Tidied },
        Err(error) => {
            let what =
                format!("could not free what is left of a layer that was removed or never complete: {error}");
            Recovered { id, what, outcome: Outcome::NotFreed }
        }
    }
}

/// The memo that every layer was looked at in this boot.
const CHECKED: &str = "checked";

/// What a driver adds to recovery.
pub trait Hooks {
    /// Undoes what the driver keeps outside of a layer's directory, before what is left of the layer is freed.
    ///
    /// # Errors
    /// Those of the calls made; recovery goes on with a warning.
    fn forget(&self, dir: &Dir) -> sys::Result<()>;

    /// After a reboot: repairs what belongs to a layer and says what was wrong.
    ///
    /// # Errors
    /// Those of the calls made.
    fn repair(&self, layer: &Layer) -> Result<Vec<String>>;

    /// The token of the layer whose directory is called `name`, where it can be told although its record is lost:
    /// what other layers keep may refer to it.
    ///
    /// # Errors
    /// Those of the calls made.
    fn token(&self, name: &str) -> sys::Result<Option<String>>;

    /// After a reboot: removes what belongs to no layer.
    ///
    /// # Errors
    /// Those of the calls made.
    fn sweep(&self) -> Result<Vec<Recovered>>;
}

impl Layers {
    /// Recovers; see [`Driver::recover`](crate::Driver::recover).
    ///
    /// # Errors
    /// `System`.
    pub fn recover(
        &self,
        is_live: &dyn Fn(&LayerId) -> bool,
        look: Look,
        hooks: &dyn Hooks,
        operation: Operation<'_>,
    ) -> Result<Vec<Recovered>> {
        let layout = self.layout();
        let mut report = Vec::new();
        self.clear(
            &layout.staging,
            "undid a creation that was interrupted",
            is_live,
            hooks,
            operation,
            &mut report,
        )?;
        self.clear(
            &layout.trash,
            "freed a layer whose removal was interrupted",
            is_live,
            hooks,
            operation,
            &mut report,
        )?;
        self.clear_applying(is_live, hooks, operation, &mut report)?;
        self.leases().sweep()?;
        let memo = self.memo();
        if look == Look::Everything || memo.get::<bool>(CHECKED) != Some(true) {
            self.check_all(is_live, hooks, operation, &mut report)?;
            memo.put(CHECKED, true);
        }
        Ok(report)
    }

    /// Frees every entry of `staging` or `trash` that nobody holds.
    fn clear(
        &self,
        from: &Dir,
        what: &str,
        is_live: &dyn Fn(&LayerId) -> bool,
        hooks: &dyn Hooks,
        operation: Operation<'_>,
        report: &mut Vec<Recovered>,
    ) -> Result<()> {
        let layout = self.layout();
        for entry in from.entries().map_err(|error| operation.system(error))? {
            let name = entry.name.as_slice();
            let opened = Lock::of_the_dead(from, name)
                .and_then(|lock| lock.map(|lock| Ok((lock, from.open_dir(name)?))).transpose());
            let (_lock, dir) = match opened {
                Ok(Some(opened)) => opened,
                // Somebody is at it, or has been.
                Ok(None) => continue,
                // Somebody is done with it.
                Err(error) if error.is_not_found() => continue,
                // No layer, and nobody's work: what is made and freed here is directories.
                Err(error) if matches!(error.errno(), sys::Errno::NOTDIR | sys::Errno::LOOP) => {
                    let what = "removed something that is no layer from where layers are made and freed";
                    report.push(freed(sys::remove::tree(from, name), None, what));
                    continue;
                }
                Err(error) => {
                    report.push(freed(Err(error), None, what));
                    continue;
                }
            };
            let record = record::read::<Record>(&dir, RECORD, operation).ok().flatten();
            let id = record.as_ref().map(|record| record.id.clone());
            // What lies in the trash is no layer any more, whoever works on the id now.
            if !std::ptr::eq(from, &layout.trash) && id.as_ref().is_some_and(is_live) {
                continue;
            }
            let tidied = hooks.forget(&dir).map_err(|error| operation.system(error));
            if let Err(error) = tidied.and_then(|()| self.forget_child(record.as_ref(), operation)) {
                // The next recovery tries again: what is kept elsewhere is found by what lies here.
                tracing::warn!(%error, "could not tidy up after a layer");
                continue;
            }
            // Its maker, alive perhaps, has not locked it yet and makes another one then: nothing was lost.
            let empty = record.is_none() && dir.entries().is_ok_and(|entries| entries.is_empty());
            let done = limit::free(from, name, record.as_ref());
            if empty && done.is_ok() {
                continue;
            }
            report.push(freed(done, id, what));
        }
        Ok(())
    }

    /// Removes the layers that hold a part of a changeset.
    fn clear_applying(
        &self,
        is_live: &dyn Fn(&LayerId) -> bool,
        hooks: &dyn Hooks,
        operation: Operation<'_>,
        report: &mut Vec<Recovered>,
    ) -> Result<()> {
        let layout = self.layout();
        for entry in layout.applying.entries().map_err(|error| operation.system(error))? {
            let Some(id) = std::str::from_utf8(&entry.name).ok().and_then(|id| LayerId::new(id).ok()) else {
                continue;
            };
            if is_live(&id) {
                continue;
            }
            if !layout.was_left(&id).map_err(|error| operation.system(error))? {
                continue;
            }
            let what = "removed a layer into which a changeset was not applied to its end";
            match self.remove_half_applied(&id, hooks, operation) {
                Ok(true) => {
                    report.push(Recovered { id: Some(id), what: what.to_owned(), outcome: Outcome::Tidied })
                }
                Ok(false) => {}
                // Mounted by a person who looks into it: it is found again later.
                Err(error) if error.kind() == Kind::InUse => {
                    tracing::warn!(%error, "left alone a layer that holds a part of a changeset");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn remove_half_applied(&self, id: &LayerId, hooks: &dyn Hooks, operation: Operation<'_>) -> Result<bool> {
        let layout = self.layout();
        // The mark may have been taken back, or belong to a new apply, until the lock was ours.
        let lock = self.leases().lock(id)?;
        if !layout.is_half_applied(id).map_err(|error| operation.system(error))? {
            return Ok(false);
        }
        if !layout.exists(id, operation)? {
            layout.forget_apply(id).map_err(|error| operation.system(error))?;
            return Ok(false);
        }
        self.remove_locked(id, lock, operation, |dir| hooks.forget(dir)).map(|()| true)
    }

    /// Looks at every layer.
    fn check_all(
        &self,
        is_live: &dyn Fn(&LayerId) -> bool,
        hooks: &dyn Hooks,
        operation: Operation<'_>,
        report: &mut Vec<Recovered>,
    ) -> Result<()> {
        for id in self.layout().ids(operation)? {
            if is_live(&id) {
                continue;
            }
            let operation = operation.on(&id);
            let mut rest = Vec::new();
            let found = match self.check_layer(&id, hooks, operation, &mut rest) {
                // Who removes a layer frees it under those who look at it.
                Err(_) if !self.layout().exists(&id, operation)? => continue,
                // Something lies in the place of what belongs to it: nothing else waits for that.
                Err(error) if error.kind() == Kind::Corrupt => {
                    rest.push((format!("left alone: {}", error.message()), Outcome::LeftAlone));
                    Vec::new()
                }
                found => found?,
            };
            // One that was removed meanwhile had nothing wrong with it.
            let outcome = match !found.is_empty() && self.layout().exists(&id, operation)? {
                true => Outcome::Repaired,
                false => Outcome::Tidied,
            };
            let told = found.into_iter().map(|what| (what, outcome)).chain(rest);
            report.extend(told.map(|(what, outcome)| Recovered { id: Some(id.clone()), what, outcome }));
        }
        report.extend(hooks.sweep()?);
        Ok(())
    }

    /// Looks at one layer; says what was put right, and in `rest` what else was found.
    fn check_layer(
        &self,
        id: &LayerId,
        hooks: &dyn Hooks,
        operation: Operation<'_>,
        rest: &mut Vec<(String, Outcome)>,
    ) -> Result<Vec<String>> {
        let layout = self.layout();
        let mut found = Vec::new();
        let Some(dir) = layout.open_layer(id, operation)? else { return Ok(found) };
        if let Err(error) = record::read::<Sealed>(&dir, SEALED, operation)
            && error.kind() == Kind::Corrupt
        {
            sys::remove::tree(&dir, SEALED.as_bytes()).map_err(|error| operation.system(error))?;
            found.push(
                "took away the record of a seal that had not reached the disk: the layer is writable"
                    .to_owned(),
            );
        }
        let layer = match layout.load(id, operation) {
            Ok(layer) => layer,
            Err(error) => match error.kind() {
                Kind::NotFound => return Ok(found),
                Kind::Corrupt | Kind::Unsupported => {
                    rest.push((format!("left alone: {}", error.message()), Outcome::LeftAlone));
                    return Ok(found);
                }
                _ => return Err(error),
            },
        };
        if let Some(parent) = &layer.record.parent {
            match layout.open_layer(parent, operation)? {
                Some(parent) => {
                    let added = limit::beyond(&parent, || add_marker(&parent, &layer.record));
                    if added.map_err(|error| operation.system(error))? {
                        found.push("made the marker in its parent again".to_owned());
                    }
                }
                None => {
                    rest.push((format!("left alone: its parent {parent} is missing"), Outcome::LeftAlone))
                }
            }
        }
        for (marker, child, token) in layout.markers(&layer.dir, operation)? {
            // In this order: a creation that ends meanwhile is in one place or the other.
            if layout.is_staged(&token).map_err(|error| operation.system(error))?
                || layout.is_child(id, &child, &token, operation)?
            {
                continue;
            }
            drop_marker(&layer.dir, &marker).map_err(|error| operation.system(error))?;
            rest.push((
                format!("dropped the marker of the child {child}, which does not exist"),
                Outcome::Tidied,
            ));
        }
        found.extend(hooks.repair(&layer)?);
        if let (Some(limit), LayerState::Writable) = (layer.record.limit, layer.state())
            && let Err(error) = limit::set_again(&layer.dir, limit)
        {
            // Quotas that were switched off, and on again, have no limits.
            tracing::warn!(layer = %id, %error, "the layer's size is not limited any more");
        }
        Ok(found)
    }
}

impl Layout {
    /// Whether the creation that `token` names is under way (or was left by a crash).
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn is_staged(&self, token: &str) -> sys::Result<bool> {
        Ok(self.staging.try_stat(token.as_bytes())?.is_some())
    }
}
