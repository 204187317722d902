//! From flags to an open store: configuration is read, the store is opened, warnings are printed once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use layerstore::{
    Config, Context, Environment, Finding, Kind, Overrides, Rebuilt, Registry, Store, StoreOptions,
};

use crate::args::{Format, Global};
use crate::cancel;
use crate::failure::{Failure, Result};
use crate::output;

/// What every verb works with.
pub(crate) struct Session {
    global: Global,
    registry: Registry,
    /// The warnings that were printed: the configuration is read more than once, and the store has its warnings too.
    warned: RefCell<BTreeSet<String>>,
    /// Cancelled by Ctrl-C.
    pub(crate) context: Context,
}

impl Session {
    /// Checks the global flags.
    pub(crate) fn new(global: Global, registry: Registry) -> Self {
        Self { global, registry, warned: RefCell::default(), context: Context::new() }
    }

    /// The drivers that this program knows.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The drivers that were named.
    pub(crate) fn named_drivers(&self) -> &[String] {
        &self.global.driver
    }

    /// The format that was asked for.
    pub(crate) fn format(&self) -> Format {
        self.global.format
    }

    /// Whether progress is silenced.
    pub(crate) fn quiet(&self) -> bool {
        self.global.quiet
    }

    /// Prints the warnings that were not printed yet.
    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            if self.warned.borrow_mut().insert(warning.clone()) {
                output::warning(warning);
            }
        }
    }

    /// The configuration, with the flags on top. Once it is read there is something to stop cleanly.
    pub(crate) fn config(&self) -> Result<Config> {
        let driver = match self.global.driver.as_slice() {
            [] => None,
            [name] => Some(name.clone()),
            _ => return Err(Failure::usage("read arguments", "--driver is given more than once")),
        };
        let overrides = Overrides {
            config: self.global.config.clone(),
            root: self.global.root.clone(),
            runroot: self.global.runroot.clone(),
            driver,
            driver_options: self.global.driver_opt.clone(),
        };
        let config = Config::load(&overrides, &Environment::current()).map_err(Failure::Usage)?;
        self.warn(&config.warnings);
        cancel::by_signals(&self.context);
        Ok(config)
    }

    /// Opens the store.
    pub(crate) fn store(&self) -> Result<Store> {
        let config = self.config()?;
        let options = StoreOptions { config, registry: self.registry.clone() };
        let store = Store::open(options).map_err(not_opened)?;
        self.warn(store.warnings());
        Ok(store)
    }

    /// Makes the driver's own record of its root again if it is lost.
    pub(crate) fn repair_root(&self) -> Result<Option<Finding>> {
        let options = StoreOptions { config: self.config()?, registry: self.registry.clone() };
        Store::repair_root(&options).map_err(not_opened)
    }

    /// Makes the store's database again if it is lost or damaged.
    pub(crate) fn repair_database(&self) -> Result<Option<Rebuilt>> {
        let options = StoreOptions { config: self.config()?, registry: self.registry.clone() };
        Store::repair_database(&options).map_err(not_opened)
    }

    /// Prints where something is mounted.
    pub(crate) fn print_path(&self, path: &Path) -> Result<()> {
        let value = serde_json::json!({ "path": layerstore_sys::fs::text(path) });
        self.print(&value, |_| output::path(path))
    }

    /// Prints `value` as JSON if that was asked for, else what `text` prints.
    pub(crate) fn print<T: serde::Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> std::io::Result<()>,
    ) -> Result<()> {
        match self.global.format {
            Format::Text => text(value)?,
            Format::Json => output::json(value)?,
            Format::Junit | Format::Html => {
                return Err(Failure::usage("read arguments", "this --format is for `conformance` only"));
            }
        }
        Ok(())
    }
}

/// Why a store could not be opened.
fn not_opened(error: layerstore::Error) -> Failure {
    match error.kind() {
        // What was configured is wrong, not the machine: an unknown driver, option or value, or a driver that
        // is not the store's.
        Kind::NotFound | Kind::InvalidInput => Failure::Usage(error),
        _ => Failure::Store(error),
    }
}
