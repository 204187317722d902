//! Rows of images, and which layers they are over.

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use layerstore_image::Config;

use super::super::{Checker, OPERATION};
use super::{Differs, KIND};
use crate::db::images::{self, ImageRow};
use crate::db::layers::{self, LayerRow};
use crate::db::{Durability, retake};
use crate::error::Result;
use crate::mirror::{self, ImageRecord};

impl Checker<'_> {
    pub(super) fn image_rows(&mut self) -> Result<()> {
        let store = self.store;
        let rows = store.database().read(OPERATION, images::all)?;
        for row in rows {
            // What is wrong with its documents is told as such.
            let Ok(config) = store.read_config(OPERATION, &row.id) else { continue };
            let found = Differs::twice(|| self.links_differ(&row.id, config.diff_ids()))?;
            if let Some(layers) = self.tell_of_image(&row.id, found) {
                store.database().write(OPERATION, Durability::Full, |transaction| {
                    retake::links(transaction, &row.id, &layers)
                })?;
                self.taken(&[row.id.to_string()]);
            }
            let found = Differs::twice(|| self.facts_differ(&row.id, &config))?;
            if let Some(right) = self.tell_of_image(&row.id, found) {
                store
                    .database()
                    .write(OPERATION, Durability::Full, |transaction| retake::image(transaction, &right))?;
                self.taken(&[row.id.to_string()]);
            }
        }
        Ok(())
    }

    /// Tells what differs, and gives back what is to be written.
    fn tell_of_image<T>(&mut self, id: &Digest, found: Option<Differs<T>>) -> Option<T> {
        let found = found?;
        self.report.findings.push(crate::model::Finding {
            kind: KIND,
            name: id.to_string(),
            message: found.message(self.options.repair),
            images: vec![*id],
            repaired: false,
        });
        found.right.ok().filter(|_| self.options.repair)
    }

    /// Whether an image was built at another time than its configuration says, or has another size than its layers.
    fn facts_differ(&self, id: &Digest, config: &Config) -> Result<Option<Differs<ImageRow>>> {
        let (row, layers) = self.store.database().read(OPERATION, |connection| {
            Ok((images::get(connection, id)?, layers::of_image(connection, id)?))
        })?;
        let Some(row) = row else { return Ok(None) };
        let mut right = ImageRow { created: config.created().map(ToOwned::to_owned), ..row.clone() };
        // What is wrong with a layer is told of that layer.
        let is_sound = |layer: &LayerRow| {
            let id = layer.layer.id.to_string();
            !self.report.findings.iter().any(|finding| finding.name == id && !finding.repaired)
        };
        let size = layers.iter().try_fold(0_u64, |sum, layer| Some(sum.saturating_add(layer.layer.size?)));
        if let Some(size) = size.filter(|size| *size != row.size)
            && layers.len() == config.diff_ids().len()
            && layers.iter().all(is_sound)
        {
            right.size = size;
        }
        let all = [("created", row.created != right.created), ("size", row.size != right.size)];
        Ok(Differs::of(all, || Ok(right)))
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
}
