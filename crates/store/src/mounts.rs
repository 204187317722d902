//! Mounting containers and layers at paths.
//!
//! ```text
//! RUNROOT/mnt/ID     made for a mount without a target, removed when it is unmounted
//! ```

use std::path::{Path, PathBuf};

use layerstore_driver::{Access, DriverExt as _, LayerId, PlanOptions};
use layerstore_sys as sys;

use crate::error::{Explain as _, Result};
use crate::lookup;
use crate::model::MountOptions;
use crate::store::Store;

impl Store {
    /// Mounts a container and returns where. One that is mounted already stays where it is (unless another
    /// target is asked for), so that a second call gives the same path.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) when it is mounted writable elsewhere.
    pub fn mount(&self, container: &str, options: &MountOptions) -> Result<PathBuf> {
        const OPERATION: &str = "mount";
        let found = self.find_container(OPERATION, container)?;
        let access = if options.read_only { Access::ReadOnly } else { Access::ReadWrite };
        self.mount_layer(OPERATION, &found.layer, &found.id, access, options)
    }

    /// Unmounts a container wherever it is mounted, or at one target only. Idempotent; returns where it was.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) while somebody works in it.
    pub fn unmount(&self, container: &str, target: Option<&Path>) -> Result<Vec<PathBuf>> {
        const OPERATION: &str = "unmount";
        let found = self.find_container(OPERATION, container)?;
        self.unmount_everywhere(OPERATION, &found.layer, target)
    }

    /// Mounts a layer and returns where; by default at `RUNROOT/mnt/ID`. A sealed layer is read-only.
    ///
    /// # Errors
    /// Those of the driver's `plan` and of mounting.
    pub fn layer_mount(&self, layer: &str, options: &MountOptions) -> Result<PathBuf> {
        const OPERATION: &str = "layer mount";
        let row =
            self.database().read(OPERATION, |connection| lookup::layer(connection, OPERATION, layer))?;
        let sealed = row.layer.kind != crate::LayerKind::Active;
        let access = if options.read_only || sealed { Access::ReadOnly } else { Access::ReadWrite };
        self.mount_layer(OPERATION, &row.layer.id, row.layer.id.as_str(), access, options)
    }

    /// Unmounts a layer wherever it is mounted, or at one target only. Idempotent.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) while somebody works in it.
    pub fn layer_unmount(&self, layer: &str, target: Option<&Path>) -> Result<Vec<PathBuf>> {
        const OPERATION: &str = "layer unmount";
        let row =
            self.database().read(OPERATION, |connection| lookup::layer(connection, OPERATION, layer))?;
        self.unmount_everywhere(OPERATION, &row.layer.id, target)
    }

    /// Whether a layer has a mount anywhere, other mount namespaces included.
    pub(crate) fn is_mounted(&self, operation: &'static str, layer: &LayerId) -> Result<bool> {
        let in_use = self.driver().leases().in_use(layer).explain(operation, layer)?;
        Ok(in_use.writable || in_use.read_only > 0)
    }

    /// Where a layer is mounted, in this mount namespace, as the kernel sees it.
    pub(crate) fn mounts_of(&self, operation: &'static str, layer: &LayerId) -> Result<Vec<PathBuf>> {
        let mounts = self.driver().mounts(layer).explain(operation, layer)?;
        Ok(mounts.into_iter().map(|mounted| mounted.target).collect())
    }

    fn mount_layer(
        &self,
        operation: &'static str,
        layer: &LayerId,
        name: &str,
        access: Access,
        options: &MountOptions,
    ) -> Result<PathBuf> {
        let mounted = self.mounts_of(operation, layer)?;
        match &options.target {
            None => {
                if let Some(place) = mounted.into_iter().next() {
                    return Ok(place);
                }
            }
            Some(target) if sys::fs::exists(target).explain(operation, target.display())? => {
                let target = sys::fs::canonical(target).explain(operation, target.display())?;
                if mounted.contains(&target) {
                    return Ok(target);
                }
            }
            Some(_) => {}
        }
        self.ensure_sound(operation, name, layer)?;
        let plan = PlanOptions {
            access,
            id_mapping: options.id_mapping.clone(),
            volatile: options.volatile,
            label: options.label.clone(),
            flags: options.flags.unwrap_or(self.mount_flags()),
        };
        let target = match &options.target {
            Some(target) => target.clone(),
            None => {
                let target = self.runroot().join("mnt").join(name);
                sys::fs::make_dirs(&target, 0o700).explain(operation, name)?;
                target
            }
        };
        match self.driver().mount(layer, &plan, &target) {
            Ok(mounted) => Ok(mounted.target),
            Err(error) => {
                // Two programs may have mounted at the same moment: the first one's mount serves both.
                let now = self.mounts_of(operation, layer).unwrap_or_default();
                if options.target.is_none()
                    && let Some(place) = now.into_iter().next()
                {
                    return Ok(place);
                }
                self.remove_mount_point(&target);
                Err(error).explain(operation, name)
            }
        }
    }

    fn unmount_everywhere(
        &self,
        operation: &'static str,
        layer: &LayerId,
        target: Option<&Path>,
    ) -> Result<Vec<PathBuf>> {
        let wanted = match target {
            Some(target) => Some(sys::fs::canonical(target).explain(operation, target.display())?),
            None => None,
        };
        let mut done = Vec::new();
        for place in self.mounts_of(operation, layer)? {
            if wanted.as_ref().is_none_or(|wanted| *wanted == place) {
                self.unmount_layer(operation, layer, &place)?;
                done.push(place);
            }
        }
        Ok(done)
    }

    /// Unmounts a layer at one place, and removes the place if the store made it.
    pub(crate) fn unmount_layer(
        &self,
        operation: &'static str,
        layer: &LayerId,
        target: &Path,
    ) -> Result<()> {
        self.driver().unmount(layer, target).explain(operation, layer)?;
        self.remove_mount_point(target);
        Ok(())
    }

    /// Removes a directory of `RUNROOT/mnt`; one that is somebody else's, or full, stays.
    fn remove_mount_point(&self, target: &Path) {
        use std::os::unix::ffi::OsStrExt as _;
        let own = sys::fs::canonical(self.runroot().join("mnt")).ok();
        if let (Some(parent), Some(name)) = (target.parent(), target.file_name())
            && (own.as_deref() == Some(parent) || parent == self.runroot().join("mnt"))
            && let Ok(parent) = sys::Dir::open(parent)
        {
            // A directory left here is in nobody's way, and runroot dies with the boot.
            let _ = parent.remove_dir(name.as_bytes());
        }
    }
}
