//! Putting right what needs no source: records, lost writable layers, what nothing refers to; and what needs one.

use layerstore_changeset::Context;
use layerstore_driver::{CreateOptions, LayerId};

use crate::db::layers::{self, LayerOrigin};
use crate::db::{Durability, damage, images};
use crate::error::{Explain as _, Result};
use crate::model::{Check, LayerKind, Watcher};
use crate::store::Store;

use super::{Checker, OPERATION};

impl Checker<'_> {
    pub(super) fn mend(&mut self) -> Result<()> {
        self.writable_layers()?;
        self.unneeded()?;
        self.orphans()?;
        let rows = self.store.database().read(OPERATION, layers::all)?;
        for name in self.store.write_missing_records(&rows)? {
            let message = "the record beside the data was missing or empty, and was written again".to_owned();
            self.find("record-lost", &name, message, None, true);
        }
        Ok(())
    }

    /// Makes the layer of a container again that is gone: its changes are lost, the container is not.
    fn writable_layers(&mut self) -> Result<()> {
        for row in self.store.database().read(OPERATION, damage::all)? {
            let id = &row.layer.id;
            let lost = row.origin == LayerOrigin::Container
                && row.layer.kind == LayerKind::Active
                && !self.store.driver().exists(id).explain(OPERATION, id)?;
            if !lost {
                continue;
            }
            let (driver, parent) = (self.store.driver(), row.layer.parent.as_ref());
            if let Err(error) = driver.create(id, parent, &CreateOptions::default(), self.context) {
                tracing::warn!(layer = %id, %error, "cannot make a container's layer again");
                continue;
            }
            self.store.sync_layer(OPERATION, id)?;
            self.store
                .database()
                .write(OPERATION, Durability::Full, |transaction| damage::clear(transaction, id, None))?;
            self.settle(id.as_str(), "made again, empty: what the container had changed is lost");
        }
        Ok(())
    }

    /// Drops damaged layers that nothing uses.
    fn unneeded(&mut self) -> Result<()> {
        let ((), doomed) = self.store.doom(OPERATION, Durability::Full, |transaction| {
            let mut doomed: Vec<LayerId> = Vec::new();
            for row in damage::all(transaction)?.into_iter().rev() {
                let unneeded = damage::is_of_image(&row) && layers::is_free(transaction, &row.layer.id)?;
                // Once it is on its way out no verb finds it to unmount it.
                if unneeded && !self.store.is_mounted(OPERATION, &row.layer.id)? {
                    layers::doom(transaction, &row.layer.id)?;
                    doomed.push(row.layer.id);
                }
            }
            Ok(((), doomed))
        })?;
        self.store.destroy(OPERATION, &doomed)?;
        for id in doomed.into_ids() {
            self.settle(id.as_str(), "removed: nothing uses it");
        }
        Ok(())
    }

    /// Frees what dead processes left and what no row knows.
    fn orphans(&mut self) -> Result<()> {
        for freed in self.store.free_orphans()? {
            if !self.settle(&freed.name, "removed") {
                let message = format!("{}; removed", freed.reason);
                self.find("orphan", &format!("{} {}", freed.kind, freed.name), message, None, true);
            }
        }
        Ok(())
    }

    /// Notes that what was found about `name` was put right. Says whether anything was.
    fn settle(&mut self, name: &str, how: &str) -> bool {
        let mut any = false;
        for finding in self.report.findings.iter_mut().filter(|finding| finding.name == name) {
            finding.message = format!("{}; {how}", finding.message);
            finding.repaired = true;
            any = true;
        }
        any
    }
}

impl Store {
    /// Restores damaged layers and documents of images from a source in the form of [`Store::pull`], and notes in
    /// `report` what was put right. Nothing new comes in: only layers that the store knows are read.
    ///
    /// # Errors
    /// Those of a pull.
    pub fn restore(&self, report: &mut Check, source: &str, context: &Context) -> Result<()> {
        let image = self.open_source(OPERATION, source, context)?;
        let mut restored: Vec<String> = self
            .restore_layers(&*image, &Watcher::default(), context)?
            .iter()
            .map(ToString::to_string)
            .collect();
        let id = image.config().image_id();
        let known = self.database().read(OPERATION, |connection| images::get(connection, &id))?;
        if known.is_some() {
            let manifest = image.manifest();
            self.write_image_files(&id, image.config().raw(), manifest.map(|manifest| manifest.raw()))?;
            restored.push(id.to_string());
        }
        for finding in &mut report.findings {
            if !finding.repaired && restored.contains(&finding.name) {
                finding.message = format!("{}; restored from {source}", finding.message);
                finding.repaired = true;
            }
        }
        Ok(())
    }
}
