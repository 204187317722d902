//! The book of locks and mounts of one driver, kept in its runroot.
//!
//! Placeholder of the interface; see the module's final documentation.
use crate::error::Result;
use crate::id::LayerId;
use std::path::Path;

/// Locks and mounts of one driver's layers, across threads, processes and mount namespaces.
#[derive(Debug)]
pub struct Leases {}

/// Exclusive use of one layer id, until dropped or the process dies.
#[derive(Debug)]
pub struct LayerLock {}

/// How a layer is used right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InUse {
    /// It has a writable mount.
    pub writable: bool,
    /// How many read-only mounts it has.
    pub read_only: u32,
}

impl Leases {
    /// Opens the book in a driver's runroot.
    ///
    /// # Errors
    /// `System`.
    pub fn open(runroot: &Path) -> Result<Self> {
        let _ = runroot;
        todo!()
    }

    /// Waits for exclusive use of a layer id.
    ///
    /// # Errors
    /// `System`.
    pub fn lock(&self, id: &LayerId) -> Result<LayerLock> {
        let _ = id;
        todo!()
    }

    /// Waits for use of a layer id together with other shared users: for those who read it or build on it, and
    /// only have to keep it from being written or removed meanwhile. Never waits for other shared users.
    ///
    /// # Errors
    /// `System`.
    pub fn lock_shared(&self, id: &LayerId) -> Result<LayerLock> {
        let _ = id;
        todo!()
    }

    /// How the layer is used, by whatever process and namespace; dead leases are dropped on the way.
    ///
    /// # Errors
    /// `System`.
    pub fn in_use(&self, id: &LayerId) -> Result<InUse> {
        let _ = id;
        todo!()
    }
}
