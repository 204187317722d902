//! Removing images, with docker's rules, messages and order of output.
//!
//! A name loses its image; an image goes when its last name does, or when it is named by its ID and nothing
//! stands against it. A mounted container counts as running, any other as stopped. Source: moby,
//! `daemon/images/image_delete.go` (the rules; see `TestRmi*` of its integration tests).
//!
//! Everything is decided and done in one transaction; what lies on disk goes after it. So, unlike docker, a
//! removal that is refused has not taken a name away before.

use layerstore_changeset::Digest;
use layerstore_driver::lease::InUse;
use layerstore_driver::{Driver, LayerId};
use layerstore_image::ImageName;
use rusqlite::Connection;

use crate::db::images::ImageRow;
use crate::db::{Durability, containers, images, layers};
use crate::doom::Going;
use crate::error::{Error, Kind, Result};
use crate::lookup::{self, short};
use crate::model::{LayerState, Removal};
use crate::store::Store;

const OPERATION: &str = "rmi";

impl Store {
    /// Removes an image by name or ID, with docker's rules; returns what went, in docker's order.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) with docker's words for a conflict;
    /// [`NotFound`](crate::Kind::NotFound) `No such image: …`.
    pub fn remove_image(&self, image: &str, force: bool) -> Result<Vec<Removal>> {
        let ((records, renamed), doomed) = self.doom(OPERATION, Durability::Full, |transaction| {
            let mut remover = Remover {
                connection: transaction,
                driver: &**self.driver(),
                text: image,
                records: Vec::new(),
                images: Vec::new(),
                doomed: Vec::new(),
                renamed: Vec::new(),
            };
            remover.remove(force)?;
            Ok(((remover.records, remover.renamed), Going { layers: remover.doomed, images: remover.images }))
        })?;
        self.follow_names(&renamed);
        self.dispose(OPERATION, &doomed);
        Ok(records)
    }
}

struct Remover<'a> {
    connection: &'a Connection,
    driver: &'a dyn Driver,
    text: &'a str,
    records: Vec<Removal>,
    images: Vec<Digest>,
    doomed: Vec<LayerId>,
    /// Images that lost a name.
    renamed: Vec<Digest>,
}

/// What stands against the removal of an image.
struct Conflict {
    hard: bool,
    /// A container uses it.
    used: bool,
    message: String,
}

/// Which conflicts count. Children and running containers always do.
#[derive(Clone, Copy)]
struct Mask {
    names: bool,
    stopped: bool,
}

