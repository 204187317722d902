//! Docker's `daemon.json`: the settings in it that say where and how layers are stored.
//!
//! | key | here |
//! |---|---|
//! | `storage-driver` | `driver` |
//! | `storage-opts` (`DRIVER.KEY=VALUE`) | options of that driver |
//! | `data-root`, of old `graph` | `graphroot` |
//! | `exec-root` | `runroot` |
//!
//! Everything else in the file is about other things. JSON keeps no places, so the line of a setting is that of the
//! first time its key is written.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, Origin, Setting};
use crate::error::{Error, Kind, Result};

const OPERATION: &str = "read configuration";

/// Whether a file is one of docker's.
pub(super) fn is_daemon_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Takes everything that the file says about storage into `config`.
pub(super) fn read_into(path: &Path, text: &str, config: &mut Config) -> Result<()> {
    let file = File { path, text };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let place = format!("{}:{}", path.display(), error.line().max(1));
        Error::new(Kind::InvalidInput, OPERATION, place, error.to_string())
    })?;
    let Value::Object(settings) = &value else {
        return Err(file.wrong("{", "the file is no JSON object"));
    };
    for (key, value) in settings {
        match key.as_str() {
            "storage-driver" => {
                let name = file.text_of(key, value)?;
                config.driver = Setting::new((!name.is_empty()).then(|| name.to_owned()), file.origin(key));
            }
            "storage-opts" => {
                let Value::Array(options) = value else {
                    return Err(file.wrong(key, "storage-opts is not a list of texts"));
                };
                for option in options {
                    file.option(key, file.text_of(key, option)?, config)?;
                }
            }
            "data-root" | "graph" => config.graphroot = file.directory(key, value)?,
            "exec-root" => config.runroot = file.directory(key, value)?,
            other if other.starts_with("storage-") => {
                let place = file.place(other);
                config.warnings.push(format!("{place}: unknown key {other:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    /// One of docker's options, `DRIVER.KEY=VALUE`; devicemapper's begin with `dm.`.
    fn option(&self, list: &str, option: &str, config: &mut Config) -> Result<()> {
        let Some((key, value)) = option.split_once('=') else {
            return Err(self.wrong(list, format!("option {option:?} is not DRIVER.KEY=VALUE")));
        };
        let setting = Setting::new(value.trim().to_owned(), self.origin(option));
        match key.trim().split_once('.') {
            Some((driver, key)) => {
                let driver = if driver == "dm" { "devicemapper" } else { driver };
                config.options.entry(driver.to_owned()).or_default().insert(key.to_owned(), setting);
            }
            None => config.selected_options.push((key.trim().to_owned(), setting)),
        }
        Ok(())
    }

    fn text_of<'v>(&self, key: &str, value: &'v Value) -> Result<&'v str> {
        value.as_str().ok_or_else(|| self.wrong(key, format!("{key} is {value}, not a text")))
    }

    fn directory(&self, key: &str, value: &Value) -> Result<Setting<PathBuf>> {
        let path = PathBuf::from(self.text_of(key, value)?);
        if !path.is_absolute() {
            return Err(self.wrong(key, format!("{key} is {path:?}, not an absolute path")));
        }
        Ok(Setting::new(path, self.origin(key)))
    }

    fn origin(&self, word: &str) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.line(word) }
    }

    fn place(&self, word: &str) -> String {
        self.origin(word).to_string()
    }

    fn line(&self, word: &str) -> usize {
        let quoted = Value::from(word).to_string();
        let at = self.text.find(&quoted).unwrap_or(0);
        1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count()
    }

    fn wrong(&self, word: &str, message: impl Into<String>) -> Error {
        Error::new(Kind::InvalidInput, OPERATION, self.place(word), message)
    }
}
