//! What opening a store clears, finishes and finds.
//!
//! | found | done |
//! |---|---|
//! | a session whose lease nobody holds | its unfinished layers and its holds go |
//! | a lease of a layer that nobody holds | a layer without a row goes; a seal without its row is noted |
//! | a row on its way out, or being written by no session, on which something stands | marked as damaged |
//! | a row on its way out that nobody works on | the layer goes |
//! | first after a boot: a row whose layer is missing, torn or not sealed | marked as damaged, never removed |
//! | first after a boot: a record of [`mirror`] that is missing or empty | written again |
//!
//! Recovery touches only what has no living owner. It never removes what no row knows: that is `gc`, which a person
//! starts. The last two need a look at everything and happen once per boot, because only a power cut does that.

use std::collections::HashMap;

use layerstore_driver::{LayerId, LayerInfo, LayerState as DriverState, Look};
use layerstore_sys::Dir;
use rusqlite::Connection;

use crate::db::layers::{Kept, LayerOrigin, LayerRow};
use crate::db::{Durability, containers, damage, images, layers, now, removed, sessions};
use crate::error::{Explain as _, Result};
use crate::files;
use crate::mirror;
use crate::model::{LayerKind, LayerState};
use crate::session::Lease;
use crate::store::Store;

const OPERATION: &str = "open store";

impl Store {
    /// Clears leftovers of dead processes and returns what a person should know.
    pub(crate) fn recover(&self) -> Result<Vec<String>> {
        let first = self.inner().bound.first;
        let mut found = Vec::new();
        let look = |connection: &Connection| {
            let strays = !damage::strays(connection)?.is_empty();
            Ok((strays, sessions::of_processes(connection)?, layers::doomed(connection)?))
        };
        let (strays, mut sessions, mut doomed) = self.database().read(OPERATION, look)?;
        if strays {
            found = self.mark_strays(OPERATION)?;
            (_, sessions, doomed) = self.database().read(OPERATION, look)?;
        }
        let mut dead = false;
        for session in &self.dead_among(OPERATION, sessions)? {
            dead = true;
            for layer in self.reap(session)? {
                found.push(format!("removed the unfinished layer {layer} of a process that died"));
            }
        }
        dead |= self.settle_dead_leases(&mut found)?;
        let mut left = Vec::new();
        for row in doomed {
            // Who removes it right now will come to its end.
            if !Lease::is_held(self.staging(), row.layer.id.as_str()).explain(OPERATION, &row.layer.id)? {
                left.push(row.layer.id);
            }
        }
        if let Err(error) = self.destroy(OPERATION, &self.take_doomed(OPERATION, left)) {
            // It may be mounted still; the next open tries again, and nothing else depends on it.
            found.push(format!("a removal could not be finished: {error}"));
        }
        if first || dead {
            for recovered in
                self.driver().recover(&|id| self.is_live(id), Look::Leftovers).explain(OPERATION, "")?
            {
                let layer = recovered.id.map(|id| format!("layer {id}: ")).unwrap_or_default();
                found.push(format!("{layer}{}", recovered.what));
            }
        }
        if first {
            self.look_at_everything(&mut found)?;
            self.inner().bound.recovered(&self.inner().root)?;
        }
        Ok(found)
    }

    /// Marks layers as damaged whose rows no transaction of ours leaves so, before they are taken for leftovers: things
    /// stand on them. Says which.
    pub(crate) fn mark_strays(&self, operation: &'static str) -> Result<Vec<String>> {
        if self.database().read(operation, damage::strays)?.is_empty() {
            return Ok(Vec::new());
        }
        let strays = self.database().write_freeing(operation, Durability::Full, |transaction| {
            let strays = damage::strays(transaction)?;
            strays.iter().try_for_each(|row| damage::mark_stray(transaction, &row.layer.id))?;
            Ok(strays)
        })?;
        let told = |row: LayerRow| {
            format!(
                "the layer {} was noted as unfinished or on its way out, and is neither: it counts as damaged until \
                 `layerstore check --repair` has looked at it, or the image is pulled again",
                row.layer.id
            )
        };
        Ok(strays.into_iter().map(told).collect())
    }

    /// Those sessions whose processes died.
    pub(crate) fn dead_among(&self, operation: &'static str, sessions: Vec<String>) -> Result<Vec<String>> {
        let mut dead = Vec::new();
        for session in sessions {
            if !Lease::is_held(self.staging(), &session).explain(operation, &session)? {
                dead.push(session);
            }
        }
        if dead.is_empty() {
            return Ok(dead);
        }
        // Who came to its end since the rows were read took its row away before it gave its lease up.
        let still = self.database().read(operation, sessions::of_processes)?;
        dead.retain(|session| still.contains(session));
        Ok(dead)
    }

    /// Whether a living process is making this layer. In doubt it is.
    pub(crate) fn is_live(&self, id: &LayerId) -> bool {
        let session = self.database().read(OPERATION, |connection| {
            Ok(layers::get(connection, id.as_str())?.and_then(|row| row.session))
        });
        let held = |name: &str| Lease::is_held(self.staging(), name).unwrap_or(true);
        match session {
            Ok(Some(session)) => held(&session),
            Ok(None) => held(id.as_str()),
            Err(_) => true,
        }
    }

