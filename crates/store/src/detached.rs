//! Containers mounted where nobody sees them, for runtimes that put the mount in its place themselves: in a mount
//! namespace of the container's own, or in another process that gets it over a socket.
//!
//! Nothing appears on the host, and nothing is left when the process that holds the mount dies.

use std::os::fd::OwnedFd;

use layerstore_driver::mount::DetachedMount;
use layerstore_driver::{DriverExt as _, LayerId};

use crate::error::{Error, Explain as _, Kind, Result};
use crate::model::MountOptions;
use crate::store::Store;

/// A container's root file system without a place. Ends when it is dropped.
#[derive(Debug)]
pub struct DetachedRoot {
    store: Store,
    container: String,
    layer: LayerId,
    mount: DetachedMount,
}

impl Store {
    /// Mounts a container where nobody sees it: the descriptor is for `move_mount(2)`, for `openat(2)`, or to be
    /// passed on. It counts as the container's mount, of which there is one that can be written to.
    ///
    /// # Errors
    /// As [`Store::mount`]; [`InUse`](crate::Kind::InUse) too when the container is mounted writable already;
    /// [`InvalidInput`](crate::Kind::InvalidInput) for options with a target.
    pub fn mount_detached(&self, container: &str, options: &MountOptions) -> Result<DetachedRoot> {
        const OPERATION: &str = "mount";
        if let Some(target) = &options.target {
            let message = format!("a detached mount has no target, and {} was given", target.display());
            return Err(Error::new(Kind::InvalidInput, OPERATION, container, message));
        }
        let found = self.find_container(OPERATION, container)?;
        let access = options.access();
        let plan = self.plan_options(access, options);
        let _lock = self.lock_for_mount(OPERATION, &found.id, &found.layer, access)?;
        let mount = self.driver().mount_detached(&found.layer, &plan).explain(OPERATION, &found.id)?;
        tracing::info!(layer = %found.layer, ?access, "mounted without a place");
        Ok(DetachedRoot { store: self.clone(), container: found.id, layer: found.layer, mount })
    }
}

impl DetachedRoot {
    /// The root directory, opened `O_PATH`: `move_mount(2)` with `MOVE_MOUNT_F_EMPTY_PATH` puts the mount in its place.
    pub fn fd(&self) -> &OwnedFd {
        self.mount.fd()
    }

    /// The root directory, and the descriptor by which the mount counts as the container's: to be passed to another
    /// process together. The container is in use until the last copy of the second is closed, wherever the first one's
    /// mount is then; close the first one first.
    pub fn into_descriptors(self) -> (OwnedFd, Option<OwnedFd>) {
        self.mount.into_descriptors()
    }

    /// Ends the mount and has the driver put away what it had prepared. Dropping leaves that to the container's next
    /// unmount or removal.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn close(self) -> Result<()> {
        let Self { store, container, layer, mount } = self;
        mount.close(&**store.driver(), &layer).explain("unmount", container)
    }
}
