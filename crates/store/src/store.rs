//! The handle of a store: opening it, and what is known of it as a whole.

use std::path::Path;
use std::sync::Arc;

use layerstore_driver::{Driver, MountFlags, Registry};
use layerstore_sys::Dir;

use crate::binding::Bound;
use crate::config::Config;
use crate::db::{self, Database};
use crate::error::{Explain as _, Result};
use crate::files::Folders;
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
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) bound: Bound,
    pub(crate) root: Dir,
    pub(crate) folders: Folders,
    pub(crate) database: Database,
    pub(crate) driver: Arc<dyn Driver>,
    /// The driver's directory, where it lies on another file system than the root: synced too.
    pub(crate) driver_root: Option<Dir>,
    pub(crate) driver_reason: String,
    /// Most bytes of a container that is made without a size of its own.
    pub(crate) container_size: Option<u64>,
    /// Flags of a mount that asks for none.
    pub(crate) mount_flags: MountFlags,
    pub(crate) warnings: Vec<String>,
}

impl Store {
    /// Opens a store, making it if it is not there, and clears what a crash left behind without touching what
    /// living processes do.
    ///
    /// # Errors
    /// [`Unsupported`](crate::Kind::Unsupported) for a store that a newer program made or a driver that cannot
    /// run here; [`InvalidInput`](crate::Kind::InvalidInput) for another driver than the store's, or its
    /// options; [`Corrupt`](crate::Kind::Corrupt) for a damaged database.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let mut store = Self(Arc::new(crate::open::open(options)?));
        let found = store.recover()?;
        if let Some(inner) = Arc::get_mut(&mut store.0) {
            inner.warnings.extend(found);
        }
        Ok(store)
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The driver in use.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.0.driver
    }

    /// The flags of a mount that asks for none, by the configuration (`mountopt`).
    pub fn mount_flags(&self) -> MountFlags {
        self.0.mount_flags
    }

    /// What a person should know: unknown keys, a driver of last resort, what recovery found.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Facts about the store as a whole.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn info(&self) -> Result<Info> {
        const OPERATION: &str = "info";
        let inner = &*self.0;
        let (images, (layers, size, disk_bytes), containers) =
            inner.database.read(OPERATION, |connection| {
                let count = |table: &str| -> Result<u64> {
                    let count: i64 = connection
                        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
                        .explain(OPERATION, "")?;
                    Ok(count.unsigned_abs())
                };
                let sums =
                    "SELECT count(*), sum(size), sum(disk_bytes) FROM layers WHERE state <> 'deleting'";
                let layers = connection
                    .query_row(sums, [], |row| {
                        let sum = |column| -> rusqlite::Result<u64> {
                            Ok(row.get::<_, Option<i64>>(column)?.unwrap_or(0).unsigned_abs())
                        };
                        Ok((sum(0)?, sum(1)?, sum(2)?))
                    })
                    .explain(OPERATION, "")?;
                Ok((count("images")?, layers, count("containers")?))
            })?;
        Ok(Info {
            driver: inner.driver.name().to_owned(),
            driver_reason: inner.driver_reason.clone(),
            driver_status: inner.driver.status().explain(OPERATION, "")?,
            capabilities: inner.driver.capabilities(),
            graphroot: inner.config.graphroot.value.display().to_string(),
            runroot: inner.config.runroot.value.display().to_string(),
            version: db::VERSION.unsigned_abs(),
            images,
            layers,
            containers,
            size,
            disk_bytes,
            files: inner.config.files.iter().map(|file| file.display().to_string()).collect(),
            settings: settings(&inner.config, inner.driver.name()),
            warnings: inner.warnings.clone(),
        })
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn folders(&self) -> &Folders {
        &self.0.folders
    }

    pub(crate) fn staging(&self) -> &Dir {
        &self.0.folders.staging
    }

    pub(crate) fn runroot(&self) -> &Path {
        &self.0.config.runroot.value
    }
}

/// Every setting as key, value and origin.
fn settings(config: &Config, driver: &str) -> Vec<(String, String, String)> {
    let mut lines = vec![
        (
            "driver".to_owned(),
            config.driver.value.clone().unwrap_or_else(|| "automatic".to_owned()),
            config.driver.origin.to_string(),
        ),
        (
            "graphroot".to_owned(),
            config.graphroot.value.display().to_string(),
            config.graphroot.origin.to_string(),
        ),
        ("runroot".to_owned(), config.runroot.value.display().to_string(), config.runroot.origin.to_string()),
        (
            "driver_priority".to_owned(),
            config.driver_priority.value.join(", "),
            config.driver_priority.origin.to_string(),
        ),
        ("keep_blobs".to_owned(), config.keep_blobs.value.to_string(), config.keep_blobs.origin.to_string()),
        ("sync".to_owned(), config.sync.value.as_str().to_owned(), config.sync.origin.to_string()),
    ];
    let selected = config.selected_options.iter().map(|(key, setting)| (driver, key, setting));
    let named = config.options.iter().flat_map(|(driver, options)| {
        options.iter().map(move |(key, setting)| (driver.as_str(), key, setting))
    });
    for (driver, key, setting) in named.chain(selected) {
        lines.push((format!("options.{driver}.{key}"), setting.value.clone(), setting.origin.to_string()));
    }
    lines
}
