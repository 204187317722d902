//! Mounting containers and layers at paths.
//!
//! ```text
//! RUNROOT/mnt/ID     made for a mount without a target, removed when it is unmounted
//! ```

use std::path::{Path, PathBuf};

use layerstore_driver::lease::LayerLock;
use layerstore_driver::{Access, DriverExt as _, LayerId, PlanOptions};
use layerstore_sys as sys;
use rusqlite::Connection;

use crate::db::layers::LayerOrigin;
use crate::db::{damage, layers};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::lookup;
use crate::model::{LayerState, MountOptions};
use crate::repair;
use crate::store::Store;

/// How often the directory for a mount is made again that somebody else removes.
const ATTEMPTS: usize = 100;

impl Store {
    /// Mounts a container and returns where. One that is mounted already stays where it is (unless another
    /// target is asked for), so that a second call gives the same path.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InUse`](crate::Kind::InUse) when it is mounted writable elsewhere, or with
    /// other options there.
    pub fn mount(&self, container: &str, options: &MountOptions) -> Result<PathBuf> {
        const OPERATION: &str = "mount";
        let found = self.find_container(OPERATION, container)?;
        self.mount_layer(OPERATION, &found.layer, &found.id, options.access(), options)
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
        let access = if sealed { Access::ReadOnly } else { options.access() };
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
        let plan = self.plan_options(access, options);
        let wanted = match &options.target {
            Some(target) if sys::fs::exists(target).explain(operation, target.display())? => {
                Some(sys::fs::canonical(target).explain(operation, target.display())?)
            }
            target => target.clone(),
        };
        let there = || self.mounted_as(operation, layer, name, wanted.as_deref(), &plan);
        if let Some(place) = there()? {
            tracing::info!(%layer, target = %place.display(), "is mounted already");
            return Ok(place);
        }
        let mount = |target: &Path| -> Result<layerstore_driver::Result<PathBuf>> {
            let (_lock, origin) = self.lock_for_mount(operation, name, layer, access)?;
            let mounted = match self.driver().mount(layer, &plan, target) {
                Ok(mounted) => mounted.target,
                Err(error) => return Ok(Err(error)),
            };
            if origin == LayerOrigin::Image {
                self.undo_if_removed(operation, name, layer, &mounted)?;
            }
            tracing::info!(%layer, target = %mounted.display(), access = ?plan.access, "mounted");
            Ok(Ok(mounted))
        };
        if let Some(target) = &wanted {
            return mount(target)?.explain(operation, name);
        }
        let target = self.runroot().join("mnt").join(name);
        let mut attempts = 0..ATTEMPTS;
        loop {
            sys::fs::make_dirs(&target, 0o700).explain(operation, name)?;
            let mounted = mount(&target).inspect_err(|_| self.remove_mount_point(&target))?;
            match mounted {
                Ok(place) => return Ok(place),
                Err(error) => {
                    // Two programs may have mounted at the same moment: the first one's mount serves both.
                    if let Some(place) = there()? {
                        return Ok(place);
                    }
                    // Who unmounted at this moment may have taken the directory along, or the mount that was in the way.
                    let passes = error.kind() == Kind::InUse || lost_its_target(&error);
                    if !passes || attempts.next().is_none() {
                        self.remove_mount_point(&target);
                        return Err(error).explain(operation, name);
                    }
                }
            }
        }
    }

    /// Takes the lock under which a layer is mounted, and says whose it is; refuses one that is damaged or on its way
    /// out. Who removes a container, or a layer by itself, holds this lock from the last look at its mounts until its
    /// row says so: otherwise a mount of the moment between would be of something that nobody finds any more to unmount
    /// it.
    pub(crate) fn lock_for_mount(
        &self,
        operation: &'static str,
        name: &str,
        layer: &LayerId,
        access: Access,
    ) -> Result<(LayerLock, LayerOrigin)> {
        let leases = self.driver().leases();
        let lock = match access {
            Access::ReadWrite => leases.lock(layer),
            Access::ReadOnly => leases.lock_shared(layer),
        };
        let lock = lock.explain(operation, name)?;
        let (row, damaged) = self.database().read(operation, |connection| {
            Ok((layers::get(connection, layer.as_str())?, damage::in_chain(connection, layer)?))
        })?;
        let Some(row) = row.filter(|row| row.layer.state != LayerState::Deleting) else {
            return Err(just_removed(operation, name));
        };
        damaged.map_or(Ok((lock, row.origin)), |row| Err(repair::damaged(operation, name, &row)))
    }

