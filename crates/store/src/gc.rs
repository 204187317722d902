//! Freeing what nothing refers to.
//!
//! Everything is found by absence: a layer without a reference, a file without a row, a lease without a lock.
//! The directory is listed before the rows are read, and a row is there before its files are, so what is being
//! made right now is never taken for a leftover.

use std::collections::HashSet;

use layerstore_driver::{LayerId, LayerInfo, LayerState as DriverState, Look, Outcome};
use layerstore_sys::lock::Lock;
use layerstore_sys::{self as sys, Dir};

use crate::db::layers::LayerRow;
use crate::db::{Durability, layers, sessions};
use crate::doom::needs_documents;
use crate::error::{Explain as _, Kind, Result};
use crate::files;
use crate::lost::Lost;
use crate::model::{Freed, Gc};
use crate::session::{Lease, UNNAMED};
use crate::store::Store;

const OPERATION: &str = "gc";

impl Store {
    /// Frees what nothing refers to: layers without image, container or child, leftovers of crashed processes,
    /// records and files without a row. With `dry_run` it only tells. What living processes work on is left
    /// alone.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn gc(&self, dry_run: bool) -> Result<Gc> {
        let lost = self.lost_and_dear(OPERATION)?;
        lost.warn();
        let mut gc = Collector { store: self, lost, told: None, report: Gc { dry_run, ..Gc::default() } };
        gc.dead_sessions()?;
        gc.doomed_layers()?;
        gc.free_layers()?;
        gc.unknown_layers()?;
        gc.unknown_files()?;
        gc.image_files()?;
        gc.leases()?;
        if !dry_run {
            self.remove_mount_points();
            self.settle_names(OPERATION, false)?;
            let root = &self.inner().root;
            for name in sys::fs::sweep_replacements(root).explain(OPERATION, "")? {
                gc.note("leftover", name, "a process died while it noted the runroot", 0);
            }
            for name in layerstore_driver::layout::Scratch::sweep(root).explain(OPERATION, "")? {
                gc.note("leftover", name, "a process died while it tried what the file system can do", 0);
            }
            for recovered in
                self.driver().recover(&|id| self.is_live(id), Look::Leftovers).explain(OPERATION, "")?
            {
                let name = recovered.id.map_or_else(|| self.driver().name().to_owned(), |id| id.to_string());
                if recovered.outcome == Outcome::NotFreed {
                    tracing::warn!(name, "{}", recovered.what);
                    continue;
                }
                gc.note("leftover", name, recovered.what, 0);
            }
        }
        self.database().fill_reserve();
        Ok(gc.report)
    }
}

impl Store {
    /// Frees what dead processes left and what no row knows, but no layer that only lost its users, and nothing that a
    /// record tells of: a repair that could not use it leaves it to a person, who starts `gc`.
    pub(crate) fn free_orphans(&self) -> Result<Vec<Freed>> {
        let lost = self.lost_and_dear(OPERATION)?;
        lost.warn();
        let told = self.told(OPERATION)?;
        let mut gc = Collector { store: self, lost, told: Some(told), report: Gc::default() };
        gc.dead_sessions()?;
        gc.doomed_layers()?;
        gc.unknown_layers()?;
        gc.unknown_files()?;
        gc.image_files()?;
        gc.leases()?;
        Ok(gc.report.freed)
    }
}

struct Collector<'a> {
    store: &'a Store,
    /// What the database has lost and somebody may miss.
    lost: Lost,
    /// What records tell of, if that is to be left alone.
    told: Option<HashSet<String>>,
    report: Gc,
}

