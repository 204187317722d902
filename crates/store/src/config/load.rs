//! Reading every source of configuration, in order.

use std::path::{Path, PathBuf};

use layerstore_driver::Kind;
use layerstore_sys as sys;

use super::parse::File;
use super::suggest::nearest;
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
            Some(path) => {
                if !config.read_file(path, true)? {
                    let message = "there is no such file";
                    return Err(Error::new(Kind::NotFound, OPERATION, path.display().to_string(), message));
                }
            }
            None => {
                if let Some(path) = &environment.system_config {
                    config.read_file(path, environment.uid == 0)?;
                }
                if let Some(path) = environment.user_config() {
                    config.read_file(&path, true)?;
                }
            }
        }
        config.take_environment(environment)?;
        config.take_flags(overrides)?;
        Ok(config)
    }

    /// Reads one file if it is there.
    fn read_file(&mut self, path: &Path, roots: bool) -> Result<bool> {
        let text = match sys::fs::read_to_string(path, LARGEST_FILE) {
            Ok(text) => text,
            Err(error) if matches!(error.errno(), sys::Errno::NOENT | sys::Errno::NOTDIR) => {
                return Ok(false);
            }
            Err(error) => return Err(error).explain(OPERATION, path.display()),
        };
        File::new(path, &text, roots).read_into(self)?;
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
            let origin = Origin::Flag("--driver-opt");
            let Some((key, value)) = option.split_once('=') else {
                let message = "a driver option is given as KEY=VALUE or DRIVER.KEY=VALUE";
                return Err(Error::new(
                    Kind::InvalidInput,
                    OPERATION,
                    format!("--driver-opt {option}"),
                    message,
                ));
            };
            let setting = Setting::new(value.to_owned(), origin);
            match key.split_once('.') {
                Some((driver, key)) => {
                    self.options.entry(driver.to_owned()).or_default().insert(key.to_owned(), setting);
                }
                None => self.selected_options.push((key.to_owned(), setting)),
            }
        }
        Ok(())
    }

    /// Warns of options for drivers that the program does not know.
    pub(crate) fn warn_of_unknown_drivers(&mut self, known: &[&str]) {
        for (driver, options) in &self.options {
            if known.contains(&driver.as_str()) {
                continue;
            }
            let place = options.values().next().map(|setting| format!("{}: ", setting.origin));
            let hint = nearest(driver, known.iter().copied()).map(|name| format!(", did you mean {name:?}?"));
            self.warnings.push(format!(
                "{}options for an unknown driver {driver:?}{}",
                place.unwrap_or_default(),
                hint.unwrap_or_default()
            ));
        }
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
