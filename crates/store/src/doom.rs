//! Layers and images on their way out: doomed by a row, removed from disk, forgotten.
//!
//! Invariant: who dooms layers holds their leases before anybody else can write. So a doomed row that was there at a
//! turn to write, and whose lease nobody holds, is what a dead process left. The documents of an image go before
//! anybody else can write, too.

use std::time::{Duration, Instant};

use layerstore_changeset::{Context, Digest};
use layerstore_driver::{Kind, LayerId};
use rusqlite::{Connection, Transaction};

use crate::db::{Durability, containers, images, layers, removed, sessions};
use crate::error::{Explain as _, Result};
use crate::session::Lease;
use crate::store::Store;

/// How long the end of a creation is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Layers whose rows say that they go, children first, and the leases that tell others that somebody is at it.
#[derive(Debug)]
pub(crate) struct Doomed {
    ids: Vec<LayerId>,
    _leases: Vec<Lease>,
}

/// What a transaction takes away.
#[derive(Debug, Default)]
pub(crate) struct Going {
    /// Layers, children first.
    pub(crate) layers: Vec<LayerId>,
    /// Images that have no row any more, or lost a container: their documents go if nothing else needs them.
    pub(crate) images: Vec<Digest>,
}

impl From<Vec<LayerId>> for Going {
    fn from(layers: Vec<LayerId>) -> Self {
        Self { layers, images: Vec::new() }
    }
}

impl Doomed {
    /// The layers.
    pub(crate) fn into_ids(self) -> Vec<LayerId> {
        self.ids
    }
}

/// Whether somebody needs an image's documents: the image itself, a container made of it (it may be committed), or who
/// is bringing it in.
pub(crate) fn needs_documents(connection: &Connection, image: &Digest) -> Result<bool> {
    Ok(images::get(connection, image)?.is_some()
        || containers::any_of_image(connection, image)?
        || sessions::is_held(connection, &image.to_string())?)
}

impl Store {
    /// One transaction that may doom layers and images: `work` gives them beside its own result.
    pub(crate) fn doom<T, G: Into<Going>>(
        &self,
        operation: &'static str,
        durability: Durability,
        work: impl Fn(&Transaction<'_>) -> Result<(T, G)>,
    ) -> Result<(T, Doomed)> {
        let work = |transaction: &Transaction<'_>| {
            let (result, going) = work(transaction)?;
            let mut going: Going = going.into();
            let (mut unneeded, mut without_row) = (Vec::new(), Vec::new());
            for image in going.images.drain(..) {
                if !needs_documents(transaction, &image)? {
                    unneeded.push(image);
                } else if images::get(transaction, &image)?.is_none() {
                    without_row.push(image);
                }
            }
            removed::clear_old(transaction)?;
            Ok((result, Going { images: unneeded, ..going }, without_row))
        };
        let ((result, going, _), leases) =
            self.database().write_freeing_and(operation, durability, work, |(_, going, without_row)| {
                for image in &going.images {
                    if let Err(error) = self.remove_image_files(&image.hex()) {
                        tracing::warn!(%image, %error, "files of a removed image stay until the next gc");
                    }
                }
                for image in without_row {
                    if let Err(error) = self.remove_image_record(image) {
                        tracing::warn!(%image, %error, "the record of a removed image stays");
                    }
                }
                self.leases_of(operation, &going.layers)
            })?;
        Ok((result, Doomed { ids: going.layers, _leases: leases }))
    }

    /// Layers that others doomed who are dead.
    pub(crate) fn take_doomed(&self, operation: &'static str, ids: Vec<LayerId>) -> Doomed {
        Doomed { _leases: self.leases_of(operation, &ids), ids }
    }

    /// Without a lease (the disk may be full) a layer is removed twice, which is no harm.
    fn leases_of(&self, operation: &'static str, ids: &[LayerId]) -> Vec<Lease> {
        ids.iter().filter_map(|id| Lease::take(self.staging(), id.as_str(), operation).ok()).collect()
    }

