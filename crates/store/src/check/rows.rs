//! Rows that can be read and are wrong: somebody changed them, and the record beside the data knows better.
//!
//! The database decides, and records may be behind it. So only what never changes once it is there is compared, and a
//! record counts only where it agrees with itself and with something else: the driver, which knows parents and what is
//! sealed, the chain IDs, and the configurations of images, which are what their digests say.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use layerstore_changeset::Digest;
use layerstore_driver::{LayerId, LayerInfo, LayerState as DriverState};

use crate::db::layers::{self, LayerOrigin, LayerRow};
use crate::db::{Durability, containers, images, retake};
use crate::error::Result;
use crate::mirror::{self, ContainerRecord, ImageRecord, LayerRecord};
use crate::model::{Container, LayerKind, LayerState};
use crate::rebuild::{layer_of, record_names};

use super::{Checker, OPERATION};

/// How long something suspicious is left alone before it is looked at again.
const PAUSE: Duration = Duration::from_millis(50);
const KIND: &str = "row-wrong";

/// A row that is not what its record says.
struct Differs<T> {
    columns: Vec<&'static str>,
    /// What it should be; none where the record is in doubt, with why.
    right: Result<T, String>,
}

impl<T> Differs<T> {
    fn message(&self, repair: bool) -> String {
        let columns = self.columns.join(", ");
        let how = match &self.right {
            Ok(_) if repair => "taken from the record".to_owned(),
            Ok(_) => "`check --repair` takes it from the record".to_owned(),
            Err(why) => format!("nothing is taken from it, because {why}"),
        };
        format!("its row and the record beside the data differ in {columns}; {how}")
    }
}

