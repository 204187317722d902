//! Containers: writable layers over images.
//!
//! What is mounted is asked of the kernel and the driver's leases, never of a counter in the database.

use std::collections::HashMap;

use layerstore_changeset::Context;
use layerstore_driver::lease::Use;
use layerstore_driver::{Base, CreateOptions, LayerId, PathChange, Usage};
use layerstore_image::ImageName;
use rusqlite::Connection;

use crate::db::layers::{LayerOrigin, NewLayer};
use crate::db::{Durability, containers, images, layers, now};
use crate::doom::Going;
use crate::error::{Error, Explain as _, Kind, Result};
use crate::lookup;
use crate::model::{Container, ContainerOptions, LayerKind, LayerState};
use crate::session::Lease;
use crate::store::Store;

const CREATE: &str = "create";
/// Longest name of a container, in bytes.
const LONGEST_NAME: usize = 128;

impl ContainerOptions {
    /// Whether a container can be called so; [`Store::create_container`] asks that too.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::Kind::InvalidInput) for a name that is none.
    pub fn check(&self) -> Result<()> {
        self.name.as_deref().map_or(Ok(()), |name| check_name(CREATE, name))
    }
}

impl Store {
    /// Makes a container of an image.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) for the image; [`AlreadyExists`](crate::Kind::AlreadyExists) for the
    /// name; those of the driver's `create`.
    pub fn create_container(
        &self,
        image: &str,
        options: &ContainerOptions,
        context: &Context,
    ) -> Result<Container> {
        const OPERATION: &str = CREATE;
        options.check()?;
        let (found, top) = self.database().read(OPERATION, |connection| {
            let found = lookup::image(connection, OPERATION, image)?;
            let chain = layers::of_image(connection, &found.id)?;
            if let Some(row) = chain.iter().find(|row| row.layer.state == LayerState::Damaged) {
                return Err(crate::repair::damaged(OPERATION, image, row));
            }
            let top = chain.into_iter().next_back();
            Ok((found, top.map(|row| row.layer.id)))
        })?;
        let layer = LayerId::random().explain(OPERATION, image)?;
        let by_name = lookup::image_id_prefix(image).is_none_or(|hex| !found.id.hex().starts_with(hex));
        let container = Container {
            id: LayerId::random().explain(OPERATION, image)?.as_str().to_owned(),
            name: options.name.clone(),
            image: found.id,
            image_name: by_name.then(|| image.to_owned()),
            layer,
            created: now(),
            size_limit: options.size_limit.or(self.inner().container_size),
            labels: options.labels.clone(),
            mounts: Vec::new(),
            mounted: false,
        };
        // No row knows the layer yet; the lease tells others that it is not a leftover.
        let lease = Lease::take(self.staging(), container.layer.as_str(), OPERATION)?;
        let create = CreateOptions { size_limit: container.size_limit };
        self.driver().create(&container.layer, top.as_ref(), &create, context).explain(OPERATION, image)?;
        let durable = self
            .write_container_record(&container, top.as_ref())
            .and_then(|()| self.sync_layer(OPERATION, &container.layer));
        let done = durable.and_then(|()| self.insert_container(OPERATION, image, &container, top.as_ref()));
        if done.is_err() {
            let removed = self.driver().remove(&container.layer).explain(OPERATION, image);
            let removed =
                removed.and_then(|()| self.remove_layer_files(&container.layer).explain(OPERATION, image));
            if let Err(error) = removed {
                tracing::warn!(layer = %container.layer, %error, "a layer that nobody needs could not be removed");
            }
        }
        drop(lease);
        done.map(|()| {
            tracing::info!(container = container.id, layer = %container.layer, "made a container");
            container
        })
    }