    /// Removes doomed layers from disk and forgets them.
    pub(crate) fn destroy(&self, operation: &'static str, doomed: &Doomed) -> Result<()> {
        let mut gone = Vec::new();
        let mut failed = None;
        let mut left: Vec<&LayerId> = doomed.ids.iter().collect();
        // Rows on their way out know no parents, so those that dead processes left come in no order: what stands on
        // one of them may go after the first attempt.
        while !left.is_empty() {
            let (before, mut kept) = (left.len(), Vec::new());
            failed = None;
            for id in left {
                match self.destroy_one(operation, id, &doomed.ids) {
                    Ok(()) => gone.push(id.clone()),
                    Err(error) => {
                        failed = failed.or(Some(error));
                        kept.push(id);
                    }
                }
            }
            if kept.len() == before {
                break;
            }
            left = kept;
        }
        if !gone.is_empty() {
            // A row that comes back after a power cut is cleared by the next open.
            self.database().write_freeing(operation, Durability::Relaxed, |transaction| {
                layers::forget(transaction, &gone)
            })?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// The same where what the caller asked for is done and durable: what cannot be freed now is told, and freed by
    /// the next open or `gc`.
    pub(crate) fn dispose(&self, operation: &'static str, doomed: &Doomed) {
        if let Err(error) = self.destroy(operation, doomed) {
            tracing::warn!(%error, "removed, but its space is freed later: the next command or gc tries again");
        }
    }

    /// `own` are the layers that the caller is removing.
    fn destroy_one(&self, operation: &'static str, id: &LayerId, own: &[LayerId]) -> Result<()> {
        match self.remove_from_disk(id) {
            Err(error) if error.kind() == Kind::InUse => {
                self.finish_over(operation, id, own)?;
                self.wait_for_those_made_over(operation, id, own)?;
                if self.remove_orphans_over(operation, id)? {
                    tracing::warn!(layer = %id, %error, "removed what a crash left on a layer that goes");
                }
                // In any case: what was over it may have gone between the two looks.
                self.remove_from_disk(id).explain(operation, id)?;
            }
            removed => removed.explain(operation, id)?,
        }
        self.remove_layer_files(id).explain(operation, id)?;
        tracing::info!(layer = %id, "removed a layer");
        Ok(())
    }

    /// Has the driver remove a layer; somebody else may have done it.
    fn remove_from_disk(&self, id: &LayerId) -> layerstore_driver::Result<()> {
        match self.driver().remove(id) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Sees the layers over this one to their end that others doomed before.
    ///
    /// Who removes layers waits for those above only, so nobody waits for each other in a circle.
    fn finish_over(&self, operation: &'static str, id: &LayerId, own: &[LayerId]) -> Result<()> {
        let over = || -> Result<Vec<LayerId>> {
            let doomed = self.database().read(operation, layers::doomed)?.into_iter().map(|row| row.layer.id);
            // Their rows have let go of the parent; on disk they have not.
            let lies = |layer: &LayerId| {
                self.driver().layer(layer).is_ok_and(|info| info.parent.as_ref() == Some(id))
            };
            Ok(doomed.filter(|layer| !own.contains(layer) && lies(layer)).collect())
        };
        let patient = Context::new();
        for layer in &over()? {
            Lease::wait(self.staging(), layer.as_str(), &patient, operation)?;
        }
        // Whose remover died, or could not do it, is tried once more.
        self.destroy(operation, &self.take_doomed(operation, over()?))
    }

    /// Waits a moment for who is making a layer over this one: its row is refused, as this one goes, and he takes it
    /// away again. Who does not come to that end is not waited for, and this one goes with the next command.
    fn wait_for_those_made_over(&self, operation: &'static str, id: &LayerId, own: &[LayerId]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        for info in self.driver().layers().explain(operation, "")? {
            // A lease of the caller's own is not given up before this returns.
            if info.parent.as_ref() != Some(id) || own.contains(&info.id) {
                continue;
            }
            while Instant::now() < until
                && Lease::is_held(self.staging(), info.id.as_str()).explain(operation, &info.id)?
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Removes the layers over this one that no row knows and nobody is making: a process died between making
    /// a layer and its row, or a power cut took back the removal of a layer but not that of its row. Those that are
    /// too damaged to say what they lie on go, too. Says whether there were any.
    fn remove_orphans_over(&self, operation: &'static str, id: &LayerId) -> Result<bool> {
        let unknown = self.unknown_layers(operation)?;
        let is_damaged =
            |id: &LayerId| self.driver().layer(id).is_err_and(|error| error.kind() == Kind::Corrupt);
        let mut over = vec![id.clone()];
        // Children come before their parents in the list.
        for info in unknown.iter().rev() {
            if info.parent.as_ref().is_some_and(|parent| over.contains(parent)) || is_damaged(&info.id) {
                over.push(info.id.clone());
            }
        }
        for orphan in over.iter().skip(1).rev() {
            self.remove_from_disk(orphan).explain(operation, orphan)?;
        }
        Ok(over.len() > 1)
    }
}
