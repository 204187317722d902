//! Containers: writable layers over images.

use std::path::{Path, PathBuf};

use layerstore_changeset::Context;
use layerstore_driver::{PathChange, Usage};

use crate::error::Result;
use crate::model::{Container, ContainerOptions, MountOptions};
use crate::store::{Store, unfinished};

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
        let _ = (image, options, context);
        unfinished()
    }

    /// Every container, the newest first.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn containers(&self) -> Result<Vec<Container>> {
        unfinished()
    }

    /// One container, by name, id or unique prefix of an id.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an ambiguous prefix.
    pub fn container(&self, container: &str) -> Result<Container> {
        let _ = container;
        unfinished()
    }

    /// Mounts a container and returns where. One that is mounted already stays where it is (unless another
    /// target is asked for), so that a second call gives the same path.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) when it is mounted writable elsewhere.
    pub fn mount(&self, container: &str, options: &MountOptions) -> Result<PathBuf> {
        let _ = (container, options);
        unfinished()
    }

    /// Unmounts a container wherever it is mounted, or at one target only. Idempotent; returns where it was.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) while somebody works in it.
    pub fn unmount(&self, container: &str, target: Option<&Path>) -> Result<Vec<PathBuf>> {
        let _ = (container, target);
        unfinished()
    }

    /// What a container changed, or what an image's topmost layer did; sorted by path.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound), [`Cancelled`](crate::Kind::Cancelled).
    pub fn diff(&self, container_or_image: &str, context: &Context) -> Result<Vec<PathChange>> {
        let _ = (container_or_image, context);
        unfinished()
    }

    /// The space a container's own layer takes; a walk.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound), [`Cancelled`](crate::Kind::Cancelled).
    pub fn container_usage(&self, container: &str, context: &Context) -> Result<Usage> {
        let _ = (container, context);
        unfinished()
    }

    /// Removes a container with its layer and returns its id. A mounted one is unmounted first if `force`, else
    /// refused.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) with where it is mounted.
    pub fn remove_container(&self, container: &str, force: bool) -> Result<String> {
        let _ = (container, force);
        unfinished()
    }
}