    /// Makes a container visible.
    fn insert_container(
        &self,
        operation: &'static str,
        image: &str,
        container: &Container,
        top: Option<&LayerId>,
    ) -> Result<()> {
        self.database().write(operation, Durability::Full, |transaction| {
            // The image may have gone meanwhile; its layers stay, because the new one is a child.
            if images::get(transaction, &container.image)?.is_none() {
                return Err(lookup::no_such_image(operation, image));
            }
            layers::insert(
                transaction,
                &NewLayer {
                    id: &container.layer,
                    parent: top,
                    session: None,
                    chain_id: None,
                    kind: LayerKind::Active,
                    origin: LayerOrigin::Container,
                },
            )?;
            containers::insert(transaction, container).map_err(|error| match &container.name {
                Some(name) if is_taken(&error) => {
                    Error::new(Kind::AlreadyExists, operation, name, format!("the name {name:?} is taken"))
                        .with_hint("choose another name, or remove that container with `layerstore rm`")
                }
                _ => Error::database(operation, error),
            })
        })
    }

    /// Every container, the newest first.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn containers(&self) -> Result<Vec<Container>> {
        const OPERATION: &str = "ps";
        let mut found = self.database().read(OPERATION, |connection| {
            let mut found = containers::all(connection)?;
            forget_old_names(connection, &mut found)?;
            Ok(found)
        })?;
        // One look at all mounts: the many containers that are not mounted cost nothing.
        let overview = self.driver().leases().overview().explain(OPERATION, "")?;
        for container in &mut found {
            let uses = overview.uses(&container.layer).explain(OPERATION, &container.layer)?;
            set_mounts(container, uses);
        }
        Ok(found)
    }

    /// One container, by name, id or unique prefix of an id.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an ambiguous prefix.
    pub fn container(&self, container: &str) -> Result<Container> {
        const OPERATION: &str = "inspect";
        let mut found = self.database().read(OPERATION, |connection| {
            let mut found = lookup::container(connection, OPERATION, container)?;
            forget_old_names(connection, std::slice::from_mut(&mut found))?;
            Ok(found)
        })?;
        let uses = self.driver().leases().uses(&found.layer).explain(OPERATION, &found.layer)?;
        set_mounts(&mut found, uses);
        Ok(found)
    }

    pub(crate) fn find_container(&self, operation: &'static str, container: &str) -> Result<Container> {
        self.database().read(operation, |connection| lookup::container(connection, operation, container))
    }

    /// What a container changed, or what an image's topmost layer did; sorted by path.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound), [`Cancelled`](crate::Kind::Cancelled).
    pub fn diff(&self, container_or_image: &str, context: &Context) -> Result<Vec<PathChange>> {
        const OPERATION: &str = "diff";
        let layer = self.database().read(OPERATION, |connection| {
            if let Some(container) = lookup::find_container(connection, OPERATION, container_or_image)? {
                return Ok(Some(container.layer));
            }
            match lookup::find_image(connection, OPERATION, container_or_image)? {
                Some(image) => Ok(layers::of_image(connection, &image.id)?.pop().map(|row| row.layer.id)),
                None => Err(Error::new(
                    Kind::NotFound,
                    OPERATION,
                    container_or_image,
                    format!("no such container or image: {container_or_image}"),
                )),
            }
        })?;
        let Some(layer) = layer else { return Ok(Vec::new()) };
        let changes = self.driver().changes(&layer, Base::Parent, context);
        let mut changes = changes.explain(OPERATION, container_or_image)?;
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(changes)
    }

    /// The space a container's own layer takes; a walk.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound), [`Cancelled`](crate::Kind::Cancelled).
    pub fn container_usage(&self, container: &str, context: &Context) -> Result<Usage> {
        const OPERATION: &str = "measure container";
        let found = self.find_container(OPERATION, container)?;
        self.driver().usage(&found.layer, context).explain(OPERATION, container)
    }

    /// Removes a container with its layer, and those below it that only it kept because their image is gone; returns
    /// its id. A mounted one is unmounted first if `force`, else refused.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) with where it is mounted.
    pub fn remove_container(&self, container: &str, force: bool) -> Result<String> {
        const OPERATION: &str = "rm";
        let found = self.find_container(OPERATION, container)?;
        if !force {
            self.refuse_mounted(OPERATION, container, &found.layer, force)?;
        }
        let refuse_used = |connection: &Connection| {
            let users = layers::users(connection, &found.layer)?;
            match users.into_iter().find(|user| !user.starts_with("container ")) {
                Some(user) => {
                    let message = format!("the container's layer is used by {user}");
                    Err(Error::new(Kind::InUse, OPERATION, container, message))
                }
                None => Ok(()),
            }
        };
        let lock = self.lock_for_removal(OPERATION, &found.layer, refuse_used)?;
        if force && self.is_mounted(OPERATION, &found.layer)? {
            for target in &self.mounts_of(OPERATION, &found.layer)? {
                self.unmount_layer(OPERATION, &found.layer, target)?;
            }
        }
        self.refuse_mounted(OPERATION, container, &found.layer, force)?;
        let ((), doomed) = self.doom(OPERATION, Durability::Full, |transaction| {
            refuse_used(transaction)?;
            containers::delete(transaction, &found.id)?;
            // With the last container of an image that was removed before, its layers go, too.
            let is_mounted = |layer: &LayerId| self.is_mounted(OPERATION, layer);
            let layers = layers::doom_with_parents(transaction, &found.layer, is_mounted)?;
            Ok(((), Going { layers, images: vec![found.image] }))
        })?;
        drop(lock);
        self.dispose(OPERATION, &doomed);
        Ok(found.id)
    }

    /// Refuses to remove a container that is mounted; `force` says that what could be unmounted was.
    fn refuse_mounted(
        &self,
        operation: &'static str,
        container: &str,
        layer: &LayerId,
        force: bool,
    ) -> Result<()> {
        if !self.is_mounted(operation, layer)? {
            return Ok(());
        }
        let mounts = if force { Vec::new() } else { self.mounts_of(operation, layer)? };
        let places = mounts.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let places = if places.is_empty() {
            "in another mount namespace or by another program".to_owned()
        } else {
            format!("at {}", places.join(", "))
        };
        let hint = if force {
            "end the program that has it mounted"
        } else {
            "unmount it first, or force the removal with -f"
        };
        let message = format!("the container is mounted {places}");
        Err(Error::new(Kind::InUse, operation, container, message).with_layer(layer).with_hint(hint))
    }
}

