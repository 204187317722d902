//! Layers by themselves: the verbs for driver authors. `check` and `gc` know of such layers and leave them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use layerstore_changeset::Context;
use layerstore_driver::{Applied, CreateOptions, LayerId, MountPlan, PathChange, PlanOptions, Usage};

use crate::error::Result;
use crate::model::{Layer, MountOptions};
use crate::store::{Store, unfinished};

/// Layers are named by id or unique prefix; images' layers also by chain ID.
impl Store {
    /// Makes a writable layer; a random id where none is given.
    ///
    /// # Errors
    /// Those of the driver's `create`.
    pub fn layer_create(
        &self,
        id: Option<&str>,
        parent: Option<&str>,
        options: &CreateOptions,
        context: &Context,
    ) -> Result<LayerId> {
        let _ = (id, parent, options, context);
        unfinished()
    }

    /// Applies a tar (plain, gzip or zstd) to a writable layer.
    ///
    /// # Errors
    /// Those of the driver's `apply`.
    pub fn layer_apply(
        &self,
        layer: &str,
        tar: &mut (dyn Read + Send),
        context: &Context,
    ) -> Result<Applied> {
        let _ = (layer, tar, context);
        unfinished()
    }

    /// Makes a layer read-only for good.
    ///
    /// # Errors
    /// Those of the driver's `seal`.
    pub fn layer_seal(&self, layer: &str, context: &Context) -> Result<Usage> {
        let _ = (layer, context);
        unfinished()
    }

    /// Writes what leads from `base` (none: the parent) to the layer as a tar.
    ///
    /// # Errors
    /// Those of the driver's `diff`, and of the writer.
    pub fn layer_diff(
        &self,
        layer: &str,
        base: Option<&str>,
        out: &mut dyn Write,
        context: &Context,
    ) -> Result<()> {
        let _ = (layer, base, out, context);
        unfinished()
    }

    /// The names that differ from `base` (none: the parent), sorted.
    ///
    /// # Errors
    /// Those of the driver's `changes`.
    pub fn layer_changes(
        &self,
        layer: &str,
        base: Option<&str>,
        context: &Context,
    ) -> Result<Vec<PathChange>> {
        let _ = (layer, base, context);
        unfinished()
    }

    /// Mounts a layer and returns where; by default at `RUNROOT/mnt/ID`.
    ///
    /// # Errors
    /// Those of the driver's `plan` and of mounting.
    pub fn layer_mount(&self, layer: &str, options: &MountOptions) -> Result<PathBuf> {
        let _ = (layer, options);
        unfinished()
    }

    /// Unmounts a layer wherever it is mounted, or at one target only. Idempotent.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) while somebody works in it.
    pub fn layer_unmount(&self, layer: &str, target: Option<&Path>) -> Result<Vec<PathBuf>> {
        let _ = (layer, target);
        unfinished()
    }

    /// What would be mounted.
    ///
    /// # Errors
    /// Those of the driver's `plan`.
    pub fn layer_plan(&self, layer: &str, options: &PlanOptions) -> Result<MountPlan> {
        let _ = (layer, options);
        unfinished()
    }

    /// Removes a layer that nothing uses and returns its id.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) with what uses it: an image, a container, a child, a mount.
    pub fn layer_remove(&self, layer: &str) -> Result<LayerId> {
        let _ = layer;
        unfinished()
    }

    /// Every layer, the oldest first.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn layers(&self) -> Result<Vec<Layer>> {
        unfinished()
    }

    /// One layer.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an ambiguous prefix.
    pub fn layer(&self, layer: &str) -> Result<Layer> {
        let _ = layer;
        unfinished()
    }

    /// Where a layer lies, as pairs of label and path.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn layer_metadata(&self, layer: &str) -> Result<Vec<(String, String)>> {
        let _ = layer;
        unfinished()
    }
}