impl Remover<'_> {
    fn remove(&mut self, force: bool) -> Result<()> {
        let image = lookup::image(self.connection, OPERATION, self.text)?;
        let names = images::names(self.connection, &image.id)?;
        let by_id = lookup::image_id_prefix(self.text).is_some_and(|hex| image.id.hex().starts_with(hex))
            && self
                .text
                .parse::<ImageName>()
                .map_or(Ok(None), |name| images::named(self.connection, &name))?
                != Some(image.id);
        if by_id {
            if is_single(&names) {
                self.refuse(self.conflict(&image, Mask { names: false, stopped: !force })?, &image)?;
                self.untag_all(&image)?;
            }
            return self.delete(image, force, false);
        }
        let name = self.text.parse::<ImageName>().map_err(|_| lookup::no_such_image(OPERATION, self.text))?;
        if !force
            && is_single(&names)
            && let Some(container) = containers::of_image(self.connection, &image.id)?.first()
        {
            let message = format!(
                "conflict: unable to remove repository reference {:?} (must force) - container {} is using its \
                 referenced image {}",
                self.text,
                short(&container.id),
                short(&image.id.hex())
            );
            return Err(Error::new(Kind::InUse, OPERATION, self.text, message));
        }
        self.untag(&name)?;
        let mut left = images::names(self.connection, &image.id)?;
        let in_repository = |other: &ImageName| other.repository() == name.repository();
        if name.digest().is_none()
            && !left.iter().any(|other| other.digest().is_none() && in_repository(other))
        {
            // The last tag of a repository takes the digests of that repository with it.
            for other in left.iter().filter(|other| in_repository(other)) {
                self.untag(other)?;
            }
            left.retain(|other| !in_repository(other));
        }
        if left.is_empty() { self.delete(image, force, true) } else { Ok(()) }
    }

    /// Deletes an image and, where nothing else keeps them, the images that it was committed from.
    fn delete(&mut self, image: ImageRow, force: bool, quiet: bool) -> Result<()> {
        let mut next = Some((image, force, quiet));
        while let Some((image, force, quiet)) = next.take() {
            if let Some(conflict) = self.conflict(&image, Mask { names: !force, stopped: !force })? {
                // Docker's word for an image that has neither names nor children.
                let dangling = images::names(self.connection, &image.id)?.is_empty()
                    && images::children(self.connection, &image.id)?.is_empty();
                if quiet && (!dangling || conflict.used) {
                    return Ok(());
                }
                return self.refuse(Some(conflict), &image);
            }
            self.untag_all(&image)?;
            self.delete_image(&image)?;
            if let Some(parent) = image.parent
                && let Some(parent) = images::get(self.connection, &parent)?
            {
                next = Some((parent, false, true));
            }
        }
        Ok(())
    }

    fn delete_image(&mut self, image: &ImageRow) -> Result<()> {
        let chain = layers::of_image(self.connection, &image.id)?;
        images::delete(self.connection, &image.id)?;
        self.images.push(image.id);
        self.records.push(Removal::Deleted(image.id));
        for row in chain.into_iter().rev() {
            // What a layer stands on is needed by it, so the first one that stays keeps the rest.
            if row.layer.state == LayerState::Deleting || !layers::is_free(self.connection, &row.layer.id)? {
                break;
            }
            // Once it is on its way out no verb finds it to unmount it. The next `gc` frees it.
            if self.is_mounted(&row.layer.id)? {
                break;
            }
            layers::doom(self.connection, &row.layer.id)?;
            self.records.extend(row.layer.chain_id.map(Removal::Deleted));
            self.doomed.push(row.layer.id);
        }
        Ok(())
    }

    fn untag(&mut self, name: &ImageName) -> Result<()> {
        self.renamed.extend(images::named(self.connection, name)?);
        images::remove_name(self.connection, name)?;
        self.records.push(Removal::Untagged(name.clone()));
        Ok(())
    }

    fn untag_all(&mut self, image: &ImageRow) -> Result<()> {
        for name in images::names(self.connection, &image.id)? {
            self.untag(&name)?;
        }
        Ok(())
    }

    /// The first conflict, in docker's order: children, running containers, names, stopped containers.
    fn conflict(&self, image: &ImageRow, mask: Mask) -> Result<Option<Conflict>> {
        let found = |hard: bool, used: bool, message: String| Ok(Some(Conflict { hard, used, message }));
        if !images::children(self.connection, &image.id)?.is_empty() {
            return found(true, false, "image has dependent child images".to_owned());
        }
        let containers = containers::of_image(self.connection, &image.id)?;
        let mut stopped = None;
        for container in &containers {
            if self.is_mounted(&container.layer)? {
                let message = format!("image is being used by running container {}", short(&container.id));
                return found(true, true, message);
            }
            stopped = stopped.or(Some(container));
        }
        if mask.names && !images::names(self.connection, &image.id)?.is_empty() {
            return found(false, false, "image is referenced in multiple repositories".to_owned());
        }
        if let Some(container) = stopped.filter(|_| mask.stopped) {
            let message = format!("image is being used by stopped container {}", short(&container.id));
            return found(false, true, message);
        }
        Ok(None)
    }

    fn is_mounted(&self, layer: &LayerId) -> Result<bool> {
        let in_use = self.driver.leases().in_use(layer);
        in_use.map(InUse::any).map_err(|error| Error::driver_failed(OPERATION, self.text, error))
    }

    fn refuse(&self, conflict: Option<Conflict>, image: &ImageRow) -> Result<()> {
        let Some(Conflict { hard, message, .. }) = conflict else { return Ok(()) };
        let (word, hint) = if hard {
            ("cannot be forced", "remove what uses the image first")
        } else {
            ("must be forced", "add -f to remove it all the same")
        };
        let message = format!("conflict: unable to delete {} ({word}) - {message}", short(&image.id.hex()));
        Err(Error::new(Kind::InUse, OPERATION, self.text, message).with_hint(hint))
    }
}

/// Whether an image has one name: at most one tag, and digests of the same repository only.
fn is_single(names: &[ImageName]) -> bool {
    if names.len() <= 1 {
        return true;
    }
    let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.digest().is_some());
    let Some(first) = tags.first().or(digests.first()) else { return true };
    tags.len() <= 1 && digests.iter().all(|name| name.repository() == first.repository())
}
