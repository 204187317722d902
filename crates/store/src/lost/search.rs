//! Looking for what is lost: records beside rows.

use std::collections::{HashMap, HashSet};

use layerstore_changeset::Digest;
use layerstore_driver::{LayerId, LayerInfo};
use rusqlite::Connection;

use crate::db::layers::{LayerOrigin, LayerRow};
use crate::db::{containers, images, layers, removed, sessions};
use crate::error::{Explain as _, Kind, Result};
use crate::mirror::{self, ContainerRecord, ImageRecord, NamesRecord};
use crate::model::{LayerKind, LayerState};
use crate::rebuild::layer_of;
use crate::session::Lease;
use crate::store::Store;

use super::{Lost, LostImage};

/// What the database says of rows, at one moment.
pub(super) struct Known {
    /// Those that stay.
    layers: HashSet<String>,
    /// Those on their way out.
    pub(super) doomed: HashSet<String>,
    removed: HashSet<String>,
    /// Layers that rows refer to and that have none.
    wanted: HashSet<String>,
    /// Layers of containers.
    own: HashSet<String>,
    /// Images that have their layers.
    images: HashSet<String>,
}

impl Known {
    pub(super) fn read(connection: &Connection, operation: &'static str) -> Result<Self> {
        let texts = |sql: &str| -> Result<HashSet<String>> {
            connection
                .prepare(sql)
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .explain(operation, "")
        };
        let layers = texts("SELECT id FROM layers WHERE state <> 'deleting'")?;
        // Said twice for the index, which is of those that are not ready.
        let doomed = texts("SELECT id FROM layers WHERE state = 'deleting' AND state <> 'ready'")?;
        let mut wanted = texts(
            "SELECT layer FROM image_layers UNION SELECT layer FROM containers \
             UNION SELECT parent FROM layers WHERE parent IS NOT NULL",
        )?;
        wanted.retain(|id| !layers.contains(id) && !doomed.contains(id));
        let own = texts("SELECT layer FROM containers")?;
        let images = texts("SELECT id FROM images WHERE id IN (SELECT image FROM image_layers)")?;
        Ok(Self { layers, doomed, removed: removed::all(connection)?, wanted, own, images })
    }
}

/// A look for what is lost.
pub(super) struct Search<'a> {
    pub(super) store: &'a Store,
    pub(super) operation: &'static str,
    pub(super) known: Known,
    /// The driver's layers; asked for when there is something to ask.
    pub(super) infos: Option<HashMap<LayerId, LayerInfo>>,
    pub(super) candidates: HashMap<LayerId, LayerRow>,
}

