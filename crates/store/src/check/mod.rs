//! Comparing records with what lies on disk, and putting right what can be.
//!
//! Quick: the database by itself, rows against the driver's layers, records, blobs and images' documents. In
//! full: every layer's tar is put together again and its digest compared with the diff ID, several layers at once,
//! which reads every byte that came with an image.
//!
//! The store may be in use meanwhile. Invariant: what is found was looked at twice, and nobody was working on it; so
//! a healthy store gives no finding, whatever others do. What is found damaged is marked, so that nobody builds on
//! it; nothing but `repair` changes more than that. What could not be read is told, but damaged only for `repair`: the
//! machine may have failed, and not the layer.

mod contents;
mod layer;
mod mend;
mod rows;

use std::collections::HashSet;

use layer::UNREADABLE;
use layerstore_changeset::Context;
use layerstore_driver::{LayerId, Look, Outcome, Recovered};
use layerstore_image::Manifest;

use crate::db::{Durability, damage, images, layers, retake};
use crate::error::{Explain as _, Result};
use crate::lost::Thing;
use crate::model::{Check, CheckOptions, Finding, LayerKind, LayerState};
use crate::store::Store;

const OPERATION: &str = "check";

impl Store {
    /// Compares records with what lies on disk and, unless `quick`, puts the tar of every layer together again
    /// and compares its digest with the diff ID. Damaged layers are marked. With `repair`, what can be put right
    /// without a source is: marks of sound layers go, records are written again, a lost writable layer of a
    /// container is made again (empty), what nothing refers to is freed. [`Store::restore`] does the rest.
    ///
    /// # Errors
    /// Only what keeps it from checking; what it finds is in the report.
    pub fn check(&self, options: CheckOptions, context: &Context) -> Result<Check> {
        let mut checker = Checker { store: self, options, context, report: Check::default() };
        // Told below, as damaged layers, and put right there where they are sound.
        self.mark_strays(OPERATION)?;
        checker.database()?;
        if options.repair {
            checker.driver()?;
        }
        checker.lost()?;
        if options.repair {
            checker.dangling()?;
        }
        checker.rows()?;
        checker.names()?;
        checker.layers()?;
        checker.images()?;
        checker.unknown()?;
        if options.repair {
            checker.mend()?;
            checker.database_again()?;
        }
        Ok(checker.report)
    }
}

struct Checker<'a> {
    store: &'a Store,
    options: CheckOptions,
    context: &'a Context,
    report: Check,
}

