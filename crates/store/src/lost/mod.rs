//! Rows that the database has lost: an older copy of it was put in its place, its log is gone, or somebody deleted them.
//!
//! The records of [`mirror`](crate::mirror) know what there was. Invariant: the record of a layer or an image is there
//! only while its row is, except for a moment under the lease or the hold of whoever makes or removes it, and where a
//! power cut took the removal of a file back, which [`removed`](crate::db::removed) remembers. So a record that is none
//! of these tells of something that nobody removed: it is told, never taken for a leftover, and comes back by a repair.

use std::collections::{HashMap, HashSet};

use layerstore_changeset::Context;
use layerstore_driver::{Base, LayerId, LayerState as DriverState};
use layerstore_image::ImageName;

use crate::db::images::ImageRow;
use crate::db::layers::LayerRow;
use crate::db::{Durability, containers, damage, images, layers, removed};
use crate::error::{Error, Explain as _, Result};
use crate::mirror::{self, LayerRecord};
use crate::model::Container;
use crate::rebuild::record_names;
use crate::store::Store;

use search::{Known, Search};

mod names;
mod search;

/// What a person can do about it.
const HINT: &str = "`layerstore check --repair` brings it back from the records beside the data";

/// What records tell of and no row does.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Those that something else needs, or somebody made for themselves.
    layers: HashMap<LayerId, LayerRow>,
    containers: Vec<Container>,
    images: Vec<LostImage>,
}

#[derive(Debug)]
struct LostImage {
    row: ImageRow,
    layers: Vec<LayerId>,
    names: Vec<ImageName>,
}

/// One thing that is lost, for a person.
pub(crate) struct Thing {
    pub(crate) name: String,
    pub(crate) message: String,
}

impl Lost {
    pub(crate) fn has_layer(&self, id: &str) -> bool {
        self.layers.keys().any(|lost| lost.as_str() == id)
    }

    /// Whether something that is lost is over this layer, or it itself.
    pub(crate) fn needs(&self, id: &LayerId) -> bool {
        let parent = |row: &LayerRow| row.layer.parent.as_ref() == Some(id);
        self.layers.contains_key(id)
            || self.layers.values().any(parent)
            || self.containers.iter().any(|container| container.layer == *id)
            || self.images.iter().any(|image| image.layers.contains(id))
    }

    pub(crate) fn has_image(&self, hex: &str) -> bool {
        self.images.iter().any(|image| image.row.id.hex() == hex)
    }

    fn parents_first(&mut self) -> Vec<&mut LayerRow> {
        let parents: HashMap<LayerId, Option<LayerId>> =
            self.layers.iter().map(|(id, row)| (id.clone(), row.layer.parent.clone())).collect();
        let depth = |id: &LayerId| {
            let above = |id: &&LayerId| parents.get(*id).and_then(Option::as_ref);
            std::iter::successors(Some(id), above).take(parents.len()).count()
        };
        let mut rows: Vec<(usize, &mut LayerRow)> =
            self.layers.iter_mut().map(|(id, row)| (depth(id), row)).collect();
        rows.sort_by_key(|(depth, _)| *depth);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// What it is, each thing once: layers only where they belong to nothing else that is lost.
    pub(crate) fn things(&self) -> Vec<Thing> {
        let mut things = Vec::new();
        let mut told: HashSet<&LayerId> = HashSet::new();
        let why = "records beside the data tell of it, and the database does not know it";
        for image in &self.images {
            told.extend(&image.layers);
            let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
            let names = if names.is_empty() { String::new() } else { format!(" {}", names.join(", ")) };
            things
                .push(Thing { name: image.row.id.to_string(), message: format!("the image{names}: {why}") });
        }
        for container in &self.containers {
            told.insert(&container.layer);
            let name = container.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
            things.push(Thing { name: container.id.clone(), message: format!("the container{name}: {why}") });
        }
        let mut layers: Vec<&LayerId> = self.layers.keys().filter(|id| !told.contains(id)).collect();
        layers.sort_unstable();
        things.extend(
            layers.into_iter().map(|id| Thing { name: id.to_string(), message: format!("the layer: {why}") }),
        );
        things
    }

    /// Tells that these things are left alone by something that frees what no row knows.
    pub(crate) fn warn(&self) {
        for thing in self.things() {
            tracing::warn!("left alone {}: {}; {HINT}", thing.name, thing.message);
        }
    }
}

impl Store {
    /// What records tell of and no row does, though nobody removed it and nobody is at it.
    pub(crate) fn lost(&self, operation: &'static str) -> Result<Lost> {
        // Before the rows: a record is there only with its row, or under somebody's lease.
        let folders = self.folders();
        let (records, boxes): (Vec<String>, Vec<String>) =
            (record_names(&folders.records)?.collect(), record_names(&folders.containers)?.collect());
        let documents = folders.images.entries().explain(operation, "images")?;
        let known = self.database().read(operation, |connection| Known::read(connection, operation))?;
        let mut search = Search { store: self, operation, known, infos: None, candidates: HashMap::new() };
        for name in records {
            let id = name.trim_end_matches(".json");
            // What is on its way out cannot go as long as something is over it that is lost.
            if (search.known.doomed.contains(id) || search.is_open(id)?)
                && let Some(record) = mirror::read::<LayerRecord>(&folders.records, &name)
                && record.id.as_str() == id
                && let Some(info) = search.info(&record.id)?
            {
                let row = record.into_row(info.state == DriverState::Sealed);
                search.candidates.insert(row.layer.id.clone(), row);
            }
        }
        let mut lost = Lost::default();
        for name in boxes {
            search.container(&name, &mut lost)?;
        }
        for entry in documents {
            let hex = String::from_utf8(entry.name).unwrap_or_default();
            search.image(&hex, &mut lost)?;
        }
        search.rest(&mut lost);
        Ok(lost)
    }

