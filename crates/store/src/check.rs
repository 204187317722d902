//! Comparing records with what lies on disk.
//!
//! Quick: the database by itself, rows against the driver's layers, records, blobs and images' documents. In
//! full: every layer's tar is put together again and its digest compared with the diff ID, which reads every
//! byte that came with an image.

use layerstore_changeset::Context;
use layerstore_driver::{LayerId, LayerState as DriverState};

use crate::db::layers::{Kept, LayerRow};
use crate::db::{Durability, images, layers};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::files;
use crate::model::{Check, CheckOptions, Finding, LayerKind, LayerState};
use crate::store::Store;

const OPERATION: &str = "check";

impl Store {
    /// Compares records with what lies on disk and, unless `quick`, puts the tar of every layer together again
    /// and compares its digest with the diff ID.
    ///
    /// # Errors
    /// Only what keeps it from checking; what it finds is in the report.
    pub fn check(&self, options: CheckOptions, context: &Context) -> Result<Check> {
        let mut checker = Checker { store: self, options, context, report: Check::default() };
        checker.database()?;
        checker.layers()?;
        checker.images()?;
        checker.unknown()?;
        Ok(checker.report)
    }
}

struct Checker<'a> {
    store: &'a Store,
    options: CheckOptions,
    context: &'a Context,
    report: Check,
}

impl Checker<'_> {
    fn database(&mut self) -> Result<()> {
        let problems = self.store.database().read(OPERATION, |connection| {
            let pragma = if self.options.quick { "quick_check(20)" } else { "integrity_check(20)" };
            let mut statement = connection.prepare(&format!("PRAGMA {pragma}")).explain(OPERATION, "")?;
            let lines: rusqlite::Result<Vec<String>> =
                statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
            let mut problems: Vec<String> =
                lines.explain(OPERATION, "")?.into_iter().filter(|line| line != "ok").collect();
            let mut statement = connection.prepare("PRAGMA foreign_key_check").explain(OPERATION, "")?;
            let tables: rusqlite::Result<Vec<String>> =
                statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
            let broken = tables.explain(OPERATION, "")?;
            problems.extend(broken.into_iter().map(|table| format!("a row of {table} refers to nothing")));
            Ok(problems)
        })?;
        for message in problems {
            self.find("database", "layerstore.db", message, None);
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<()> {
        let rows = self.store.database().read(OPERATION, layers::all)?;
        for row in rows {
            if matches!(row.layer.state, LayerState::Staging | LayerState::Deleting) {
                continue;
            }
            self.context.check().explain(OPERATION, "")?;
            self.report.layers += 1;
            match self.layer(&row) {
                Ok(()) => {}
                // Somebody removed it meanwhile.
                Err(_) if self.gone(&row.layer.id)? => {}
                Err((kind, message)) => {
                    let mut repaired = false;
                    if self.options.repair && row.layer.kind == LayerKind::Committed {
                        self.store.database().write(OPERATION, Durability::Full, |transaction| {
                            layers::set_damaged(transaction, &row.layer.id)
                        })?;
                        repaired = true;
                    }
                    self.find(kind, row.layer.id.as_str(), message, Some((&row.layer.id, repaired)));
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a layer, as kind and message.
    fn layer(&mut self, row: &LayerRow) -> Result<(), (&'static str, String)> {
        let id = &row.layer.id;
        let info = self.store.driver().layer(id).map_err(|error| match error.kind() {
            Kind::NotFound => ("layer-missing", "the driver has no such layer".to_owned()),
            _ => ("layer-damaged", error.to_string()),
        })?;
        if info.parent != row.layer.parent {
            return Err(("layer-damaged", "the driver has it over another parent".to_owned()));
        }
        let sealed = info.state == DriverState::Sealed;
        if sealed != (row.layer.kind == LayerKind::Committed) {
            let state = if sealed { "sealed" } else { "writable" };
            return Err(("layer-damaged", format!("the driver says that it is {state}, the store does not")));
        }
        let folders = self.store.folders();
        let (folder, name) = match row.kept {
            Some(Kept::Record) => (&folders.records, files::record_name(id)),
            Some(Kept::Blob) => (&folders.blobs, id.to_string()),
            None => return Ok(()),
        };
        match folder.try_stat(name.as_bytes()) {
            Ok(Some(stat)) if stat.size > 0 => {}
            Ok(Some(_)) => return Err(("record-missing", format!("{name} is empty"))),
            Ok(None) => return Err(("record-missing", format!("{name} is missing"))),
            Err(error) => return Err(("record-missing", error.to_string())),
        }
        if self.options.quick {
            return Ok(());
        }
        match self.store.verify_layer(OPERATION, row, self.context) {
            Ok(()) => {
                self.report.verified += 1;
                Ok(())
            }
            Err(error) => Err(("layer-damaged", error.message().to_owned())),
        }
    }

    fn gone(&self, id: &LayerId) -> Result<bool> {
        let row = self.store.database().read(OPERATION, |connection| layers::get(connection, id.as_str()))?;
        Ok(row.is_none_or(|row| row.layer.state == LayerState::Deleting))
    }

    fn images(&mut self) -> Result<()> {
        let rows = self.store.database().read(OPERATION, images::all)?;
        for row in rows {
            let checked: Result<(), Error> = self.store.read_config(OPERATION, &row).map(drop);
            if let Err(error) = checked
                && self
                    .store
                    .database()
                    .read(OPERATION, |connection| Ok(images::get(connection, &row.id)?.is_some()))?
            {
                self.report.findings.push(Finding {
                    kind: "image-files",
                    name: row.id.to_string(),
                    message: error.message().to_owned(),
                    images: vec![row.id],
                    repaired: false,
                });
            }
        }
        Ok(())
    }

    /// Layers that only the driver knows: space that nobody can use.
    fn unknown(&mut self) -> Result<()> {
        for info in self.store.unknown_layers(OPERATION)? {
            let mut repaired = false;
            if self.options.repair {
                self.store.driver().remove(&info.id).explain(OPERATION, &info.id)?;
                repaired = true;
            }
            let message = "the driver has it, the store does not know it".to_owned();
            self.find("layer-unknown", info.id.as_str(), message, Some((&info.id, repaired)));
        }
        Ok(())
    }

    fn find(&mut self, kind: &'static str, name: &str, message: String, layer: Option<(&LayerId, bool)>) {
        let images = layer.map(|(id, _)| {
            self.store.database().read(OPERATION, |connection| images::of_layer(connection, id))
        });
        // What cannot be said of the images does not hide the finding itself.
        let images = images.and_then(Result::ok).unwrap_or_default();
        let repaired = layer.is_some_and(|(_, repaired)| repaired);
        self.report.findings.push(Finding { kind, name: name.to_owned(), message, images, repaired });
    }
}
