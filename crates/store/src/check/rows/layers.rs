//! Rows of layers.

use std::collections::HashMap;

use layerstore_changeset::Digest;
use layerstore_driver::{LayerId, LayerInfo, LayerState as DriverState};

use super::super::{Checker, OPERATION};
use super::{Differs, KIND, PAUSE, is_complete};
use crate::db::layers::{self, LayerOrigin, LayerRow};
use crate::db::{Durability, retake};
use crate::error::Result;
use crate::mirror::{self, ContainerRecord, LayerRecord};
use crate::model::LayerKind;
use crate::rebuild::layer_of;

impl Checker<'_> {
    pub(super) fn layer_rows(&mut self) -> Result<()> {
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
        if record.origin == LayerOrigin::Container {
            // That of its container, which came a moment before or after.
            right.layer.created = is.created;
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
            ("created", is.created != said.created),
        ];
        Differs::of(all, || self.doubt(&record, &info, chains).map_or(Ok(right), Err))
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
}

/// The chain IDs of layers that have rows.
fn chains(rows: &[LayerRow]) -> HashMap<LayerId, Option<Digest>> {
    rows.iter().map(|row| (row.layer.id.clone(), row.layer.chain_id)).collect()
}
