//! One configuration file: TOML with the line of every value.
//!
//! An unknown key is a warning, because a newer file must not stop an older program; a wrong value is an error,
//! because guessing what was meant could put a store in the wrong place. Both name file and line.

use std::path::{Path, PathBuf};

use layerstore_driver::Kind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;
use super::{Config, Environment, Origin, Setting, SyncMode, foreign};
use crate::error::{Error, Result};

const OPERATION: &str = "read configuration";
const KEYS: [&str; 8] = [
    "driver",
    "graphroot",
    "runroot",
    "rootless_storage_path",
    "driver_priority",
    "sync",
    "keep_blobs",
    "options",
];

/// One file being read into a configuration.
pub(super) struct File<'a> {
    path: &'a Path,
    text: &'a str,
    environment: &'a Environment,
    /// The places of a rootless user's store never come from the system's file.
    roots: bool,
}

impl<'a> File<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, environment: &'a Environment, roots: bool) -> Self {
        Self { path, text, environment, roots }
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
                "rootless_storage_path" => {
                    let root = self.absolute(value, "rootless_storage_path")?;
                    if self.environment.uid != 0 {
                        config.graphroot = Setting::new(root, origin);
                    }
                }
                "driver_priority" => {
                    let (mut names, append) = self.names(value, "driver_priority")?;
                    if append {
                        names.splice(0..0, config.driver_priority.value.drain(..));
                    }
                    config.driver_priority = Setting::new(names, origin);
                }
                "sync" => {
                    let word = self.text_of(value, "sync")?;
                    let mode = match word.as_str() {
                        "layer" => SyncMode::Layer,
                        "file" => SyncMode::File,
                        "none" => SyncMode::None,
                        _ => {
                            let line = self.line(value.span().start);
                            return Err(self.wrong(
                                line,
                                format!("sync is {word:?}, not \"layer\", \"file\" or \"none\""),
                            ));
                        }
                    };
                    config.sync = Setting::new(mode, origin);
                }
                "keep_blobs" => match value.get_ref() {
                    DeValue::Boolean(truth) => config.keep_blobs = Setting::new(*truth, origin),
                    other => return Err(self.kind(value, "keep_blobs", "true or false", other)),
                },
                "options" => self.options(value, config)?,
                other => match foreign::storage(other) {
                    Some(reason) => self.ignored(config, value, other, reason),
                    None => self.unknown(config, key.span().start, other, KEYS),
                },
            }
        }
        Ok(())
    }

    /// A list of names; with `{append = true}` among them it adds to what files before it said.
    fn names(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<(Vec<String>, bool)> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.kind(value, key, "a list of names", value.get_ref()));
        };
        let (mut names, mut append) = (Vec::new(), false);
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => match table.get("append").map(Spanned::get_ref) {
                    Some(DeValue::Boolean(truth)) if table.len() == 1 => append = *truth,
                    _ => {
                        let line = self.line(item.span().start);
                        return Err(
                            self.wrong(line, format!("{key} holds a table that is not {{append=true}}"))
                        );
                    }
                },
                _ => names.push(self.text_of(item, key)?),
            }
        }
        Ok((names, append))
    }

    /// `[storage.options]`: tables of drivers' options, and options for whichever driver is selected. The keys are
    /// checked once the drivers are known.
    fn options(&self, value: &Spanned<DeValue<'_>>, config: &mut Config) -> Result<()> {
        let DeValue::Table(tables) = value.get_ref() else {
            return Err(self.kind(value, "options", "a table of tables", value.get_ref()));
        };
        for (name, value) in tables {
            let key = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(_) if foreign::is_no_driver(key) => {
                    let reason =
                        foreign::option(key).unwrap_or("the driver devicemapper has options of its own");
                    self.ignored(config, value, key, reason);
                }
                DeValue::Table(options) => {
                    for (key, value) in options {
                        let setting = Setting::new(self.scalar(key.get_ref(), value)?, self.origin(value));
                        let table = config.options.entry(name.get_ref().to_string()).or_default();
                        table.insert(key.get_ref().to_string(), setting);
                    }
                    config.options.entry(name.get_ref().to_string()).or_default();
                }
                DeValue::Array(_) if foreign::option(key).is_some() => {
                    self.ignored(config, value, key, foreign::option(key).unwrap_or_default());
                }
                _ => {
                    let setting = Setting::new(self.scalar(key, value)?, self.origin(value));
                    config.selected_options.retain(|(other, _)| other != key);
                    config.selected_options.push((key.to_owned(), setting));
                }
            }
        }
        Ok(())
    }

    /// The value of a driver option as text.
    fn scalar(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Boolean(truth) => Ok(truth.to_string()),
            other => Err(self.kind(value, key, "a word, number or truth", other)),
        }
    }

    /// Says that a setting of another program counts for nothing, where it asks for something.
    fn ignored(&self, config: &mut Config, value: &Spanned<DeValue<'_>>, key: &str, reason: &str) {
        if !foreign::is_off(value.get_ref()) {
            config.warnings.push(format!("{}: {key} is ignored: {reason}", self.origin(value)));
        }
    }

    fn text_of(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(self.kind(value, key, "a string", other)),
        }
    }

    fn absolute(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<PathBuf> {
        let text = self.text_of(value, key)?;
        let line = self.line(value.span().start);
        let path = self.expand(&text).map_err(|variable| {
            let message = format!("{key} is {text:?}, and the variable {variable} is not set");
            self.wrong(line, message)
                .with_hint("known are $HOME, $UID, $XDG_CONFIG_HOME, $XDG_DATA_HOME and $XDG_RUNTIME_DIR")
        })?;
        let path = PathBuf::from(path);
        if path.is_absolute() {
            return Ok(path);
        }
        Err(self.wrong(line, format!("{key} is {text:?}, not an absolute path")))
    }

    /// Puts in the values of `$NAME` and `${NAME}`.
    ///
    /// # Errors
    /// The first variable that has no value.
    fn expand(&self, text: &str) -> std::result::Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let (name, left) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
                Some(braced) => braced,
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    after.split_at(end.unwrap_or(after.len()))
                }
            };
            expanded.push_str(&self.environment.variable(name).ok_or_else(|| format!("${name}"))?);
            rest = left;
        }
        expanded.push_str(rest);
        Ok(expanded)
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