impl Search<'_> {
    /// Whether no row knows the layer, nobody removed it and nobody is making or removing it.
    pub(super) fn is_open(&self, id: &str) -> Result<bool> {
        let Known { layers, doomed, removed, .. } = &self.known;
        if [layers, doomed, removed].into_iter().any(|known| known.contains(id)) {
            return Ok(false);
        }
        if Lease::is_held(self.store.staging(), id).explain(self.operation, id)? {
            return Ok(false);
        }
        // Its maker lets the lease go after the row is there, and its remover notes the removal before.
        self.store.database().read(self.operation, |connection| {
            Ok(layers::get(connection, id)?.is_none() && !removed::all(connection)?.contains(id))
        })
    }

    pub(super) fn info(&mut self, id: &LayerId) -> Result<Option<LayerInfo>> {
        if self.infos.is_none() {
            let infos = self.store.driver().layers().explain(self.operation, "")?;
            self.infos = Some(infos.into_iter().map(|info| (info.id.clone(), info)).collect());
        }
        Ok(self.infos.as_ref().and_then(|infos| infos.get(id).cloned()))
    }

    /// Adds a layer and what it stands on, if all of it is there.
    fn add_chain(&self, top: Option<&LayerId>, lost: &mut Lost) -> bool {
        let mut found: Vec<&LayerRow> = Vec::new();
        let mut next = top;
        while let Some(id) = next.filter(|id| !self.known.layers.contains(id.as_str())) {
            // Chains have an end; records may say what they like.
            let Some(row) =
                self.candidates.get(id).filter(|row| !found.iter().any(|one| one.layer.id == row.layer.id))
            else {
                return false;
            };
            found.push(row);
            next = row.layer.parent.as_ref();
        }
        lost.layers.extend(found.into_iter().map(|row| (row.layer.id.clone(), row.clone())));
        true
    }

    pub(super) fn container(&mut self, name: &str, lost: &mut Lost) -> Result<()> {
        let id = name.trim_end_matches(".json");
        let Some(record) = self
            .is_open(id)?
            .then(|| mirror::read::<ContainerRecord>(&self.store.folders().containers, name))
            .flatten()
            .or_else(|| self.without_row(id, name))
        else {
            return Ok(());
        };
        let parent = record.parent.clone();
        let container = record.into_container();
        if container.layer.as_str() != id || self.info(&container.layer)?.is_none() {
            return Ok(());
        }
        if !self.add_chain(parent.as_ref(), lost) {
            return Ok(());
        }
        if !self.known.layers.contains(id) {
            lost.layers.insert(container.layer.clone(), layer_of(&container, parent));
        }
        let there = self
            .store
            .database()
            .read(self.operation, |connection| Ok(containers::get(connection, &container.id)?.is_some()))?;
        if !there {
            lost.containers.push(container);
        }
        Ok(())
    }

    /// The record of a container that has lost its own row, but not that of its layer.
    fn without_row(&self, id: &str, name: &str) -> Option<ContainerRecord> {
        let Known { layers: known, own, removed, .. } = &self.known;
        if !known.contains(id) || own.contains(id) || removed.contains(id) {
            return None;
        }
        let lost = |connection: &Connection| {
            let Some(row) = layers::get(connection, id)? else { return Ok(false) };
            Ok(row.origin == LayerOrigin::Container
                && row.layer.kind == LayerKind::Active
                && row.layer.state != LayerState::Deleting
                && containers::with_layer(connection, &row.layer.id)?.is_none())
        };
        self.store
            .database()
            .read(self.operation, lost)
            .unwrap_or(false)
            .then(|| mirror::read::<ContainerRecord>(&self.store.folders().containers, name))
            .flatten()
    }

    pub(super) fn image(&mut self, hex: &str, lost: &mut Lost) -> Result<()> {
        let Ok(id) = format!("sha256:{hex}").parse::<Digest>() else { return Ok(()) };
        if self.known.removed.contains(hex) || self.known.images.contains(&id.to_string()) {
            return Ok(());
        }
        // All that was removed is read only for those that need it: there may be many of both.
        let (there, whole) = self.store.database().read(self.operation, |connection| {
            let there = images::get(connection, &id)?.is_some();
            let whole = if there {
                images::has_layers(connection, &id)?
            } else {
                sessions::is_held(connection, &id.to_string())? || removed::all(connection)?.contains(hex)
            };
            Ok((there, whole))
        })?;
        if whole {
            return Ok(());
        }
        let Ok(folder) = self.store.folders().images.open_dir(hex.as_bytes()) else { return Ok(()) };
        let Some(record) =
            mirror::read::<ImageRecord>(&folder, mirror::IMAGE).filter(|record| record.id == id)
        else {
            return Ok(());
        };
        if record.layers.is_empty() && there {
            return Ok(());
        }
        match self.store.read_config(self.operation, &id) {
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => return Ok(()),
            read => drop(read?),
        }
        // All of them, or none is taken.
        let mut whole = Lost::default();
        if !record.layers.iter().all(|layer| self.add_chain(Some(layer), &mut whole)) {
            return Ok(());
        }
        lost.layers.extend(whole.layers);
        let names = mirror::read::<NamesRecord>(&folder, "names.json").map(|record| record.names);
        let names = names.unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
        lost.images.push(LostImage { row: record.row(), layers: record.layers, names });
        Ok(())
    }

    /// Layers that rows refer to, or that somebody made for themselves.
    pub(super) fn rest(&self, lost: &mut Lost) {
        for (id, row) in &self.candidates {
            // One on its way out counts only where something that is lost is over it: somebody removes it.
            let own = row.origin == LayerOrigin::User && !self.known.doomed.contains(id.as_str());
            if own || self.known.wanted.contains(id.as_str()) {
                self.add_chain(Some(id), lost);
            }
        }
    }
}