    /// Finishes or undoes what processes left that died while they worked on one layer. Says whether there was any.
    fn settle_dead_leases(&self, found: &mut Vec<String>) -> Result<bool> {
        let mut any = false;
        for entry in self.staging().entries().explain(OPERATION, "")? {
            let name = String::from_utf8(entry.name).unwrap_or_default();
            let Some(name) = name.strip_suffix(".lease") else { continue };
            let Ok(id) = LayerId::new(name) else { continue };
            // Alone from here on; the file goes in the end.
            let Some(_lease) = Lease::take_dead(self.staging(), name).explain(OPERATION, name)? else {
                continue;
            };
            any |= self.settle_layer(&id, found)?;
        }
        Ok(any)
    }

    fn settle_layer(&self, id: &LayerId, found: &mut Vec<String>) -> Result<bool> {
        let row = self.database().read(OPERATION, |connection| layers::get(connection, id.as_str()))?;
        match row {
            None => {
                let there = self.driver().exists(id).explain(OPERATION, id)?;
                if there && let Err(error) = self.driver().remove(id) {
                    // Nobody was told of it, so nobody can have built on it; but who knows.
                    found.push(format!("left alone the layer {id}, which no row knows: {}", error.message()));
                    return Ok(true);
                }
                self.remove_layer_files(id).explain(OPERATION, id)?;
                if there {
                    found.push(format!("removed the layer {id}, whose creation was interrupted"));
                }
                Ok(there)
            }
            Some(row) if row.layer.state == LayerState::Ready && row.layer.kind == LayerKind::Active => {
                let info = self.driver().layer(id);
                Ok(info.is_ok_and(|info| info.state == DriverState::Sealed) && self.note_seal(&row, found)?)
            }
            Some(_) => Ok(false),
        }
    }

    /// Notes that the driver has sealed a layer: whoever sealed it died before.
    fn note_seal(&self, row: &LayerRow, found: &mut Vec<String>) -> Result<bool> {
        let id = &row.layer.id;
        let usage = self.driver().usage(id, &layerstore_changeset::Context::new()).explain(OPERATION, id)?;
        self.database()
            .write(OPERATION, Durability::Full, |transaction| layers::sealed(transaction, id, usage))?;
        found.push(format!("noted that the layer {id} is sealed"));
        Ok(true)
    }

    /// Compares rows with what lies on disk after a boot, without reading contents.
    fn look_at_everything(&self, found: &mut Vec<String>) -> Result<()> {
        let known: HashMap<LayerId, LayerInfo> = {
            let layers = self.driver().layers().explain(OPERATION, "")?;
            layers.into_iter().map(|info| (info.id.clone(), info)).collect()
        };
        let rows = self.database().read(OPERATION, layers::all)?;
        let mut damaged = Vec::new();
        for row in rows.iter().filter(|row| row.layer.state == LayerState::Ready) {
            if let Some(what) = self.torn(row, known.get(&row.layer.id), found)?
                && !self.is_live(&row.layer.id)
            {
                found.push(format!("the layer {} is damaged: {what}", row.layer.id));
                damaged.push(row.layer.id.clone());
            }
        }
        if !damaged.is_empty() {
            self.database().write_freeing(OPERATION, Durability::Full, |transaction| {
                damaged.iter().try_for_each(|id| damage::mark(transaction, id))
            })?;
        }
        if let Err(error) = self.bury() {
            found.push(format!("records of what was removed are not all gone: {error}"));
        }
        if let Err(error) = self.write_missing_records(&rows) {
            // On a full disk what is there has to be removable all the same.
            found.push(format!("records beside the data are not complete: {error}"));
        }
        Ok(())
    }

    /// Removes the records of what was removed, which a power cut may have brought back, and forgets the removals.
    fn bury(&self) -> Result<()> {
        self.settle_names(OPERATION, true)?;
        // What others remove meanwhile stays noted.
        let until = now();
        let removed = self.database().read(OPERATION, removed::all)?;
        if removed.is_empty() {
            return Ok(());
        }
        for id in &removed {
            let row = self.database().read(OPERATION, |connection| {
                let image = format!("sha256:{id}").parse().ok();
                let image = image.map(|image| images::get(connection, &image)).transpose()?.flatten();
                Ok(layers::get(connection, id)?.is_some() || image.is_some())
            })?;
            // It was brought in again, or its removal goes on.
            if row || Lease::is_held(self.staging(), id).explain(OPERATION, id)? {
                continue;
            }
            if let Ok(layer) = LayerId::new(id) {
                self.remove_layer_files(&layer).explain(OPERATION, id)?;
            }
            if let Ok(image) = format!("sha256:{id}").parse() {
                self.remove_image_record(&image).explain(OPERATION, id)?;
            }
        }
        self.database()
            .write_freeing(OPERATION, Durability::Relaxed, |transaction| removed::clear(transaction, until))
    }

