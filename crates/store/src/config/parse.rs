//! One configuration file: TOML with the line of every value.
//!
//! An unknown key is a warning, because a newer file must not stop an older program; a wrong value is an error,
//! because guessing what was meant could put a store in the wrong place. Both name file and line.

use std::path::{Path, PathBuf};

use layerstore_driver::Kind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;
use super::{Config, Origin, Setting, SyncMode};
use crate::error::{Error, Result};

const OPERATION: &str = "read configuration";
const KEYS: [&str; 6] = ["driver", "graphroot", "runroot", "driver_priority", "sync", "options"];

/// One file being read into a configuration.
pub(super) struct File<'a> {
    path: &'a Path,
    text: &'a str,
    /// The places of a rootless user's store never come from the system's file.
    roots: bool,
}

impl<'a> File<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, roots: bool) -> Self {
        Self { path, text, roots }
    }

    /// Takes everything that the file says into `config`.
    pub(super) fn read_into(&self, config: &mut Config) -> Result<()> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| self.line(span.start));
            self.wrong(line, error.message())
        })?;
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("storage", DeValue::Table(storage)) => self.storage(storage, config)?,
                ("storage", other) => return Err(self.kind(value, "storage", "a table", other)),
                (unknown, _) => self.unknown(config, key.span().start, unknown, ["storage"]),
            }
        }
        Ok(())
    }

    fn storage(&self, storage: &DeTable<'_>, config: &mut Config) -> Result<()> {
        for (key, value) in storage {
            let origin = self.origin(value);
            match key.get_ref().as_ref() {
                "driver" => {
                    let name = self.text_of(value, "driver")?;
                    config.driver = Setting::new((!name.is_empty()).then_some(name), origin);
                }
                "graphroot" => {
                    let root = self.absolute(value, "graphroot")?;
                    if self.roots {
                        config.graphroot = Setting::new(root, origin);
                    }
                }
                "runroot" => {
                    let root = self.absolute(value, "runroot")?;
                    if self.roots {
                        config.runroot = Setting::new(root, origin);
                    }
                }
                "driver_priority" => {
                    let DeValue::Array(names) = value.get_ref() else {
                        return Err(self.kind(value, "driver_priority", "a list of names", value.get_ref()));
                    };
                    let names = names.iter().map(|name| self.text_of(name, "driver_priority"));
                    config.driver_priority = Setting::new(names.collect::<Result<_>>()?, origin);
                }
                "sync" => {
                    let word = self.text_of(value, "sync")?;
                    let mode = match word.as_str() {
                        "layer" => SyncMode::Layer,
                        "none" => SyncMode::None,
                        _ => {
                            let line = self.line(value.span().start);
                            return Err(
                                self.wrong(line, format!("sync is {word:?}, not \"layer\" or \"none\""))
                            );
                        }
                    };
                    config.sync = Setting::new(mode, origin);
                }
                "options" => self.options(value, config)?,
                unknown => self.unknown(config, key.span().start, unknown, KEYS),
            }
        }
        Ok(())
    }

    /// `[storage.options.DRIVER]`: the keys are checked by the driver's own schema when it is opened.
    fn options(&self, value: &Spanned<DeValue<'_>>, config: &mut Config) -> Result<()> {
        let DeValue::Table(drivers) = value.get_ref() else {
            return Err(self.kind(value, "options", "a table of tables", value.get_ref()));
        };
        for (driver, table) in drivers {
            let DeValue::Table(options) = table.get_ref() else {
                let line = self.line(driver.span().start);
                let message = format!("option {:?} belongs to no driver", driver.get_ref());
                return Err(self
                    .wrong(line, message)
                    .with_hint("options stand in a driver's table, such as [storage.options.overlay2]"));
            };
            let known = config.options.entry(driver.get_ref().to_string()).or_default();
            for (key, value) in options {
                let text = match value.get_ref() {
                    DeValue::String(text) => text.to_string(),
                    DeValue::Integer(number) => number.to_string(),
                    DeValue::Boolean(truth) => truth.to_string(),
                    other => return Err(self.kind(value, key.get_ref(), "a word, number or truth", other)),
                };
                known.insert(key.get_ref().to_string(), Setting::new(text, self.origin(value)));
            }
        }
        Ok(())
    }

    fn text_of(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(self.kind(value, key, "a string", other)),
        }
    }

    fn absolute(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<PathBuf> {
        let path = PathBuf::from(self.text_of(value, key)?);
        if path.is_absolute() {
            return Ok(path);
        }
        let line = self.line(value.span().start);
        Err(self.wrong(line, format!("{key} is {path:?}, not an absolute path")))
    }

    fn unknown<'k>(
        &self,
        config: &mut Config,
        at: usize,
        key: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let place = format!("{}:{}", self.path.display(), self.line(at));
        let hint = match nearest(key, known) {
            Some(nearest) => format!(", did you mean {nearest:?}?"),
            None => String::new(),
        };
        config.warnings.push(format!("{place}: unknown key {key:?}{hint}"));
    }

    fn origin(&self, value: &Spanned<DeValue<'_>>) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.line(value.span().start) }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
    }

    fn kind(&self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str, found: &DeValue<'_>) -> Error {
        let line = self.line(value.span().start);
        self.wrong(
            line,
            format!("{key} is {} {}, not {expected}", article(found.type_str()), found.type_str()),
        )
    }

    fn wrong(&self, line: usize, message: impl Into<String>) -> Error {
        Error::new(Kind::InvalidInput, OPERATION, format!("{}:{line}", self.path.display()), message)
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