    /// Takes a mount away again whose layer went while it was mounted. `rmi`, `rm` and `gc` decide within a transaction
    /// which layers of images go, and cannot wait for locks there: they look at the mounts, and who mounts looks at the
    /// row once more, at a turn to write, when the mount is there to be seen. The caller holds the layer's lock.
    fn undo_if_removed(
        &self,
        operation: &'static str,
        name: &str,
        layer: &LayerId,
        target: &Path,
    ) -> Result<()> {
        let row =
            self.database().rehearse(operation, |transaction| layers::get(transaction, layer.as_str()))?;
        if row.is_some_and(|row| row.layer.state != LayerState::Deleting) {
            return Ok(());
        }
        self.unmount_layer(operation, layer, target)?;
        Err(just_removed(operation, name))
    }

    /// Takes the lock under which a layer is removed, once nobody works on it; `refuse` says at once what stands
    /// against that, where there is somebody to wait for.
    pub(crate) fn lock_for_removal(
        &self,
        operation: &'static str,
        layer: &LayerId,
        refuse: impl Fn(&Connection) -> Result<()>,
    ) -> Result<LayerLock> {
        let leases = self.driver().leases();
        if let Some(lock) = leases.try_lock(layer).explain(operation, layer)? {
            return Ok(lock);
        }
        self.database().read(operation, refuse)?;
        leases.lock(layer).explain(operation, layer)
    }

    /// What a driver's plan depends on, with what the configuration says where the caller says nothing.
    pub(crate) fn plan_options(&self, access: Access, options: &MountOptions) -> PlanOptions {
        PlanOptions {
            access,
            id_mapping: options.id_mapping.clone(),
            volatile: options.volatile,
            label: options.label.clone(),
            flags: options.flags.unwrap_or(self.mount_flags()),
        }
    }

    /// Where a layer is mounted already, at a target or anywhere, if it is so as `plan` wants it.
    fn mounted_as(
        &self,
        operation: &'static str,
        layer: &LayerId,
        name: &str,
        target: Option<&Path>,
        plan: &PlanOptions,
    ) -> Result<Option<PathBuf>> {
        let uses = self.driver().leases().uses(layer).explain(operation, layer)?;
        let found = uses.into_iter().find_map(|using| {
            let said = using.to_string();
            let options = using.options.clone();
            let place = using.target_here()?;
            target.is_none_or(|target| target == place).then_some((place, options, said))
        });
        match found {
            None => Ok(None),
            Some((place, options, _)) if options == *plan => Ok(Some(place)),
            Some((_, options, said)) => {
                let how = if options.access == plan.access { ", with other options" } else { "" };
                let error = Error::new(Kind::InUse, operation, name, format!("it is {said}{how}"));
                Err(error.with_hint("unmount it first"))
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
        tracing::info!(%layer, target = %target.display(), "unmounted");
        self.remove_mount_point(target);
        Ok(())
    }

    /// Removes the mount points of processes that died before they mounted. One that is mounted, or holds something,
    /// cannot be removed; who is about to mount makes it again.
    pub(crate) fn remove_mount_points(&self) {
        if let Ok(points) = sys::Dir::open(self.runroot().join("mnt"))
            && let Ok(entries) = points.entries()
        {
            for entry in entries {
                let _ = points.remove_dir(&entry.name);
            }
        }
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

fn just_removed(operation: &'static str, name: &str) -> Error {
    Error::new(Kind::NotFound, operation, name, "it has just been removed")
}

/// Whether a mount failed because something on the way was not there.
fn lost_its_target(error: &layerstore_driver::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<sys::Error>() {
            return error.is_not_found();
        }
        source = error.source();
    }
    false
}