/// What is wrong with a layer, as kind and message.
type Wrong = (&'static str, String);

impl Checker<'_> {
    fn database(&mut self) -> Result<()> {
        for message in self.problems()? {
            self.find("database", "layerstore.db", message, None, false);
        }
        Ok(())
    }

    /// Takes away rows that belong to nothing, after what they may belong to is back.
    fn dangling(&mut self) -> Result<()> {
        if self.report.findings.iter().any(|finding| finding.kind == "database") {
            self.store
                .database()
                .write(OPERATION, Durability::Full, |transaction| retake::clear_dangling(transaction))?;
        }
        Ok(())
    }

    /// Notes which problems of the database are no more, now that rows were put right.
    fn database_again(&mut self) -> Result<()> {
        if !self.report.findings.iter().any(|finding| finding.kind == "database") {
            return Ok(());
        }
        let mut left = self.problems()?;
        for finding in self.report.findings.iter_mut().filter(|finding| finding.kind == "database") {
            match left.iter().position(|message| *message == finding.message) {
                Some(index) => drop(left.swap_remove(index)),
                None => finding.repaired = true,
            }
        }
        Ok(())
    }

    /// What is wrong with the database by itself.
    fn problems(&self) -> Result<Vec<String>> {
        self.store.database().read(OPERATION, |connection| {
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
        })
    }

    /// Has the driver look at everything, before its layers are judged: what it can make again from its own records is
    /// no damage of a layer.
    fn driver(&mut self) -> Result<()> {
        let store = self.store;
        let recovered =
            store.driver().recover(&|id| store.is_live(id), Look::Everything).explain(OPERATION, "")?;
        for Recovered { id, what, outcome } in recovered {
            let (kind, repaired) = match outcome {
                Outcome::Repaired => ("driver-repaired", true),
                Outcome::NotFreed => ("orphan", false),
                // What it left alone is found, as damage of a layer, by the look at the layers.
                Outcome::Tidied | Outcome::LeftAlone => continue,
            };
            let name = id.as_ref().map_or_else(|| store.driver().name().to_owned(), ToString::to_string);
            self.find(kind, &name, what, id.as_ref(), repaired);
        }
        Ok(())
    }

    /// What records tell of and no row does.
    fn lost(&mut self) -> Result<()> {
        let mut lost = self.store.lost(OPERATION)?;
        let things = lost.things();
        if self.options.repair && !things.is_empty() {
            self.store.bring_back(OPERATION, &mut lost)?;
        }
        for Thing { name, message } in things {
            let how = if self.options.repair { "brought back" } else { "`check --repair` brings it back" };
            self.find("row-lost", &name, format!("{message}; {how}"), None, self.options.repair);
        }
        Ok(())
    }

    /// Names that records of images have and no row.
    fn names(&mut self) -> Result<()> {
        let none = self.store.database().read(OPERATION, images::no_names)?;
        if self.options.repair && !none.is_empty() {
            self.store.database().write(OPERATION, Durability::Full, |transaction| {
                retake::clear_no_names(transaction, &none)
            })?;
        }
        for text in none {
            let how = if self.options.repair { "removed" } else { "`check --repair` removes it" };
            let message = format!("a row in the place of an image's name, which it is not; {how}");
            self.find("row-wrong", &format!("{text:?}"), message, None, self.options.repair);
        }
        let mut names = self.store.look_at_names(OPERATION)?;
        let mut back = HashSet::new();
        if self.options.repair {
            back = self.store.bring_names_back(OPERATION, &names)?;
            names.lost.retain(|key, (_, of)| back.contains(key) || of.len() > 1);
            self.store.write_names_behind(&names)?;
        }
        for (key, (name, of)) in names.lost {
            let how = match of.as_slice() {
                [_] if back.contains(&key) => "brought back".to_owned(),
                [_] => "`check --repair` brings it back".to_owned(),
                _ => "it was not the name of them all: give it with `layerstore tag`".to_owned(),
            };
            let ids: Vec<String> = of.iter().map(ToString::to_string).collect();
            self.report.findings.push(Finding {
                kind: "row-lost",
                name: name.to_string(),
                message: format!(
                    "the name of the image {}: a record beside the data tells of it, and the database does not know \
                     it; {how}",
                    ids.join(" and ")
                ),
                images: of,
                repaired: back.contains(&key),
            });
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<()> {
        let rows = self.store.database().read(OPERATION, layers::all)?;
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| matches!(row.layer.state, LayerState::Ready | LayerState::Damaged))
            .collect();
        self.report.layers = rows.len() as u64;
        let outcomes = self.look_at(&rows)?;
        for (row, wrong) in rows.iter().zip(outcomes) {
            let (id, damaged) = (&row.layer.id, row.layer.state == LayerState::Damaged);
            match wrong {
                None if damaged && self.options.repair && !self.options.quick => {
                    self.store.database().write(OPERATION, Durability::Full, |transaction| {
                        damage::clear(transaction, id, None)
                    })?;
                    let message = "it was marked as damaged, and its content is what was recorded".to_owned();
                    self.find("layer-damaged", id.as_str(), message, Some(id), true);
                }
                None if damaged => {
                    let message = "it was found damaged before".to_owned();
                    self.find("layer-damaged", id.as_str(), message, Some(id), false);
                }
                None => {}
                Some((kind, message)) => {
                    // A repair takes what cannot be read for lost: then a source can give it again.
                    let certain = kind != UNREADABLE || self.options.repair;
                    if certain && (row.layer.kind == LayerKind::Committed || kind == "layer-missing") {
                        self.store.database().write(OPERATION, Durability::Full, |transaction| {
                            damage::mark(transaction, id)
                        })?;
                    }
                    self.find(kind, id.as_str(), message, Some(id), false);
                }
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        let rows = self.store.database().read(OPERATION, images::all)?;
        for row in rows {
            let manifest = || match self.store.read_manifest(&row)? {
                Some(bytes) => Manifest::parse(bytes).map(drop).explain(OPERATION, row.id),
                None => Ok(()),
            };
            let checked = self.store.read_config(OPERATION, &row.id).and_then(|_| manifest());
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
            let message =
                "the driver has it, the store does not know it: `layerstore gc` frees it".to_owned();
            self.find("layer-unknown", info.id.as_str(), message, Some(&info.id), false);
        }
        Ok(())
    }

    fn find(
        &mut self,
        kind: &'static str,
        name: &str,
        message: String,
        layer: Option<&LayerId>,
        repaired: bool,
    ) {
        let images = layer
            .map(|id| self.store.database().read(OPERATION, |connection| images::of_layer(connection, id)));
        // What cannot be said of the images does not hide the finding itself.
        let images = images.and_then(Result::ok).unwrap_or_default();
        self.report.findings.push(Finding { kind, name: name.to_owned(), message, images, repaired });
    }
}
