//! What a configuration means to the drivers that a program has: other names are resolved, what counts for nothing
//! is said.
//!
//! A file may be newer than the program, or another program's: a driver or option in it that is not known is a
//! warning. A flag or variable was typed for this program: there it is an error.

use layerstore_driver::{DriverFactory, MountFlags, OptionKind, OptionSpec, Registry};

use super::suggest::nearest;
use super::{Config, Origin, Setting, SyncMode, foreign};
use crate::error::{Error, Kind, Result};

impl Config {
    /// Settles names and options against the drivers of `registry`.
    ///
    /// # Errors
    /// [`Kind::InvalidInput`] for a list of priorities with a name that nobody knows.
    pub(crate) fn settle(&mut self, registry: &Registry) -> Result<()> {
        let known: Vec<&str> = registry.factories().map(|factory| factory.name()).collect();
        if let Some(name) = &mut self.driver.value
            && let Ok(factory) = registry.get(name)
        {
            factory.name().clone_into(name);
        }
        self.settle_priority(registry, &known)?;
        for (driver, options) in std::mem::take(&mut self.options) {
            match registry.get(&driver) {
                Ok(factory) => {
                    let mut options: Vec<_> = options.into_iter().collect();
                    options.retain_mut(|option| {
                        self.reduce(factory.options(), option);
                        self.keeps(&**factory, option)
                    });
                    self.options.entry(factory.name().to_owned()).or_default().extend(options);
                }
                Err(_) => self.warn_of_driver(&driver, options.values().next(), &known),
            }
        }
        // An option for whichever driver is selected counts if one of those that may be selected has it.
        let named = self.driver.value.as_deref().and_then(|name| registry.get(name).ok());
        let candidates: Vec<_> = named.map_or_else(|| registry.factories().collect(), |one| vec![one]);
        for mut option in std::mem::take(&mut self.selected_options) {
            let has = candidates.iter().any(|factory| has(&***factory, &option.0));
            if has || !matches!(option.1.origin, Origin::File { .. }) {
                self.reduce(candidates.iter().flat_map(|factory| factory.options()), &mut option);
                self.selected_options.push(option);
            } else if !foreign::is_off_text(&option.1.value) {
                self.warn_of_option(&option, candidates.iter().flat_map(|factory| factory.options()));
            }
        }
        Ok(())
    }

    fn settle_priority(&mut self, registry: &Registry, known: &[&str]) -> Result<()> {
        let origin = self.driver_priority.origin.clone();
        let mut settled: Vec<String> = Vec::new();
        for name in std::mem::take(&mut self.driver_priority.value) {
            match registry.get(&name) {
                Ok(factory) if settled.iter().any(|other| other == factory.name()) => {}
                Ok(factory) => settled.push(factory.name().to_owned()),
                Err(_) if foreign::DRIVERS.contains(&name.as_str()) => {
                    self.warnings.push(format!(
                        "{origin}: driver_priority: this program has no driver {name:?}, it is passed over"
                    ));
                }
                Err(error) => {
                    let message = format!("driver_priority: {}", error.message());
                    let hint = match nearest(&name, known.iter().copied()) {
                        Some(nearest) => format!("did you mean {nearest:?}?"),
                        None => format!("known drivers: {}", known.join(", ")),
                    };
                    return Err(Error::new(
                        Kind::InvalidInput,
                        "read configuration",
                        origin.to_string(),
                        message,
                    )
                    .with_hint(hint));
                }
            }
        }
        self.driver_priority.value = settled;
        Ok(())
    }

    /// Whether an option of a driver's table goes to the driver. One of a file that it does not have is said and
    /// dropped.
    fn keeps(&mut self, factory: &dyn DriverFactory, option: &(String, Setting<String>)) -> bool {
        if has(factory, &option.0) || !matches!(option.1.origin, Origin::File { .. }) {
            return true;
        }
        // containers-storage has this one per driver.
        if option.0 == "sync"
            && let Some(mode) = match option.1.value.as_str() {
                "filesystem" => Some(SyncMode::Layer),
                "none" => Some(SyncMode::None),
                _ => None,
            }
        {
            if self.sync.origin == Origin::Default {
                self.sync = Setting::new(mode, option.1.origin.clone());
            }
            return false;
        }
        if !foreign::is_off_text(&option.1.value) {
            self.warn_of_option(option, factory.options());
        }
        false
    }

    /// Leaves of a file's mount flags those that are known here: podman's may set features of the overlay, too.
    fn reduce<'s>(
        &mut self,
        schema: impl IntoIterator<Item = &'s OptionSpec>,
        (key, setting): &mut (String, Setting<String>),
    ) {
        let mut specs = schema.into_iter().filter(|spec| spec.key == *key);
        let by_hand = !matches!(setting.origin, Origin::File { .. });
        if by_hand || !specs.any(|spec| spec.kind == OptionKind::MountFlags) {
            return;
        }
        let words = setting.value.split(',').map(str::trim).filter(|word| !word.is_empty());
        let (known, others): (Vec<_>, Vec<_>) = words.partition(|word| MountFlags::default().apply(word));
        if !others.is_empty() {
            self.warnings.push(format!(
                "{}: {key}: {} is ignored: the driver chooses how its mounts work",
                setting.origin,
                others.join(",")
            ));
        }
        setting.value = known.join(",");
    }

    fn warn_of_option<'s>(
        &mut self,
        (key, setting): &(String, Setting<String>),
        known: impl IntoIterator<Item = &'s OptionSpec>,
    ) {
        let what = match foreign::option(key) {
            Some(reason) => format!("{key} is ignored: {reason}"),
            None => {
                let hint = nearest(key, known.into_iter().map(|spec| spec.key));
                let hint = hint.map(|near| format!(", did you mean {near:?}?")).unwrap_or_default();
                format!("unknown driver option {key:?}{hint}")
            }
        };
        self.warnings.push(format!("{}: {what}", setting.origin));
    }

    fn warn_of_driver(&mut self, driver: &str, option: Option<&Setting<String>>, known: &[&str]) {
        let place = option.map(|setting| format!("{}: ", setting.origin)).unwrap_or_default();
        let what = if foreign::DRIVERS.contains(&driver) {
            if option.is_none_or(|setting| foreign::is_off_text(&setting.value)) {
                return;
            }
            format!("options for {driver} are ignored: this program has no such driver")
        } else {
            let hint = nearest(driver, known.iter().copied());
            let hint = hint.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default();
            format!("options for an unknown driver {driver:?}{hint}")
        };
        self.warnings.push(format!("{place}{what}"));
    }
}

fn has(factory: &dyn DriverFactory, key: &str) -> bool {
    factory.options().iter().any(|spec| spec.key == key)
}
