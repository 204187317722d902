//! Reading every source of configuration, in order.

use std::path::{Path, PathBuf};

use layerstore_driver::Kind;
use layerstore_sys as sys;

use super::daemon;
use super::parse::File;
use super::search::{self, Found};
use super::{Config, Environment, Origin, Overrides, Setting, SyncMode};
use crate::error::{Error, Explain as _, Result};

const OPERATION: &str = "read configuration";
/// A configuration file is a page or two; anything larger is a mistake.
const LARGEST_FILE: usize = 1 << 20;

impl Config {
    /// Built-in values only.
    pub fn defaults(environment: &Environment) -> Self {
        Self {
            driver: Setting::new(None, Origin::Default),
            graphroot: Setting::new(environment.default_root(), Origin::Default),
            runroot: Setting::new(environment.default_runroot(), Origin::Default),
            driver_priority: Setting::new(Vec::new(), Origin::Default),
            sync: Setting::new(SyncMode::default(), Origin::Default),
            keep_blobs: Setting::new(false, Origin::Default),
            options: std::collections::BTreeMap::new(),
            selected_options: Vec::new(),
            files: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A configuration for these two directories, everything else built in: for tests and small programs.
    pub fn at(graphroot: impl Into<PathBuf>, runroot: impl Into<PathBuf>) -> Self {
        let mut config = Self::defaults(&Environment::default());
        config.graphroot.value = graphroot.into();
        config.runroot.value = runroot.into();
        config
    }

    /// The same with a driver named.
    #[must_use]
    pub fn with_driver(mut self, driver: impl Into<String>) -> Self {
        self.driver.value = Some(driver.into());
        self
    }

    /// Reads every source, in order.
    ///
    /// # Errors
    /// [`Kind::InvalidInput`] for a file that cannot be read as configuration (with file and line) or a wrong
    /// flag; [`Kind::NotFound`] for a named file that is not there; [`Kind::System`].
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self> {
        let mut config = Self::defaults(environment);
        match overrides.config.as_ref().or(environment.config.as_ref()) {
            Some(path) => config.read_named(path, environment)?,
            None => {
                for Found { path, system } in search::files(environment)? {
                    config.read_file(&path, environment, !system || environment.uid == 0)?;
                }
            }
        }
        if let Some(path) = &environment.config_override {
            config.read_named(path, environment)?;
        }
        config.take_environment(environment)?;
        config.take_flags(overrides)?;
        Ok(config)
    }

    /// Reads a file that somebody named: it has to be there.
    fn read_named(&mut self, path: &Path, environment: &Environment) -> Result<()> {
        if self.read_file(path, environment, true)? {
            return Ok(());
        }
        Err(Error::new(Kind::NotFound, OPERATION, path.display().to_string(), "there is no such file"))
    }

    /// Reads one file if it is there. `roots`: whether it may say where the store lies.
    fn read_file(&mut self, path: &Path, environment: &Environment, roots: bool) -> Result<bool> {
        let text = match sys::fs::read_to_string(path, LARGEST_FILE) {
            Ok(text) => text,
            Err(error) if matches!(error.errno(), sys::Errno::NOENT | sys::Errno::NOTDIR) => {
                return Ok(false);
            }
            Err(error) => return Err(error).explain(OPERATION, path.display()),
        };
        if daemon::is_daemon_json(path) {
            daemon::read_into(path, &text, self)?;
        } else {
            File::new(path, &text, environment, roots).read_into(self)?;
        }
        self.files.push(path.to_owned());
        Ok(true)
    }

    fn take_environment(&mut self, environment: &Environment) -> Result<()> {
        if let Some(root) = &environment.root {
            self.graphroot = absolute(root, Origin::Environment("LAYERSTORE_ROOT"))?;
        }
        if let Some(runroot) = &environment.runroot {
            self.runroot = absolute(runroot, Origin::Environment("LAYERSTORE_RUNROOT"))?;
        }
        if let Some(driver) = &environment.driver {
            self.driver = Setting::new(Some(driver.clone()), Origin::Environment("LAYERSTORE_DRIVER"));
        }
        let options = environment.driver_options.as_deref().unwrap_or_default();
        for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            self.take_option(option, Origin::Environment("LAYERSTORE_DRIVER_OPTS"))?;
        }
        Ok(())
    }

    fn take_flags(&mut self, overrides: &Overrides) -> Result<()> {
        if let Some(root) = &overrides.root {
            self.graphroot = absolute(root, Origin::Flag("--root"))?;
        }
        if let Some(runroot) = &overrides.runroot {
            self.runroot = absolute(runroot, Origin::Flag("--runroot"))?;
        }
        if let Some(driver) = &overrides.driver {
            self.driver = Setting::new(Some(driver.clone()), Origin::Flag("--driver"));
        }
        for option in &overrides.driver_options {
            self.take_option(option, Origin::Flag("--driver-opt"))?;
        }
        Ok(())
    }

    /// One driver option as a flag or the environment gives it.
    fn take_option(&mut self, option: &str, origin: Origin) -> Result<()> {
        let Some((key, value)) = option.split_once('=') else {
            let message = "a driver option is given as KEY=VALUE or DRIVER.KEY=VALUE";
            return Err(Error::new(Kind::InvalidInput, OPERATION, format!("{origin} {option}"), message));
        };
        let setting = Setting::new(value.to_owned(), origin);
        match key.split_once('.') {
            Some((driver, key)) => {
                self.options.entry(driver.to_owned()).or_default().insert(key.to_owned(), setting);
            }
            None => self.selected_options.push((key.to_owned(), setting)),
        }
        Ok(())
    }
}

/// A directory from the environment or a flag; a relative one is taken from the working directory.
fn absolute(path: &Path, origin: Origin) -> Result<Setting<PathBuf>> {
    let absolute = if path.is_absolute() {
        path.to_owned()
    } else {
        sys::process::working_directory().explain(OPERATION, &origin)?.join(path)
    };
    Ok(Setting::new(absolute, origin))
}
