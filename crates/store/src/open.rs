//! Opening a store: directories, database, driver, in this order; and clearing what a crash left behind.
//!
//! Recovery touches only what has no living owner: sessions whose lease nobody holds, layers on their way out,
//! and, once per boot or after a dead session, what the driver itself finds. It never removes what no row knows:
//! that is `gc`, which a person starts.

use layerstore_driver::{DriverFactory, DriverOptions, LayerId, OpenOptions, Registry, Selection};
use layerstore_sys as sys;
use layerstore_sys::Dir;
use std::sync::Arc;

use crate::config::{Config, Setting};
use crate::db::{Database, layers, sessions};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::files::Folders;
use crate::session::Lease;
use crate::store::{Inner, Store, StoreOptions};

const OPERATION: &str = "open store";
/// In runroot: what an earlier boot left behind was cleared.
const RECOVERED: &str = "recovered";

pub(crate) fn open(options: StoreOptions) -> Result<Inner> {
    let StoreOptions { mut config, registry } = options;
    config.settle(&registry)?;
    for path in [&config.graphroot.value, &config.runroot.value] {
        sys::fs::make_dirs(path, 0o700).explain(OPERATION, path.display())?;
    }
    let root = Dir::open(&config.graphroot.value).explain(OPERATION, "")?;
    let database = Database::open(&root)?;
    let selected = Choice { config: &config, registry: &registry, root: &root }.select(database.as_ref())?;
    let open = open_options(&config, &*selected.factory)?;
    let driver_path = open.root.clone();
    // Before the database is made: a root that is another program's is refused here, and left as it was.
    let driver = selected.factory.open(&open).explain(OPERATION, "")?;
    let database = match database {
        Some(database) => database,
        None => Database::create(&root, selected.factory.name())?,
    };
    // Somebody else may have made the store a moment ago, with another driver.
    if database.driver()?.as_deref() != Some(selected.factory.name()) {
        let other = database.driver()?.unwrap_or_default();
        let message =
            format!("the store was made with the driver {other}, not with {}", selected.factory.name());
        return Err(Error::new(Kind::InvalidInput, OPERATION, "", message));
    }
    let driver_root = other_file_system(&root, &driver_path)?;
    let folders = Folders::open(&root).explain(OPERATION, "")?;
    let mut warnings = std::mem::take(&mut config.warnings);
    warnings.extend(selected.warning);
    Ok(Inner {
        config,
        root,
        folders,
        database,
        driver,
        driver_root,
        driver_reason: selected.reason,
        warnings,
    })
}

/// What the choice of a driver depends on.
struct Choice<'a> {
    config: &'a Config,
    registry: &'a Registry,
    root: &'a Dir,
}

struct Selected {
    factory: Arc<dyn DriverFactory>,
    reason: String,
    warning: Option<String>,
}

impl Choice<'_> {
    fn select(&self, database: Option<&Database>) -> Result<Selected> {
        let present = match database {
            Some(database) => database.driver()?.into_iter().collect(),
            None => self.present()?,
        };
        let name = self.config.driver.value.clone();
        // A store that was opened since the last boot runs its driver here; probing again would try a mount at
        // every start of a program.
        if let [held] = present.as_slice()
            && name.as_ref().is_none_or(|name| name == held)
            && sys::fs::exists(self.config.runroot.value.join(RECOVERED)).explain(OPERATION, "")?
        {
            let factory = Arc::clone(self.registry.get(held).explain(OPERATION, "")?);
            let reason = match &name {
                Some(_) => format!("named by {}", self.config.driver.origin),
                None => "the store holds its layers".to_owned(),
            };
            return Ok(Selected { factory, reason, warning: None });
        }
        let selection = Selection { name, present, priority: self.config.driver_priority.value.clone() };
        let open = |factory: &dyn DriverFactory| {
            open_options(self.config, factory).map_err(|error| {
                let new = layerstore_driver::Error::new(error.kind(), "read driver options", error.message());
                match error.hint() {
                    Some(hint) => new.with_hint(hint),
                    None => new,
                }
            })
        };
        let selected = self.registry.select(&selection, &open).explain(OPERATION, "")?;
        let reason = match &selection.name {
            Some(_) => format!("named by {}", self.config.driver.origin),
            None => selected.reason,
        };
        Ok(Selected { factory: selected.factory, reason, warning: selected.warning })
    }

    /// Drivers that have something in a root without a database.
    fn present(&self) -> Result<Vec<String>> {
        let mut present = Vec::new();
        for factory in self.registry.factories() {
            match self.root.open_dir(factory.name().as_bytes()).and_then(|dir| dir.entries()) {
                Ok(entries) if !entries.is_empty() => present.push(factory.name().to_owned()),
                Err(error) if !error.is_not_found() => return Err(error).explain(OPERATION, ""),
                _ => {}
            }
        }
        Ok(present)
    }
}

