//! The handle of a store: opening it, and what is known of it as a whole.

use std::sync::Arc;

use layerstore_driver::{Driver, Registry};

use crate::config::Config;
use crate::error::Result;
use crate::model::Info;

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where it lies and how it works.
    pub config: Config,
    /// The drivers that the program knows.
    pub registry: Registry,
}

/// An open store. Clones are the same store; any thread may use one.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {}

impl Store {
    /// Opens a store, making it if it is not there, and clears what a crash left behind without touching what
    /// living processes do.
    ///
    /// # Errors
    /// [`Unsupported`](crate::Kind::Unsupported) for a store that a newer program made or a driver that cannot
    /// run here; [`InvalidInput`](crate::Kind::InvalidInput) for another driver than the store's, or its
    /// options; [`Corrupt`](crate::Kind::Corrupt) for a damaged database.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let _ = options;
        unfinished()
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        unimplemented!()
    }

    /// The driver in use.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        unimplemented!()
    }

    /// What a person should know: unknown keys, a driver of last resort, what recovery found.
    pub fn warnings(&self) -> &[String] {
        unimplemented!()
    }

    /// Facts about the store as a whole.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn info(&self) -> Result<Info> {
        unfinished()
    }
}

/// A body that is still to be written.
pub(crate) fn unfinished<T>() -> Result<T> {
    Err(crate::Error::new(crate::Kind::Unsupported, "store", "", "not written yet"))
}
