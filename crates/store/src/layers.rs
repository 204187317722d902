//! Layers by themselves: the verbs for driver authors. `check` and `gc` know of such layers and leave them.
//!
//! Layers are named by id or unique prefix, those of images also by chain ID.

use std::io::{Read, Write};

use layerstore_changeset::Context;
use layerstore_driver::{Applied, Base, CreateOptions, LayerId, MountPlan, PathChange, PlanOptions, Usage};
use rusqlite::Connection;

use crate::db::layers::{LayerOrigin, NewLayer};
use crate::db::{Durability, layers};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::lookup;
use crate::model::{Layer, LayerKind, LayerState};
use crate::session::Lease;
use crate::store::Store;

impl Store {
    /// Makes a writable layer; a random id where none is given.
    ///
    /// # Errors
    /// Those of the driver's `create`.
    pub fn layer_create(
        &self,
        id: Option<&str>,
        parent: Option<&str>,
        options: &CreateOptions,
        context: &Context,
    ) -> Result<LayerId> {
        const OPERATION: &str = "layer create";
        let id = match id {
            Some(id) => LayerId::new(id),
            None => LayerId::random(),
        }
        .explain(OPERATION, id.unwrap_or_default())?;
        let parent = match parent {
            Some(parent) => Some(self.find_layer(OPERATION, parent)?),
            None => None,
        };
        let lease = Lease::take(self.staging(), id.as_str(), OPERATION)?;
        self.driver().create(&id, parent.as_ref(), options, context).explain(OPERATION, &id)?;
        let durable = self.sync_layer(OPERATION, &id);
        let done = durable.and_then(|()| {
            self.database().write(OPERATION, Durability::Full, |transaction| {
                layers::insert(
                    transaction,
                    &NewLayer {
                        id: &id,
                        parent: parent.as_ref(),
                        session: None,
                        chain_id: None,
                        kind: LayerKind::Active,
                        origin: LayerOrigin::User,
                    },
                )
            })
        });
        if done.is_err()
            && let Err(error) = self.driver().remove(&id)
        {
            tracing::warn!(layer = %id, %error, "a layer that nobody needs could not be removed");
        }
        done?;
        self.follow_layer(&id);
        drop(lease);
        Ok(id)
    }

    /// Applies a tar (plain, gzip or zstd) to a writable layer.
    ///
    /// # Errors
    /// Those of the driver's `apply`; [`InvalidInput`](crate::Kind::InvalidInput) for a layer of an image.
    pub fn layer_apply(
        &self,
        layer: &str,
        tar: &mut (dyn Read + Send),
        context: &Context,
    ) -> Result<Applied> {
        const OPERATION: &str = "layer apply";
        let id = self.find_layer(OPERATION, layer)?;
        let applied = self.apply_tar(OPERATION, &id, tar, context)?;
        self.sync_content(OPERATION, &id)?;
        self.database().write(OPERATION, Durability::Full, |transaction| {
            layers::applied(transaction, &id, applied.bytes)
        })?;
        self.follow_layer(&id);
        Ok(applied)
    }

    /// Makes a layer read-only for good.
    ///
    /// # Errors
    /// Those of the driver's `seal`.
    pub fn layer_seal(&self, layer: &str, context: &Context) -> Result<Usage> {
        const OPERATION: &str = "layer seal";
        let row =
            self.database().read(OPERATION, |connection| lookup::layer(connection, OPERATION, layer))?;
        if row.origin == LayerOrigin::Container {
            return Err(Error::new(Kind::InvalidInput, OPERATION, layer, "the layer belongs to a container")
                .with_hint("`layerstore commit` makes an image of a container"));
        }
        let id = row.layer.id;
        // The driver says sealed a moment before the row does; the lease tells others that this is no damage.
        let _lease = Lease::take(self.staging(), id.as_str(), OPERATION)?;
        let usage = self.driver().seal(&id, None, context).explain(OPERATION, layer)?;
        self.sync_content(OPERATION, &id)?;
        self.database()
            .write(OPERATION, Durability::Full, |transaction| layers::sealed(transaction, &id, usage))?;
        self.follow_layer(&id);
        Ok(usage)
    }

    /// Writes what leads from `base` (none: the parent) to the layer as a tar.
    ///
    /// # Errors
    /// Those of the driver's `diff`, and of the writer.
    pub fn layer_diff(
        &self,
        layer: &str,
        base: Option<&str>,
        out: &mut dyn Write,
        context: &Context,
    ) -> Result<()> {
        const OPERATION: &str = "layer diff";
        let id = self.find_layer(OPERATION, layer)?;
        let base = self.find_base(OPERATION, base)?;
        self.write_diff(OPERATION, &id, base_of(base.as_ref()), out, context).map(drop)
    }