/// Takes the name of its image from each container where the name does not lead to that image any more.
fn forget_old_names(connection: &Connection, containers: &mut [Container]) -> Result<()> {
    // Many containers have one name.
    let mut leads = HashMap::new();
    for container in containers {
        let Some(text) = container.image_name.take() else { continue };
        let image = match leads.get(&text) {
            Some(image) => *image,
            None => {
                let name = text.parse::<ImageName>().ok();
                let image = name.map_or(Ok(None), |name| images::named(connection, &name))?;
                leads.insert(text.clone(), image);
                image
            }
        };
        container.image_name = Some(text).filter(|_| image == Some(container.image));
    }
    Ok(())
}

/// Says of a container where it is mounted.
fn set_mounts(container: &mut Container, uses: Vec<Use>) {
    container.mounted = !uses.is_empty();
    container.mounts = uses.into_iter().filter_map(Use::target_here).collect();
}

/// Whether a unique column holds the value already.
fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}

fn check_name(operation: &'static str, name: &str) -> Result<()> {
    let hint =
        "a container's name has 1 to 128 letters, digits, '_', '.' or '-' and begins with a letter or digit";
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !fits {
        return Err(Error::new(
            Kind::InvalidInput,
            operation,
            name.escape_debug().to_string(),
            "not a container name",
        )
        .with_hint(hint));
    }
    if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::new(
            Kind::InvalidInput,
            operation,
            name,
            "64 hexadecimal digits are an id, not a name",
        ));
    }
    Ok(())
}
