//! The drivers that a program knows, and how one is selected. A registry is a value: no global state.

use std::path::Path;
use std::sync::Arc;

use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::factory::{DriverFactory, OpenOptions, Probe};
use crate::options::DriverOptions;

/// The drivers that a program knows, in order of preference.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    factories: Vec<Arc<dyn DriverFactory>>,
}

impl Registry {
    /// No drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a driver after those that are there.
    #[must_use]
    pub fn with(mut self, factory: impl DriverFactory + 'static) -> Self {
        self.factories.push(Arc::new(factory));
        self
    }

    /// Every driver, in order of preference.
    pub fn factories(&self) -> impl Iterator<Item = &Arc<dyn DriverFactory>> {
        self.factories.iter()
    }

    /// The driver of this name, else the first that has it among its aliases.
    ///
    /// # Errors
    /// [`Kind::NotFound`] with the known names.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn DriverFactory>> {
        let named = self.factories.iter().find(|factory| factory.name() == name);
        let named = named.or_else(|| self.factories.iter().find(|factory| factory.aliases().contains(&name)));
        named.ok_or_else(|| {
            let known: Vec<_> = self.factories.iter().map(|factory| factory.name()).collect();
            Error::new(Kind::NotFound, "select driver", format!("there is no storage driver called {name:?}"))
                .with_hint(format!("known drivers: {}", known.join(", ")))
        })
    }
}

/// What decides which driver a store uses.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The name that a person gave.
    pub name: Option<String>,
    /// The drivers that the store's root already holds layers of.
    pub present: Vec<String>,
    /// Names in order of preference; empty for the registry's order.
    pub priority: Vec<String>,
}

/// The driver that was selected, and why.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The driver's factory.
    pub factory: Arc<dyn DriverFactory>,
    /// Why this one, for `info`.
    pub reason: String,
    /// What a person should know: a driver of last resort was taken.
    pub warning: Option<String>,
}

impl Registry {
    /// Selects a driver: a given name is used or refused; else what the store holds wins; else the first of the
    /// priority list that can run, drivers of last resort after all others and with a warning.
    ///
    /// `open` says where a driver of a name would be opened.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for unknown names, [`Kind::InvalidInput`] when the store holds another driver's layers
    /// or those of several, [`Kind::Unsupported`] with every reason when none can run.
    pub fn select(
        &self,
        selection: &Selection,
        open: &dyn Fn(&dyn DriverFactory) -> Result<OpenOptions>,
    ) -> Result<Selected> {
        const OPERATION: &str = "select driver";
        if let Some(name) = &selection.name {
            let factory = self.get(name)?;
            let name = factory.name();
            if let Some(other) = selection.present.iter().find(|present| *present != name) {
                let message = format!("the store was made with the driver {other}, not with {name}");
                return Err(Error::new(Kind::InvalidInput, OPERATION, message)
                    .with_hint(format!("use the driver {other}, or another root for {name}")));
            }
            return usable(factory, open, "named by the user");
        }
        match selection.present.as_slice() {
            [] => {}
            [name] => return usable(self.get(name)?, open, "the store holds its layers"),
            several => {
                let message = format!("the root holds layers of several drivers: {}", several.join(", "));
                return Err(Error::new(Kind::InvalidInput, OPERATION, message).with_hint("name one of them"));
            }
        }
        let ordered: Vec<&Arc<dyn DriverFactory>> = if selection.priority.is_empty() {
            let (last, first): (Vec<_>, Vec<_>) = self.factories.iter().partition(|f| f.last_resort());
            first.into_iter().chain(last).collect()
        } else {
            selection.priority.iter().map(|name| self.get(name)).collect::<Result<_>>()?
        };
        let mut reasons = Vec::new();
        for factory in ordered {
            match factory.probe(&open(&**factory)?)? {
                Probe::Usable => {
                    let warning = (factory.last_resort() && selection.priority.is_empty()).then(|| {
                        let why = if reasons.is_empty() {
                            "no other driver is compiled in".to_owned()
                        } else {
                            reasons.join("; ")
                        };
                        format!("using the driver {} as a last resort: {why}", factory.name())
                    });
                    let reason = "the first of the priority list that can run here".to_owned();
                    return Ok(Selected { factory: Arc::clone(factory), reason, warning });
                }
                Probe::Unusable { reason, .. } => reasons.push(format!("{}: {reason}", factory.name())),
            }
        }
        let message = format!("no storage driver can run here: {}", reasons.join("; "));
        let error = Error::new(Kind::Unsupported, OPERATION, message);
        Err(if layerstore_sys::process::effective_uid() == 0 {
            error
        } else {
            error.with_hint(
                "as another user than root, run it in a user namespace: `unshare -Urm` and the command",
            )
        })
    }
}

fn usable(
    factory: &Arc<dyn DriverFactory>,
    open: &dyn Fn(&dyn DriverFactory) -> Result<OpenOptions>,
    reason: &str,
) -> Result<Selected> {
    match factory.probe(&open(&**factory)?)? {
        Probe::Usable => {
            Ok(Selected { factory: Arc::clone(factory), reason: reason.to_owned(), warning: None })
        }
        Probe::Unusable { reason, hint } => {
            let error = Error::new(Kind::Unsupported, "select driver", reason).with_driver(factory.name());
            Err(match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            })
        }
    }
}

/// Opens the driver `name` of `registry` directly: for tests and small programs.
///
/// # Errors
/// Those of [`Registry::get`], [`DriverOptions::check`] and [`DriverFactory::open`].
pub fn open(registry: &Registry, name: &str, root: &Path, runroot: &Path) -> Result<Arc<dyn Driver>> {
    let factory = registry.get(name)?;
    let options = DriverOptions::check(factory.options(), std::iter::empty::<(&str, String)>())?;
    factory.open(&OpenOptions { root: root.to_owned(), runroot: runroot.to_owned(), options })
}