    /// What a power cut took from a layer.
    fn torn(
        &self,
        row: &LayerRow,
        info: Option<&LayerInfo>,
        found: &mut Vec<String>,
    ) -> Result<Option<&'static str>> {
        let Some(info) = info else { return Ok(Some("the driver does not have it")) };
        match (row.layer.kind == LayerKind::Committed, info.state == DriverState::Sealed) {
            (false, true) => self.note_seal(row, found).map(|_| None),
            (true, false) if row.origin == LayerOrigin::User => {
                // It had its final content before it was sealed.
                let sealed = self.driver().seal(&row.layer.id, None, &layerstore_changeset::Context::new());
                Ok(sealed.is_err().then_some("it is not sealed any more"))
            }
            (true, false) => Ok(Some("it was not sealed durably")),
            _ if self.lacks_its_tar(row)? => Ok(Some("what gives its tar back is missing")),
            _ => Ok(None),
        }
    }

    /// Whether the row of a layer is there still, and not on its way out.
    fn is_there(&self, id: &LayerId) -> Result<bool> {
        let row = self.database().read(OPERATION, |connection| layers::get(connection, id.as_str()))?;
        Ok(row.is_some_and(|row| row.layer.state != LayerState::Deleting))
    }

    /// Whether the file that gives a layer's tar back is missing or empty.
    pub(crate) fn lacks_its_tar(&self, row: &LayerRow) -> Result<bool> {
        let id = &row.layer.id;
        let (folder, name) = match row.kept {
            Some(Kept::Record) => (&self.folders().records, files::record_name(id)),
            Some(Kept::Blob) => (&self.folders().blobs, id.to_string()),
            None => return Ok(false),
        };
        is_empty(folder, &name).explain(OPERATION, id)
    }

    /// Writes the records of what the database knows that are missing or empty.
    pub(crate) fn write_missing_records(&self, rows: &[LayerRow]) -> Result<Vec<String>> {
        let folders = self.folders();
        let mut written = Vec::new();
        for row in rows.iter().filter(|row| row.layer.state == LayerState::Ready) {
            let name = mirror::file_name(&row.layer.id);
            let lacks = || is_empty(&folders.records, &name).explain(OPERATION, &name);
            // Whoever makes a layer writes its record after the row and then gives its lease back; whoever removes
            // one says so in the row first. So what is looked at again is what nobody is about to change.
            if row.origin != LayerOrigin::Container
                && lacks()?
                && !self.is_live(&row.layer.id)
                && lacks()?
                && self.is_there(&row.layer.id)?
            {
                self.write_layer_record(row)?;
                written.push(format!("records/{name}"));
            }
        }
        let (images, containers) = self
            .database()
            .read(OPERATION, |connection| Ok((images::all(connection)?, containers::all(connection)?)))?;
        for image in images {
            let folder = match folders.images.open_dir(image.id.hex().as_bytes()) {
                Err(error) if error.is_not_found() || error.errno() == layerstore_sys::Errno::NOTDIR => {
                    // It was removed meanwhile, or its folder is lost, and `image-files` says so.
                    continue;
                }
                opened => opened.explain(OPERATION, image.id)?,
            };
            let lacks = |name| is_empty(&folder, name).explain(OPERATION, image.id);
            // An image that is being removed has lost its row before its documents.
            let there = || {
                self.database()
                    .read(OPERATION, |connection| Ok(images::get(connection, &image.id)?.is_some()))
            };
            if !(lacks("image.json")? || lacks("names.json")?) || !there()? {
                continue;
            }
            if lacks("image.json")? {
                let chain =
                    self.database().read(OPERATION, |connection| layers::of_image(connection, &image.id))?;
                let chain: Vec<LayerId> = chain.into_iter().map(|row| row.layer.id).collect();
                self.write_image_record(&image, &chain)?;
                written.push(format!("images/{}/image.json", image.id.hex()));
            }
            if lacks("names.json")? {
                self.write_names(&[image.id])?;
                written.push(format!("images/{}/names.json", image.id.hex()));
            }
        }
        for container in containers {
            let name = mirror::file_name(&container.layer);
            if is_empty(&folders.containers, &name).explain(OPERATION, &name)?
                && self.is_there(&container.layer)?
            {
                let layer = self
                    .database()
                    .read(OPERATION, |connection| layers::get(connection, container.layer.as_str()))?;
                // A row that is wrong is no source of a record.
                let Some(layer) = layer.filter(|row| row.origin == LayerOrigin::Container) else { continue };
                let parent = layer.layer.parent;
                self.write_container_record(&container, parent.as_ref())?;
                written.push(format!("containers/{name}"));
            }
        }
        Ok(written)
    }
}

/// Whether a file is missing or empty, or something else lies in its place.
pub(crate) fn is_empty(folder: &Dir, name: &str) -> layerstore_sys::Result<bool> {
    let stat = folder.try_stat(name.as_bytes())?;
    Ok(stat.is_none_or(|stat| stat.size == 0 || stat.kind != layerstore_sys::FileType::Regular))
}
