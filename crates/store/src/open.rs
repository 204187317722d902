//! Opening a store: directories, runroot, database, driver, in this order. What a crash left behind is cleared by
//! [`recover`](crate::recover).

use layerstore_driver::options::{CONTAINER_SIZE, MOUNT_FLAGS};
use layerstore_driver::{Driver, DriverFactory, DriverOptions, OpenOptions, Registry, Selection};
use layerstore_sys as sys;
use layerstore_sys::Dir;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::binding;
use crate::config::{Config, Origin, Setting};
use crate::db::Database;
use crate::error::{Error, Explain as _, ExplainOwn as _, Kind, Result};
use crate::files::Folders;
use crate::model::Finding;
use crate::rebuild;
use crate::store::{Inner, StoreOptions};

const OPERATION: &str = "open store";

pub(crate) fn open(options: StoreOptions) -> Result<Inner> {
    let StoreOptions { config, registry } = options;
    let (mut config, runroot) = prepared(config, &registry)?;
    let path = &config.graphroot.value;
    let root = Dir::open(path).map_err(|error| no_place(path, "--root", error))?;
    let bound = match rebuild::is_ours(&root)? {
        true => Some(binding::bind(&root, &runroot)?),
        false => None,
    };
    let database = Database::open(&root)?;
    let first = bound.as_ref().is_none_or(|bound| bound.first);
    let choice = Choice { config: &config, registry: &registry, root: &root, first };
    choice.check_options()?;
    let mut held = database.as_ref().map(Database::driver).transpose()?.flatten();
    let present = match &database {
        Some(_) => held.iter().cloned().collect(),
        None => choice.present()?,
    };
    let selected = choice.select(present)?;
    let open = open_options(&config, &*selected.factory)?;
    let container_size = open.options.number(CONTAINER_SIZE.key).filter(|&bytes| bytes > 0);
    let mount_flags = open.options.mount_flags(MOUNT_FLAGS.key);
    let driver_path = open.root.clone();
    // Before the database is made: a root that is another program's is refused here, and left as it was.
    let driver = selected.factory.open(&open).explain(OPERATION, "")?;
    let bound = match bound {
        Some(bound) => bound,
        None => binding::bind(&root, &runroot)?,
    };
    let database = match database {
        Some(database) => database,
        // Its tables may have been made since we looked.
        None if rebuild::has_records(&root)? && Database::open(&root)?.is_none() => {
            return Err(rebuild::lost(&root));
        }
        None => {
            let database = Database::create(&root, selected.factory.name())?;
            // Somebody else may have made the store a moment ago, with another driver.
            held = database.driver()?;
            database
        }
    };
    if held.as_deref() != Some(selected.factory.name()) {
        let other = held.unwrap_or_default();
        let message =
            format!("the store was made with the driver {other}, not with {}", selected.factory.name());
        return Err(Error::new(Kind::InvalidInput, OPERATION, "", message));
    }
    let driver_root = other_file_system(&root, &driver_path)?;
    let (path, name) = (config.graphroot.value.display(), selected.factory.name());
    tracing::info!(root = %path, driver = name, why = selected.reason, "opened the store");
    let folders = Folders::open(&root).explain_own(OPERATION, "")?;
    let mut warnings = std::mem::take(&mut config.warnings);
    warnings.extend(selected.warning);
    warnings.extend(bound.warning.clone());
    Ok(Inner {
        config,
        bound,
        root,
        folders,
        database,
        driver,
        driver_root,
        driver_reason: selected.reason,
        container_size,
        mount_flags,
        warnings,
    })
}

/// Settles the configuration for these drivers, and makes the directories that it names. Returns the runroot without
/// symlinks, too.
fn prepared(mut config: Config, registry: &Registry) -> Result<(Config, PathBuf)> {
    config.settle(registry)?;
    for (setting, flag) in [(&config.graphroot, "--root"), (&config.runroot, "--runroot")] {
        let path = &setting.value;
        sys::fs::make_dirs(path, 0o700).map_err(|error| no_place(path, flag, error))?;
    }
    let canonical = |path: &Path| sys::fs::canonical(path).explain(OPERATION, path.display());
    // SQLite follows no symlink on the way to a database, and a symlink may lead elsewhere tomorrow.
    config.graphroot.value = canonical(&config.graphroot.value)?;
    let runroot = canonical(&config.runroot.value)?;
    if config.graphroot.value == runroot {
        let what = config.graphroot.value.display().to_string();
        let error = Error::new(Kind::InvalidInput, OPERATION, what, "root and runroot are one directory");
        return Err(
            error.with_hint("what lies in the runroot dies with a reboot: give it a directory of its own")
        );
    }
    Ok((config, runroot))
}