impl Checker<'_> {
    pub(super) fn rows(&mut self) -> Result<()> {
        self.layer_rows()?;
        self.container_rows()?;
        self.image_rows()
    }

    fn layer_rows(&mut self) -> Result<()> {
        let rows = self.store.database().read(OPERATION, layers::all)?;
        let chains = chains(&rows);
        let mut right = Vec::new();
        for row in rows.iter().filter(|row| is_complete(row)) {
            let id = &row.layer.id;
            if self.layer_differs(row, &chains).is_none() || self.store.is_live(id) {
                continue;
            }
            // Who changes it now writes the record right after the row.
            std::thread::sleep(PAUSE);
            let Some(now) = self.current(row)?.filter(|_| !self.store.is_live(id)) else { continue };
            let Some(differs) = self.layer_differs(&now, &chains) else { continue };
            if differs.right.is_err() && self.fits(&now, &chains) {
                // It is the record that somebody changed.
                if self.options.repair {
                    self.store.write_layer_record(&now)?;
                }
                let columns = differs.columns.join(", ");
                let how =
                    if self.options.repair { "written again" } else { "`check --repair` writes it again" };
                let message = format!(
                    "the record beside the data differs from its row in {columns}, which is right; {how}"
                );
                self.find("record-lost", id.as_str(), message, None, self.options.repair);
                continue;
            }
            self.find(KIND, id.as_str(), differs.message(self.options.repair), Some(id), false);
            right.extend(differs.right.ok());
        }
        if self.options.repair && !right.is_empty() {
            self.store
                .database()
                .write(OPERATION, Durability::Full, |transaction| retake::layers(transaction, &right))?;
            let ids: Vec<String> = right.iter().map(|row| row.layer.id.to_string()).collect();
            self.taken(&ids);
        }
        Ok(())
    }

    /// How a row differs from what its record and the driver say. None where there is nothing to compare it with.
    fn layer_differs(
        &self,
        row: &LayerRow,
        chains: &HashMap<LayerId, Option<Digest>>,
    ) -> Option<Differs<LayerRow>> {
        let id = &row.layer.id;
        let folders = self.store.folders();
        let name = mirror::file_name(id);
        // A layer that the driver does not have, or cannot read, is told as such.
        let info = self.store.driver().layer(id).ok()?;
        let of_container = (info.state == DriverState::Writable)
            .then(|| mirror::read::<ContainerRecord>(&folders.containers, &name))
            .flatten()
            .filter(|record| record.layer == *id)
            .map(|record| {
                let parent = record.parent.clone();
                layer_of(&record.into_container(), parent)
            });
        let record = of_container.or_else(|| {
            mirror::read::<LayerRecord>(&folders.records, &name)
                .filter(|record| record.id == *id)
                .map(|record| record.into_row(info.state == DriverState::Sealed))
        })?;
        let (is, said) = (&row.layer, &record.layer);
        let mut right = record.clone();
        // One layer has a chain ID, though several may have it in their records.
        if is.chain_id.is_none()
            && said.chain_id.is_some_and(|chain| chains.values().any(|other| *other == Some(chain)))
        {
            right.layer.chain_id = None;
        }
        // A layer that took the place of a damaged one may be kept in another way, and be ahead of its record.
        let lacks = |row: &LayerRow| self.store.lacks_its_tar(row).unwrap_or(true);
        if row.kept.is_some() && (record.kept.is_none() || lacks(&record) || !lacks(row)) {
            right.kept = row.kept;
        }
        let image = record.origin == LayerOrigin::Image;
        if !image {
            right.layer.size = is.size;
        }
        let said = &right.layer;
        let all = [
            ("parent", is.parent != said.parent),
            ("kind", is.kind != said.kind),
            ("origin", row.origin != right.origin),
            ("diff_id", is.diff_id != said.diff_id),
            ("chain_id", is.chain_id != said.chain_id),
            ("kept", row.kept != right.kept),
            ("size", is.size != said.size),
            ("tar_size", is.tar_size != said.tar_size),
            ("blob_digest", is.blob_digest != said.blob_digest),
            ("blob_size", is.blob_size != said.blob_size),
            ("media_type", is.media_type != said.media_type),
        ];
        let columns: Vec<_> = all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        if columns.is_empty() {
            return None;
        }
        let right = match self.doubt(&record, &info, chains) {
            None => Ok(right),
            Some(why) => Err(why),
        };
        Some(Differs { columns, right })
    }

    /// Why a record of a layer is not taken.
    fn doubt(
        &self,
        record: &LayerRow,
        info: &LayerInfo,
        chains: &HashMap<LayerId, Option<Digest>>,
    ) -> Option<String> {
        let layer = &record.layer;
        let named = |parent: &Option<LayerId>| {
            parent.as_ref().map_or_else(|| "no parent".to_owned(), |id| format!("the parent {id}"))
        };
        if info.parent != layer.parent {
            return Some(format!(
                "the driver has it over {}, and the record says {}",
                named(&info.parent),
                named(&layer.parent)
            ));
        }
        if layer.parent.as_ref().is_some_and(|parent| !chains.contains_key(parent)) {
            return Some(format!("{} has no row", named(&layer.parent)));
        }
        let sealed = info.state == DriverState::Sealed;
        if sealed != (record.origin == LayerOrigin::Image) && record.origin != LayerOrigin::User {
            let state = if sealed { "sealed" } else { "writable" };
            return Some(format!("the driver says that the layer is {state}, and the record does not"));
        }
        let (Some(diff_id), Some(chain_id)) = (&layer.diff_id, &layer.chain_id) else { return None };
        // The row of the parent may be wrong itself; its record is in doubt then, too, if it is.
        let of_record = |id: &LayerId| {
            let record = mirror::read::<LayerRecord>(&self.store.folders().records, &mirror::file_name(id))?;
            record.into_row(true).layer.chain_id
        };
        let below = match &layer.parent {
            None => Some(None),
            Some(parent) => of_record(parent).or_else(|| chains.get(parent).copied().flatten()).map(Some),
        };
        let fits = below.is_none_or(|below| Digest::chain(below.as_ref(), diff_id) == *chain_id);
        (!fits).then(|| "its chain ID does not come from its diff ID and its parent's".to_owned())
    }

    /// Whether a row of a layer that is no container's is as the driver says, and agrees with itself.
    fn fits(&self, row: &LayerRow, chains: &HashMap<LayerId, Option<Digest>>) -> bool {
        let Ok(info) = self.store.driver().layer(&row.layer.id) else { return false };
        let sealed = (info.state == DriverState::Sealed) == (row.layer.kind == LayerKind::Committed);
        row.origin != LayerOrigin::Container && sealed && self.doubt(row, &info, chains).is_none()
    }

    fn container_rows(&mut self) -> Result<()> {
        let store = self.store;
        let names: Vec<String> = record_names(&store.folders().containers)?.collect();
        let mut right = Vec::new();
        for name in names {
            let Some(differs) = self.container_differs(&name)? else { continue };
            std::thread::sleep(PAUSE);
            let Some(differs) = self.container_differs(&name)?.filter(|_| !differs.columns.is_empty()) else {
                continue;
            };
            let id = name.trim_end_matches(".json");
            let id = differs.right.as_ref().map_or(id, |container| &container.id).to_owned();
            self.find(KIND, &id, differs.message(self.options.repair), None, false);
            right.extend(differs.right.ok());
        }
        if self.options.repair && !right.is_empty() {
            store
                .database()
                .write(OPERATION, Durability::Full, |transaction| retake::containers(transaction, &right))?;
            self.taken(&right.into_iter().map(|container| container.id).collect::<Vec<_>>());
        }
        Ok(())
    }

    fn container_differs(&self, name: &str) -> Result<Option<Differs<Container>>> {
        let Some(record) = mirror::read::<ContainerRecord>(&self.store.folders().containers, name)
            .filter(|record| mirror::file_name(&record.layer) == name)
        else {
            return Ok(None);
        };
        let parent = record.parent.clone();
        let said = record.into_container();
        let (row, layer, taken) = self.store.database().read(OPERATION, |connection| {
            let row = match containers::with_layer(connection, &said.layer)? {
                None => containers::get(connection, &said.id)?.filter(|row| row.id == said.id),
                row => row,
            };
            let named = match &said.name {
                Some(name) => containers::get(connection, name)?,
                None => None,
            };
            let taken = named.is_some_and(|other| row.as_ref().is_none_or(|row| row.id != other.id));
            Ok((row, layers::get(connection, said.layer.as_str())?, taken))
        })?;
        let (Some(row), Some(layer)) = (row, layer) else { return Ok(None) };
        if !is_complete(&layer) {
            return Ok(None);
        }
        let said = Container { name: said.name.clone().filter(|_| !taken), ..said };
        let all = [
            ("id", row.id != said.id),
            ("name", row.name != said.name),
            ("image", row.image != said.image),
            ("image_name", row.image_name != said.image_name),
            ("layer", row.layer != said.layer),
            ("created", row.created != said.created),
            ("size_limit", row.size_limit != said.size_limit),
            ("labels", row.labels != said.labels),
        ];
        let columns: Vec<_> = all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        if columns.is_empty() {
            return Ok(None);
        }
        let right = match self.store.driver().layer(&said.layer) {
            Ok(info) if info.parent == parent => Ok(said),
            Ok(_) => Err("the driver has its layer over another parent".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(Some(Differs { columns, right }))
    }

    fn image_rows(&mut self) -> Result<()> {
        let store = self.store;
        let rows = store.database().read(OPERATION, images::all)?;
        for row in rows {
            // What is wrong with its documents is told as such.
            let Ok(config) = store.read_config(OPERATION, &row.id) else { continue };
            let wrong = || self.links_differ(&row.id, config.diff_ids());
            let Some(found) = wrong()? else { continue };
            std::thread::sleep(PAUSE);
            if found.columns.is_empty() || wrong()?.is_none() {
                continue;
            }
            self.report.findings.push(crate::model::Finding {
                kind: KIND,
                name: row.id.to_string(),
                message: found.message(self.options.repair),
                images: vec![row.id],
                repaired: false,
            });
            if let (Ok(layers), true) = (found.right, self.options.repair) {
                store.database().write(OPERATION, Durability::Full, |transaction| {
                    retake::links(transaction, &row.id, &layers)
                })?;
                self.taken(&[row.id.to_string()]);
            }
        }
        Ok(())
    }

    /// Whether an image is over other layers than its configuration says.
    fn links_differ(&self, id: &Digest, diff_ids: &[Digest]) -> Result<Option<Differs<Vec<LayerId>>>> {
        let folder = self.store.folders().images.open_dir(id.hex().as_bytes());
        let record = folder.ok().and_then(|folder| mirror::read::<ImageRecord>(&folder, mirror::IMAGE));
        self.store.database().read(OPERATION, |connection| {
            let is_chain = |rows: &[LayerRow]| {
                let mut below: Option<&LayerId> = None;
                rows.len() == diff_ids.len()
                    && rows.iter().zip(diff_ids).all(|(row, diff_id)| {
                        let fits = row.layer.parent.as_ref() == below && row.layer.diff_id == Some(*diff_id);
                        below = Some(&row.layer.id);
                        fits
                    })
            };
            // One that has none is told as lost, as far as it is.
            if !images::has_layers(connection, id)? || is_chain(&layers::of_image(connection, id)?) {
                return Ok(None);
            }
            let said = record.map(|record| record.layers).unwrap_or_default();
            let mut rows = Vec::new();
            for layer in &said {
                rows.extend(layers::get(connection, layer.as_str())?);
            }
            let right = if is_chain(&rows) {
                Ok(said)
            } else {
                Err("the layers that it names are not those of the image's configuration".to_owned())
            };
            Ok(Some(Differs { columns: vec!["layers"], right }))
        })
    }

    /// Notes that these rows were taken from their records.
    fn taken(&mut self, names: &[String]) {
        let names: HashSet<&String> = names.iter().collect();
        for finding in &mut self.report.findings {
            finding.repaired |= finding.kind == KIND && names.contains(&finding.name);
        }
    }
}

fn is_complete(row: &LayerRow) -> bool {
    matches!(row.layer.state, LayerState::Ready | LayerState::Damaged)
}

/// The chain IDs of layers that have rows.
fn chains(rows: &[LayerRow]) -> HashMap<LayerId, Option<Digest>> {
    rows.iter().map(|row| (row.layer.id.clone(), row.layer.chain_id)).collect()
}