    /// What records tell of and nobody removed, whether or not they can be read: layers whose data is there, and
    /// images by the digits of their IDs.
    pub(crate) fn told(&self, operation: &'static str) -> Result<HashSet<String>> {
        let folders = self.folders();
        let mut told = HashSet::new();
        for folder in [&folders.records, &folders.containers] {
            told.extend(record_names(folder)?.map(|name| name.trim_end_matches(".json").to_owned()));
        }
        let layers = self.driver().layers().explain(operation, "")?;
        let layers: HashSet<&str> = layers.iter().map(|info| info.id.as_str()).collect();
        told.retain(|id| layers.contains(id.as_str()));
        for entry in folders.images.entries().explain(operation, "images")? {
            let folder = folders.images.open_dir(&entry.name);
            if let Ok(hex) = String::from_utf8(entry.name)
                && folder.is_ok_and(|folder| {
                    folder.try_stat(mirror::IMAGE.as_bytes()).is_ok_and(|stat| stat.is_some())
                })
            {
                told.insert(hex);
            }
        }
        let removed = self.database().read(operation, removed::all)?;
        told.retain(|id| !removed.contains(id));
        Ok(told)
    }

    /// As [`Store::lost`], without containers that were never changed: there is nothing to lose in them, and a power cut
    /// leaves such a one of a creation that nobody was told of.
    pub(crate) fn lost_and_dear(&self, operation: &'static str) -> Result<Lost> {
        let mut lost = self.lost(operation)?;
        let empty: HashSet<LayerId> = lost
            .containers
            .iter()
            .filter(|container| {
                let changes = self.driver().changes(&container.layer, Base::Parent, &Context::new());
                changes.is_ok_and(|changes| changes.is_empty())
            })
            .map(|container| container.layer.clone())
            .collect();
        lost.containers.retain(|container| !empty.contains(&container.layer));
        lost.layers.retain(|id, _| !empty.contains(id));
        Ok(lost)
    }

    /// Writes the rows again.
    pub(crate) fn bring_back(&self, operation: &'static str, lost: &mut Lost) -> Result<()> {
        let renamed = self.database().write(operation, Durability::Full, |transaction| {
            transaction.pragma_update(None, "defer_foreign_keys", true).explain(operation, "")?;
            for row in lost.parents_first() {
                // One layer has a chain ID; which one does not matter, they give the same view.
                if let Some(chain_id) = row.layer.chain_id
                    && layers::by_chain(transaction, &chain_id)?.is_some()
                {
                    row.layer.chain_id = None;
                }
                layers::forget(transaction, std::slice::from_ref(&row.layer.id))?;
                if layers::get(transaction, row.layer.id.as_str())?.is_none() {
                    damage::restore(transaction, row)?;
                }
            }
            for container in &mut lost.containers {
                // What the database says of a name counts.
                if let Some(name) = &container.name
                    && containers::get(transaction, name)?.is_some()
                {
                    container.name = None;
                }
                if containers::get(transaction, &container.id)?.is_none() {
                    containers::insert(transaction, container)
                        .map_err(|error| Error::database(operation, error))?;
                }
            }
            for image in &mut lost.images {
                images::insert(transaction, &image.row, &image.layers)?;
                if !images::has_layers(transaction, &image.row.id)? {
                    images::link(transaction, &image.row.id, &image.layers)?;
                }
                let mut free = Vec::new();
                for name in image.names.drain(..) {
                    if images::named(transaction, &name)?.is_none() {
                        images::set_name(transaction, &name, &image.row.id)?;
                        free.push(name);
                    }
                }
                image.names = free;
            }
            Ok(lost.images.iter().map(|image| image.row.id).collect::<Vec<_>>())
        })?;
        self.follow_names(&renamed);
        Ok(())
    }
}