    /// The names that differ from `base` (none: the parent), sorted.
    ///
    /// # Errors
    /// Those of the driver's `changes`.
    pub fn layer_changes(
        &self,
        layer: &str,
        base: Option<&str>,
        context: &Context,
    ) -> Result<Vec<PathChange>> {
        const OPERATION: &str = "layer changes";
        let id = self.find_layer(OPERATION, layer)?;
        let base = self.find_base(OPERATION, base)?;
        let mut changes =
            self.driver().changes(&id, base_of(base.as_ref()), context).explain(OPERATION, layer)?;
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(changes)
    }

    /// What would be mounted.
    ///
    /// # Errors
    /// Those of the driver's `plan`.
    pub fn layer_plan(&self, layer: &str, options: &PlanOptions) -> Result<MountPlan> {
        const OPERATION: &str = "layer plan";
        let id = self.find_layer(OPERATION, layer)?;
        let _lock = self.driver().leases().lock(&id).explain(OPERATION, layer)?;
        let plan = self.driver().plan(&id, options).explain(OPERATION, layer)?;
        if !self.is_mounted(OPERATION, &id)? {
            // Nobody mounts this plan, so nothing that it prepared may stay.
            self.driver().release(&id).explain(OPERATION, layer)?;
        }
        Ok(plan)
    }

    /// Removes a layer that nothing uses and returns its id.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) with what uses it: an image, a container, a child, a mount.
    pub fn layer_remove(&self, layer: &str) -> Result<LayerId> {
        const OPERATION: &str = "layer remove";
        let id = self.find_layer(OPERATION, layer)?;
        let refuse_mounted = || match self.is_mounted(OPERATION, &id)? {
            true => Err(Error::new(Kind::InUse, OPERATION, layer, "the layer is mounted")
                .with_layer(&id)
                .with_hint("unmount it first")),
            false => Ok(()),
        };
        let refuse_used = |connection: &Connection| {
            let users = layers::users(connection, &id)?;
            if !users.is_empty() {
                let message = format!("the layer is used by {}", users.join(", "));
                return Err(Error::new(Kind::InUse, OPERATION, layer, message).with_layer(&id));
            }
            let row = layers::get(connection, id.as_str())?;
            if row.is_some_and(|row| row.layer.state == LayerState::Staging) {
                return Err(Error::new(Kind::InUse, OPERATION, layer, "the layer is being written"));
            }
            Ok(())
        };
        refuse_mounted()?;
        let lock = self.lock_for_removal(OPERATION, &id, refuse_used)?;
        refuse_mounted()?;
        let ((), doomed) = self.doom(OPERATION, Durability::Full, |transaction| {
            refuse_used(transaction)?;
            layers::doom(transaction, &id)?;
            Ok(((), vec![id.clone()]))
        })?;
        drop(lock);
        self.destroy(OPERATION, &doomed)?;
        Ok(id)
    }

    /// Every layer, the oldest first.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let rows = self.database().read("layer list", layers::all)?;
        Ok(rows
            .into_iter()
            .map(|row| row.layer)
            .filter(|layer| layer.state != LayerState::Deleting)
            .collect())
    }

    /// One layer.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an ambiguous prefix.
    pub fn layer(&self, layer: &str) -> Result<Layer> {
        const OPERATION: &str = "layer inspect";
        let row =
            self.database().read(OPERATION, |connection| lookup::layer(connection, OPERATION, layer))?;
        Ok(row.layer)
    }

    /// Where a layer lies, as pairs of label and path.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn layer_metadata(&self, layer: &str) -> Result<Vec<(String, String)>> {
        const OPERATION: &str = "layer inspect";
        let id = self.find_layer(OPERATION, layer)?;
        self.driver().metadata(&id).explain(OPERATION, layer)
    }

    /// Writes down what the database says of a layer after a transaction that is through.
    fn follow_layer(&self, id: &LayerId) {
        let written = self
            .database()
            .read("write record", |connection| layers::get(connection, id.as_str()))
            .and_then(|row| row.map_or(Ok(()), |row| self.write_layer_record(&row)));
        if let Err(error) = written {
            tracing::warn!(layer = %id, %error, "the record of a layer is behind the database");
        }
    }

    fn find_layer(&self, operation: &'static str, layer: &str) -> Result<LayerId> {
        let row =
            self.database().read(operation, |connection| lookup::layer(connection, operation, layer))?;
        Ok(row.layer.id)
    }

    fn find_base(&self, operation: &'static str, base: Option<&str>) -> Result<Option<LayerId>> {
        base.map(|base| self.find_layer(operation, base)).transpose()
    }
}

fn base_of(base: Option<&LayerId>) -> Base<'_> {
    base.map_or(Base::Parent, Base::Layer)
}