impl Collector<'_> {
    fn note(&mut self, kind: &'static str, name: impl Into<String>, reason: impl Into<String>, bytes: u64) {
        self.report.bytes += bytes;
        self.report.freed.push(Freed { kind, name: name.into(), reason: reason.into(), bytes });
    }

    fn is_told(&self, id: &str) -> bool {
        self.told.as_ref().is_some_and(|told| told.contains(id))
    }

    fn real(&self) -> bool {
        !self.report.dry_run
    }

    fn dead_sessions(&mut self) -> Result<()> {
        let sessions = self.store.database().read(OPERATION, sessions::of_processes)?;
        for session in self.store.dead_among(OPERATION, sessions)? {
            let left = self
                .store
                .database()
                .read(OPERATION, |connection| layers::of_session(connection, &session))?;
            for row in left {
                self.note("staging", row.layer.id.as_str(), "left by a process that died", 0);
            }
            if self.real() {
                self.store.reap(&session)?;
            }
        }
        Ok(())
    }

    fn doomed_layers(&mut self) -> Result<()> {
        let left =
            |row: &LayerRow| !Lease::is_held(self.store.staging(), row.layer.id.as_str()).unwrap_or(true);
        // At a turn to write: who doomed these holds their leases by now.
        let mut doomed =
            self.store.database().rehearse(OPERATION, |transaction| layers::doomed(transaction))?;
        doomed.retain(|row| left(row) && !self.lost.needs(&row.layer.id));
        if !doomed.is_empty() {
            // Who was through in between has forgotten its rows before it gave the leases up.
            let still = self.store.database().read(OPERATION, layers::doomed)?;
            doomed.retain(|row| still.iter().any(|still| still.layer.id == row.layer.id));
        }
        let ids: Vec<LayerId> = doomed.iter().map(|row| row.layer.id.clone()).collect();
        for row in doomed {
            let bytes = row.layer.disk_bytes.unwrap_or(0);
            self.note("layer", row.layer.id.as_str(), "its removal was not finished", bytes);
        }
        if !self.real() {
            return Ok(());
        }
        self.store.destroy(OPERATION, &self.store.take_doomed(OPERATION, ids))
    }

    /// Layers of images that nothing needs; what they stood on may be next.
    fn free_layers(&mut self) -> Result<()> {
        let work = |transaction: &rusqlite::Connection| {
            // Once a layer is on its way out no verb finds it to unmount it. Looked at within the transaction: who
            // mounted later looks at the row after it (`undo_if_removed`).
            let mounts = self.store.driver().leases().overview().explain(OPERATION, "")?;
            let is_mounted =
                |id: &LayerId| mounts.uses(id).map(|uses| !uses.is_empty()).explain(OPERATION, id);
            let mut all = Vec::new();
            loop {
                let before = all.len();
                for row in layers::free(transaction)? {
                    if !self.lost.needs(&row.layer.id) && !is_mounted(&row.layer.id)? {
                        layers::doom(transaction, &row.layer.id)?;
                        all.push(row);
                    }
                }
                if all.len() == before {
                    return Ok(all);
                }
            }
        };
        let (rows, doomed) = if self.real() {
            let (rows, doomed) = self.store.doom(OPERATION, Durability::Full, |transaction| {
                let rows = work(transaction)?;
                let layers: Vec<LayerId> = rows.iter().map(|row| row.layer.id.clone()).collect();
                Ok((rows, layers))
            })?;
            (rows, Some(doomed))
        } else {
            (self.store.database().rehearse(OPERATION, |transaction| work(transaction))?, None)
        };
        for row in rows {
            let bytes = row.layer.disk_bytes.unwrap_or(0);
            self.note("layer", row.layer.id.as_str(), "no image and no container uses it", bytes);
        }
        doomed.map_or(Ok(()), |doomed| self.store.destroy(OPERATION, &doomed))
    }

    /// Layers that the driver has and no row knows.
    fn unknown_layers(&mut self) -> Result<()> {
        let found = self.store.unknown_layers(OPERATION)?;
        for LayerInfo { id, .. } in found {
            if self.is_told(id.as_str()) {
                continue;
            }
            self.note("layer", id.as_str(), "the driver has it, the store does not know it", 0);
            if self.real() {
                match self.store.driver().remove(&id) {
                    Err(error) if error.kind() != Kind::NotFound => {
                        return Err(error).explain(OPERATION, &id);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn unknown_files(&mut self) -> Result<()> {
        let folders = self.store.folders();
        for (kind, folder) in
            [("record", &folders.records), ("record", &folders.containers), ("blob", &folders.blobs)]
        {
            if self.real() {
                for name in sys::fs::sweep_replacements(folder).explain(OPERATION, folder.path().display())? {
                    self.note(kind, name, "a process died while it wrote it", 0);
                }
            }
            let names = names(folder)?;
            // One look for all: hardly any is a leftover.
            let rows = self.store.database().read(OPERATION, layers::ids)?;
            for name in names {
                // Somebody is writing it.
                if sys::fs::is_replacement(&name) {
                    continue;
                }
                let owner = if kind == "record" { files::record_owner(&name) } else { Some(name.as_str()) };
                let known = match owner {
                    Some(id) if rows.contains(id) => true,
                    Some(id) if self.lost.has_layer(id) || self.is_told(id) => true,
                    // Who makes a layer writes its record before its row, with its lease in hand.
                    Some(id) => {
                        let row = || {
                            self.store
                                .database()
                                .read(OPERATION, |connection| Ok(layers::get(connection, id)?.is_some()))
                        };
                        Lease::is_held(self.store.staging(), id).explain(OPERATION, id)? || row()?
                    }
                    None => false,
                };
                if known {
                    continue;
                }
                // It may have gone with its layer since the names were read.
                let Some(stat) = folder.try_stat(name.as_bytes()).explain(OPERATION, &name)? else {
                    continue;
                };
                self.note(kind, &name, "it belongs to no layer", stat.blocks * 512);
                if self.real() {
                    files::unlink(folder, &name).explain(OPERATION, &name)?;
                }
            }
        }
        Ok(())
    }

    fn image_files(&mut self) -> Result<()> {
        let folders = names(&self.store.folders().images)?;
        // One look for all: hardly any is a leftover.
        let unneeded = self.store.database().read(OPERATION, |connection| {
            let needed: Result<Vec<bool>> = folders.iter().map(|hex| needs_files(connection, hex)).collect();
            Ok(folders.iter().zip(needed?).filter(|(_, needed)| !needed).map(|(hex, _)| hex))
        })?;
        for hex in unneeded {
            let left_alone = self.lost.has_image(hex) || self.is_told(hex);
            if !left_alone && self.store.free_image_files(hex, self.real())? {
                self.note("image files", hex, "they belong to no image and no container", 0);
            }
        }
        Ok(())
    }

    /// Lock files of processes that died.
    fn leases(&mut self) -> Result<()> {
        let staging = self.store.staging();
        for name in names(staging)? {
            let id = match name.strip_suffix(".lease") {
                Some(id) => id,
                None if name.starts_with(UNNAMED) => {
                    self.unnamed_lease(&name)?;
                    continue;
                }
                None => continue,
            };
            let Some(lease) = Lease::take_dead(staging, id).explain(OPERATION, id)? else { continue };
            self.note("staging", id, "left by a process that died", 0);
            if !self.real() {
                lease.leave();
            }
        }
        Ok(())
    }
}

impl Collector<'_> {
    /// A lease that never got its name: unlocked, its maker died, or has not locked it yet and will make another.
    fn unnamed_lease(&self, name: &str) -> Result<()> {
        let staging = self.store.staging();
        let dead = Lock::of_the_dead(staging, name.as_bytes()).explain(OPERATION, name)?;
        if self.real() && dead.is_some() {
            match staging.unlink(name.as_bytes()) {
                Err(error) if !error.is_not_found() => return Err(error).explain(OPERATION, name),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether somebody needs the files of the image with these digits.
fn needs_files(connection: &rusqlite::Connection, hex: &str) -> Result<bool> {
    format!("sha256:{hex}").parse().map_or(Ok(false), |id| needs_documents(connection, &id))
}

/// The entries of a folder of the store, which only the store names.
fn names(folder: &Dir) -> Result<Vec<String>> {
    let entries = folder.entries().explain(OPERATION, folder.path().display())?;
    Ok(entries.into_iter().filter_map(|entry| String::from_utf8(entry.name).ok()).collect())
}

impl Store {
    /// Removes an image's documents if `real` and nobody needs them. Says whether there were any such.
    fn free_image_files(&self, hex: &str, real: bool) -> Result<bool> {
        // At a turn to write nobody begins to hold the image, and who removed it is through with its documents.
        self.database().write_freeing(OPERATION, Durability::Relaxed, |transaction| {
            let there = self.folders().images.try_stat(hex.as_bytes()).explain(OPERATION, hex)?.is_some();
            if !there || needs_files(transaction, hex)? {
                return Ok(false);
            }
            if real {
                self.remove_image_files(hex).explain(OPERATION, hex)?;
            }
            Ok(true)
        })
    }

    /// Layers that the driver has, that no row knows and nobody is making; children before parents.
    pub(crate) fn unknown_layers(&self, operation: &'static str) -> Result<Vec<LayerInfo>> {
        let (mut unknown, mut damaged) = (Vec::new(), Vec::new());
        let ids = self.driver().ids().explain(operation, "")?;
        // One look for all: hardly any is unknown.
        let rows = self.database().read(operation, layers::ids)?;
        for id in ids.into_iter().filter(|id| !rows.contains(id.as_str())) {
            // Its maker lets the lease go after the row is there, so the second look decides.
            let known = Lease::is_held(self.staging(), id.as_str()).explain(operation, &id)?
                || self
                    .database()
                    .read(operation, |connection| Ok(layers::get(connection, id.as_str())?.is_some()))?;
            if known {
                continue;
            }
            match self.driver().layer(&id) {
                Ok(info) => unknown.push(info),
                Err(error) => match error.kind() {
                    // Somebody removed it since the list was made; or another version wrote it.
                    Kind::NotFound | Kind::Unsupported => {}
                    // A power cut may leave too little of a layer to say what it was.
                    Kind::Corrupt => {
                        let state = DriverState::Writable;
                        damaged.push(LayerInfo { id, parent: None, state, half_applied: false });
                    }
                    _ => return Err(error).explain(operation, &id),
                },
            }
        }
        // Before everything else: whatever a damaged one lies on has to wait for it.
        damaged.append(&mut unknown);
        let mut unknown = damaged;
        if !unknown.is_empty() {
            let lost = self.lost_and_dear(operation)?;
            unknown.retain(|info| !lost.has_layer(info.id.as_str()));
        }
        // A layer can go when no other unknown one stands on it.
        let mut ordered: Vec<LayerInfo> = Vec::with_capacity(unknown.len());
        while !unknown.is_empty() {
            let parents: Vec<LayerId> = unknown.iter().filter_map(|info| info.parent.clone()).collect();
            let (stay, go): (Vec<_>, Vec<_>) =
                unknown.into_iter().partition(|info| parents.contains(&info.id));
            if go.is_empty() {
                break;
            }
            ordered.extend(go);
            unknown = stay;
        }
        Ok(ordered)
    }
}
