//! Where configuration files are looked for: the places of containers-storage.conf(5), below `layerstore/`.
//!
//! ```text
//! the file, the first that is there      $XDG_CONFIG_HOME/layerstore/storage.conf
//!                                        /etc/layerstore/storage.conf
//!                                        /usr/share/layerstore/storage.conf
//! drop-ins over it, by name, a later     {/usr/share,/etc}/layerstore/storage.conf.d/*.conf
//! directory's replaces the same name     …/storage.rootful.conf.d/*.conf           (root)
//!                                        …/storage.rootless.conf.d[/UID]/*.conf    (everybody else)
//!                                        $XDG_CONFIG_HOME/layerstore/storage.conf.d/*.conf
//! and over these                         the file that LAYERSTORE_CONFIG_OVERRIDE names
//! ```
//!
//! `storage.toml` and `*.toml` may stand for `storage.conf` and `*.conf`. A file that `--config` or
//! `LAYERSTORE_CONFIG` names stands for all of them, but not for `LAYERSTORE_CONFIG_OVERRIDE`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use layerstore_sys as sys;

use super::Environment;
use crate::error::{Error, Explain as _, Kind, Result};

const OPERATION: &str = "read configuration";
const NAMES: [&str; 2] = ["storage.conf", "storage.toml"];

/// A file to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Whether it belongs to the system: then it does not say where a rootless user's store lies.
    pub(super) system: bool,
}

/// Every file that is there, in the order in which they are read.
pub(super) fn files(environment: &Environment) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let user = environment.user_dir();
    let mains = user.iter().map(|dir| (dir, false));
    for (dir, system) in mains.chain(environment.system_dirs.iter().map(|dir| (dir, true))) {
        if let Some(path) = main(dir)? {
            found.push(Found { path, system });
            break;
        }
    }
    let mut drop_ins: BTreeMap<OsString, Found> = BTreeMap::new();
    let mut add = |dir: PathBuf, system: bool| -> Result<()> {
        for name in listed(&dir)? {
            drop_ins.insert(name.clone(), Found { path: dir.join(name), system });
        }
        Ok(())
    };
    // The weakest directory first: what comes later replaces it.
    for dir in environment.system_dirs.iter().rev() {
        add(dir.join("storage.conf.d"), true)?;
        if environment.uid == 0 {
            add(dir.join("storage.rootful.conf.d"), true)?;
        } else {
            let rootless = dir.join("storage.rootless.conf.d");
            add(rootless.clone(), true)?;
            add(rootless.join(environment.uid.to_string()), true)?;
        }
    }
    if let Some(dir) = user {
        add(dir.join("storage.conf.d"), false)?;
    }
    found.extend(drop_ins.into_values());
    Ok(found)
}

/// The main file of a directory.
fn main(dir: &Path) -> Result<Option<PathBuf>> {
    let mut present = Vec::new();
    for name in NAMES {
        let path = dir.join(name);
        match sys::fs::exists(&path) {
            Ok(true) => present.push(path),
            Ok(false) => {}
            // What lies below a file, or in a directory that a user may not look into, is not there for him.
            Err(error) if matches!(error.errno(), sys::Errno::NOTDIR | sys::Errno::ACCESS) => {}
            Err(error) => return Err(error).explain(OPERATION, path.display()),
        }
    }
    match present.as_slice() {
        [_, other] => {
            let message = format!("{} is there too, and only one of them can count", other.display());
            let place = dir.join(NAMES[0]).display().to_string();
            Err(Error::new(Kind::InvalidInput, OPERATION, place, message).with_hint("merge and remove one"))
        }
        _ => Ok(present.pop()),
    }
}

/// The names of a drop-in directory that end as configuration files do.
fn listed(dir: &Path) -> Result<Vec<OsString>> {
    let entries = match sys::Dir::open(dir).and_then(|dir| dir.entries()) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.errno(), sys::Errno::NOENT | sys::Errno::NOTDIR | sys::Errno::ACCESS) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).explain(OPERATION, dir.display()),
    };
    let names = entries.into_iter().map(|entry| std::ffi::OsStr::from_bytes(&entry.name).to_owned());
    Ok(names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "conf" || e == "toml")).collect())
}