/// A directory of the store that cannot be made or opened, and which flag names another.
fn no_place(path: &Path, flag: &str, error: sys::Error) -> Error {
    let refused = error.is_refused();
    let error = Error::system(OPERATION, path.display().to_string(), error);
    if !refused {
        return error;
    }
    error.with_hint(format!("become root, or name a directory of your own with {flag}"))
}

/// The driver of a root whose database is lost: the one that is named, or the one that has something there.
pub(crate) fn driver_without_database(options: &StoreOptions, root: &Dir) -> Result<Arc<dyn Driver>> {
    let registry = &options.registry;
    let (config, runroot) = prepared(options.config.clone(), registry)?;
    let config = &config;
    let bound = binding::bind(root, &runroot)?;
    let choice = Choice { config, registry, root, first: bound.first };
    let selected = choice.select(choice.present()?)?;
    selected.factory.open(&open_options(config, &*selected.factory)?).explain(OPERATION, "")
}

/// Has the driver of a store make its own record of its root again, where that is lost.
pub(crate) fn repair_driver_root(options: &StoreOptions, root: &Dir) -> Result<Option<Finding>> {
    const OPERATION: &str = "repair root";
    let registry = &options.registry;
    let (config, _) = prepared(options.config.clone(), registry)?;
    let choice = Choice { config: &config, registry, root, first: true };
    let held = match Database::open(root).and_then(|database| database.map_or(Ok(None), |db| db.driver())) {
        Ok(held) => held,
        // It is made again by the driver that has something there.
        Err(error) if error.kind() == Kind::Corrupt => None,
        Err(error) => return Err(error),
    };
    let name = match held.or_else(|| config.driver.value.clone()) {
        Some(name) => Some(name),
        None => choice.present()?.pop(),
    };
    // A driver that is not known, or of several, is what opening tells of. Nothing is probed: that needs the record.
    let Some(factory) = name.and_then(|name| registry.get(&name).ok()) else { return Ok(None) };
    let open = open_options(&config, &**factory)?;
    let repaired = factory.repair_root(&open).explain(OPERATION, open.root.display())?;
    Ok(repaired.map(|message| Finding {
        kind: "driver-root",
        name: factory.name().to_owned(),
        message,
        images: Vec::new(),
        repaired: true,
    }))
}

/// What the choice of a driver depends on.
struct Choice<'a> {
    config: &'a Config,
    registry: &'a Registry,
    root: &'a Dir,
    /// Nobody has opened it since the boot.
    first: bool,
}

struct Selected {
    factory: Arc<dyn DriverFactory>,
    reason: String,
    warning: Option<String>,
}

impl Choice<'_> {
    /// Refuses options that somebody gave by hand and no driver knows. With a named driver its own check says so.
    fn check_options(&self) -> Result<()> {
        let factories: Vec<_> = self.registry.factories().collect();
        let options = || factories.iter().flat_map(|factory| factory.options());
        for (key, setting) in &self.config.selected_options {
            let by_hand = matches!(setting.origin, Origin::Flag(_) | Origin::Environment(_));
            if self.config.driver.value.is_none() && by_hand && !options().any(|spec| spec.key == key) {
                let known: BTreeSet<_> = options().map(|spec| spec.key).collect();
                let known: Vec<_> = known.into_iter().collect();
                let message = format!("no driver has an option {key:?}");
                let error =
                    Error::new(Kind::InvalidInput, "read configuration", setting.origin.to_string(), message);
                return Err(error.with_hint(format!("known options: {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// Selects a driver for a root that holds something of these.
    fn select(&self, present: Vec<String>) -> Result<Selected> {
        let name = self.config.driver.value.clone();
        // A store that was opened since the last boot runs its driver here; probing again would try a mount at
        // every start of a program.
        if let [held] = present.as_slice()
            && name.as_ref().is_none_or(|name| name == held)
            && !self.first
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
fn other_file_system(root: &Dir, path: &Path) -> Result<Option<Dir>> {
    if !sys::fs::exists(path).explain(OPERATION, "")? {
        return Ok(None);
    }
    let dir = Dir::open(path).explain(OPERATION, "")?;
    let same =
        dir.stat_self().explain(OPERATION, "")?.device == root.stat_self().explain(OPERATION, "")?.device;
    Ok((!same).then_some(dir))
}