/// Where and with what a driver is opened. Options without a driver's name go to the one that is opened, if
/// several are tried to those that know them.
fn open_options(config: &Config, factory: &dyn DriverFactory) -> Result<OpenOptions> {
    let own = config.options.get(factory.name());
    let automatic = config.driver.value.is_none();
    let known = |key: &String| factory.options().iter().any(|spec| spec.key == key);
    let selected = config.selected_options.iter().filter(|(key, _)| !automatic || known(key));
    let pairs: Vec<(&String, &Setting<String>)> =
        own.into_iter().flatten().chain(selected.map(|(key, setting)| (key, setting))).collect();
    for (key, setting) in &pairs {
        // One by one, so that an error names the place of the wrong value.
        DriverOptions::check(factory.options(), [(key.as_str(), setting.value.clone())]).map_err(
            |error| {
                let new = Error::new(
                    error.kind(),
                    "read configuration",
                    setting.origin.to_string(),
                    format!("{}: {}", factory.name(), error.message()),
                );
                match error.hint() {
                    Some(hint) => new.with_hint(hint),
                    None => new,
                }
            },
        )?;
    }
    let pairs = pairs.into_iter().map(|(key, setting)| (key.as_str(), setting.value.clone()));
    Ok(OpenOptions {
        root: config.graphroot.value.join(factory.name()),
        runroot: config.runroot.value.join(factory.name()),
        options: DriverOptions::check(factory.options(), pairs).explain("read configuration", "")?,
    })
}

/// The driver's directory, if something else is mounted there.
fn other_file_system(root: &Dir, path: &std::path::Path) -> Result<Option<Dir>> {
    if !sys::fs::exists(path).explain(OPERATION, "")? {
        return Ok(None);
    }
    let dir = Dir::open(path).explain(OPERATION, "")?;
    let same =
        dir.stat_self().explain(OPERATION, "")?.device == root.stat_self().explain(OPERATION, "")?.device;
    Ok((!same).then_some(dir))
}

impl Store {
    /// Clears leftovers of dead processes and returns what a person should know.
    pub(crate) fn recover(&self) -> Result<Vec<String>> {
        let marker = self.runroot().join(RECOVERED);
        let first = !sys::fs::exists(&marker).explain(OPERATION, "")?;
        let (sessions, doomed) = self.database().read(OPERATION, |connection| {
            Ok((sessions::of_processes(connection)?, layers::doomed(connection)?))
        })?;
        let mut found = Vec::new();
        let mut dead = false;
        for session in sessions {
            if Lease::is_held(self.staging(), &session).explain(OPERATION, &session)? {
                continue;
            }
            dead = true;
            for layer in self.reap(&session)? {
                found.push(format!("removed the unfinished layer {layer} of a process that died"));
            }
        }
        let doomed: Vec<LayerId> = doomed.into_iter().map(|row| row.layer.id).collect();
        if let Err(error) = self.destroy(OPERATION, &doomed) {
            // It may be mounted still; the next open tries again, and nothing else depends on it.
            found.push(format!("a removal could not be finished: {error}"));
        }
        if first || dead {
            for recovered in self.driver().recover(&|id| self.is_live(id)).explain(OPERATION, "")? {
                let layer = recovered.id.map(|id| format!("layer {id}: ")).unwrap_or_default();
                found.push(format!("{layer}{}", recovered.what));
            }
        }
        if first {
            sys::fs::create_file(&marker, 0o600).explain(OPERATION, "")?;
        }
        Ok(found)
    }

    /// Whether a living process is making this layer. In doubt it is.
    pub(crate) fn is_live(&self, id: &LayerId) -> bool {
        let session = self.database().read(OPERATION, |connection| {
            Ok(layers::get(connection, id.as_str())?.and_then(|row| row.session))
        });
        let held = |name: &str| Lease::is_held(self.staging(), name).unwrap_or(true);
        match session {
            Ok(Some(session)) => held(&session),
            Ok(None) => held(id.as_str()),
            Err(_) => true,
        }
    }
}
