//! Putting a sound layer in the place of a damaged one, and making one layer durable.
//!
//! ```text
//! with/   its record and markers become those of `id` …
//! with/ <─ exchanged at once ─> id/   … and what was damaged is thrown away
//! ```
//!
//! The creation's token is kept, because other layers refer to it. Invariant: until the exchange, `id` is what it
//! was; after it, `id` is whole. What a crash leaves of `with` is no layer any more and can be removed.

use layerstore_sys::{self as sys, Dir};

use crate::driver::LayerState;
use crate::error::{Kind, Result};
use crate::id::LayerId;

use super::layers::{Hold, Layers};
use super::limit;
use super::operation::Operation;
use super::record::{self, RECORD, Record};
use super::recover::Hooks;
use super::root::{Layer, add_marker, drop_marker, marker_name};

/// Files that are made durable at the same time.
const SYNC_THREADS: usize = 8;

impl Layers {
    /// Replaces a layer's content; see [`Driver::replace`](crate::Driver::replace).
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput`, `InUse`, `System`.
    pub fn replace(
        &self,
        id: &LayerId,
        with: &LayerId,
        hooks: &dyn Hooks,
        operation: Operation<'_>,
    ) -> Result<()> {
        let operation = operation.on(id);
        let system = |error| operation.system(error);
        if id == with {
            return Err(operation.error(Kind::InvalidInput, "a layer cannot replace itself"));
        }
        let _locks = self.lock((id, Hold::Alone), Some((with, Hold::Alone)))?;
        let layout = self.layout();
        let new = layout.load(with, operation)?;
        let old = match layout.open_layer(id, operation) {
            Err(error) if error.kind() == Kind::Corrupt => {
                layout.clear_no_layer(id, operation)?;
                None
            }
            opened => opened?,
        };
        let old_record = match &old {
            // A record that cannot be read is part of the damage.
            Some(dir) => record::read::<Record>(dir, RECORD, operation).ok().flatten(),
            None => None,
        };
        self.may_replace(id, &new, old_record.as_ref(), operation)?;
        let name = layout.name_of(id);
        let known = match &old_record {
            Some(record) => Some(record.token.clone()),
            None => hooks.token(&name).map_err(system)?,
        };
        let renamed = known.is_none();
        let token = known.unwrap_or_else(|| new.record.token.clone());
        let parent = match &new.record.parent {
            Some(parent) => layout.open_layer(parent, operation)?,
            None => None,
        };
        hooks.forget(&new.dir).map_err(system)?;
        let record = Record { id: id.clone(), token, ..new.record.clone() };
        limit::beyond(&new.dir, || record::write(&new.dir, RECORD, &record)).map_err(system)?;
        for child in self.children(id, old.as_ref().filter(|_| old_record.is_some()), operation)? {
            limit::beyond(&new.dir, || add_marker(&new.dir, &child)).map_err(system)?;
        }
        let from = layout.name_of(with);
        let exchanged = match &old {
            Some(_) => layout.root().exchange(from.as_bytes(), layout.root(), name.as_bytes()),
            None => layout.root().rename_noreplace(from.as_bytes(), layout.root(), name.as_bytes()),
        };
        exchanged.map_err(system)?;
        if let Some(parent) = &parent {
            limit::beyond(parent, || add_marker(parent, &record)).map_err(system)?;
            drop_marker(parent, &marker_name(&new.record)).map_err(system)?;
        }
        hooks.repair(&layout.load(id, operation)?)?;
        if renamed {
            self.repair_above(id, hooks, operation)?;
        }
        layout.forget_apply(id).map_err(system)?;
        if old.is_some() {
            let (trashed, _lock) = layout.throw_away(layout.root(), from.as_bytes()).map_err(system)?;
            layout.reap(&trashed, old_record.as_ref());
        }
        Ok(())
    }

    /// The records of the layers that are built on this one: by the markers in its directory, or, where that is
    /// damaged, by a look at every layer.
    fn children(&self, id: &LayerId, dir: Option<&Dir>, operation: Operation<'_>) -> Result<Vec<Record>> {
        let layout = self.layout();
        let candidates: Vec<LayerId> = match dir {
            Some(dir) => layout.markers(dir, operation)?.into_iter().map(|(_, child, _)| child).collect(),
            None => layout.ids(operation)?,
        };
        let records = candidates.iter().filter_map(|child| Some(layout.load(child, operation).ok()?.record));
        Ok(records.filter(|record| record.parent.as_ref() == Some(id)).collect())
    }

    /// Repairs what the layers above keep of a layer that has another token now, from the bottom to the top.
    fn repair_above(&self, id: &LayerId, hooks: &dyn Hooks, operation: Operation<'_>) -> Result<()> {
        let all = self.list(operation)?;
        let mut pending = vec![id.clone()];
        while let Some(below) = pending.pop() {
            for info in all.iter().filter(|info| info.parent.as_ref() == Some(&below)) {
                hooks.repair(&self.layout().load(&info.id, operation)?)?;
                pending.push(info.id.clone());
            }
        }
        Ok(())
    }

    fn may_replace(
        &self,
        id: &LayerId,
        new: &Layer,
        old: Option<&Record>,
        operation: Operation<'_>,
    ) -> Result<()> {
        let with = &new.record.id;
        let refuse = |message: String| Err(operation.error(Kind::InvalidInput, message));
        if new.state() != LayerState::Sealed {
            return refuse(format!("the layer {with}, which is to replace it, is not sealed"));
        }
        if old.is_some_and(|old| old.parent != new.record.parent) {
            return refuse(format!("the layer {with}, which is to replace it, has another parent"));
        }
        if let Some(child) = self.layout().any_child(with, &new.dir, operation)? {
            return refuse(format!("the layer {child} is built on {with}, which is to replace it"));
        }
        for layer in [id, with] {
            if self.leases().in_use(layer)?.any() {
                let message = format!("the layer {layer} is mounted");
                return Err(operation.error(Kind::InUse, message).with_hint("unmount it first"));
            }
        }
        Ok(())
    }

    /// Makes a layer durable; see [`Driver::sync`](crate::Driver::sync).
    ///
    /// # Errors
    /// `NotFound`, `System`.
    pub fn sync(&self, id: &LayerId, operation: Operation<'_>) -> Result<()> {
        let operation = operation.on(id);
        let system = |error| operation.system(error);
        let _lock = self.leases().lock_shared(id)?;
        let dir = self.layout().open_layer(id, operation)?.ok_or_else(|| operation.not_found())?;
        sys::sync::tree(&dir, SYNC_THREADS).map_err(system)?;
        self.layout().root().sync().map_err(system)
    }
}
