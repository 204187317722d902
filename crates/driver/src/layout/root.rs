//! A driver's root: its version, the names in it, and the records of its layers.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use layerstore_sys::{self as sys, Dir, FileType, lock};

use crate::driver::{LayerInfo, LayerState};
use crate::error::{Error, Kind, Result};
use crate::id::LayerId;

use super::again;
use super::operation::Operation;
use super::record::{self, RECORD, Record, SEALED, Sealed};
use super::root_record::{self, AGAIN, ROOT_RECORD, RootRecord};
use super::scratch::{self, Scratch};

/// Names in a root that the kit keeps for itself.
pub(super) const RESERVED: [&str; 4] = [ROOT_RECORD, "applying", "staging", "trash"];
/// The directory of markers in a layer's directory.
const CHILDREN: &[u8] = b"children";

/// What one driver's roots look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The driver's name.
    pub driver: &'static str,
    /// The version of the layout: what the driver keeps, and where.
    pub version: u32,
    /// Names in the root that the driver keeps for itself.
    pub reserved: &'static [&'static str],
}

/// An open root.
#[derive(Debug)]
pub struct Layout {
    format: Format,
    path: PathBuf,
    settings: BTreeMap<String, String>,
    root: Dir,
    pub(super) applying: Dir,
    pub(super) staging: Dir,
    pub(super) trash: Dir,
}

/// A layer that is there.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its directory.
    pub dir: Dir,
    /// Its record.
    pub record: Record,
    /// Its other record, once it is sealed.
    pub sealed: Option<Sealed>,
}

impl Layer {
    /// Whether it can still be written.
    pub fn state(&self) -> LayerState {
        if self.sealed.is_some() { LayerState::Sealed } else { LayerState::Writable }
    }

    /// What is known of it.
    pub(super) fn info(&self, half_applied: bool) -> LayerInfo {
        LayerInfo {
            id: self.record.id.clone(),
            parent: self.record.parent.clone(),
            state: self.state(),
            half_applied,
        }
    }
}

impl Layout {
    /// Opens a root, or makes it: a directory that is missing or empty becomes one. `settings` is what is settled
    /// at the first open and holds for ever after (the xattr namespace of the layers, say); see
    /// [`Layout::setting`].
    ///
    /// # Errors
    /// `InvalidInput` for a directory that holds something else or another driver's layers, `Unsupported` for
    /// another version, `Corrupt`, `System`.
    pub fn open(path: &Path, format: Format, settings: &[(&str, String)]) -> Result<Self> {
        let operation = Operation::new(format.driver, "open root");
        let system = |error| operation.system(error);
        sys::fs::make_dirs(path, 0o700).map_err(system)?;
        // Absolute, so that what plans say holds in every working directory.
        let path = sys::fs::canonical(path).map_err(system)?;
        let root = Dir::open(&path).map_err(system)?;
        let record = match root_record::read(&root, operation)? {
            Some(record) => record,
            None => initialise(&root, format, settings, operation)?,
        };
        if record.driver != format.driver {
            let message = format!("{} belongs to the driver {}", root.show(b""), record.driver);
            return Err(operation
                .error(Kind::InvalidInput, message)
                .with_hint(format!("use the driver {}, or another root", record.driver)));
        }
        if record.version != format.version {
            let message = format!(
                "{} has version {} of the {} layout, and this program knows version {} only",
                root.show(b""),
                record.version,
                format.driver,
                format.version
            );
            return Err(operation
                .error(Kind::Unsupported, message)
                .with_hint("use the program that wrote it, or a newer one"));
        }
        let ensure = |name: &str| root.ensure_dir(name.as_bytes(), 0o700).map_err(system);
        Ok(Self {
            format,
            settings: record.settings,
            applying: ensure("applying")?,
            staging: ensure("staging")?,
            trash: ensure("trash")?,
            path,
            root,
        })
    }

    /// What was settled when a root of this driver was made at `path`; none when there is none.
    ///
    /// # Errors
    /// `Corrupt`, `System`.
    pub fn settings_of(path: &Path, format: Format) -> Result<Option<BTreeMap<String, String>>> {
        let operation = Operation::new(format.driver, "open root");
        match Dir::open(path) {
            Ok(root) => {
                let record =
                    root_record::read(&root, operation)?.filter(|record| record.driver == format.driver);
                Ok(record.map(|record| record.settings))
            }
            Err(error) if matches!(error.errno(), sys::Errno::NOENT | sys::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(operation.system(error)),
        }
    }

    /// Something that was settled when the root was made.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// The root's path: absolute, without symlinks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root's directory.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The driver whose root this is.
    pub fn driver(&self) -> &'static str {
        self.format.driver
    }

    /// Where a layer's directory lies, whether it exists or not.
    pub fn layer_path(&self, id: &LayerId) -> PathBuf {
        self.path.join(self.name_of(id))
    }

    /// The name of a layer's directory: the id, or `_` and the id where that is a reserved name (no id begins
    /// with `_`).
    pub fn name_of(&self, id: &LayerId) -> String {
        let id = id.as_str();
        if self.is_reserved(id) { format!("_{id}") } else { id.to_owned() }
    }

    fn id_of(&self, name: &[u8]) -> Option<LayerId> {
        let name = std::str::from_utf8(name).ok()?;
        let id = match name.strip_prefix('_') {
            Some(id) if self.is_reserved(id) => id,
            None if !self.is_reserved(name) => name,
            _ => return None,
        };
        LayerId::new(id).ok()
    }

    fn is_reserved(&self, name: &str) -> bool {
        RESERVED.contains(&name) || self.format.reserved.contains(&name)
    }

    /// Whether a layer exists.
    ///
    /// # Errors
    /// `System`.
    pub fn exists(&self, id: &LayerId, operation: Operation<'_>) -> Result<bool> {
        let found = self.root.try_stat(self.name_of(id).as_bytes());
        Ok(found.map_err(|error| operation.on(id).system(error))?.is_some())
    }

    /// Opens a layer.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unsupported` for a record of another version, `System`.
    pub fn load(&self, id: &LayerId, operation: Operation<'_>) -> Result<Layer> {
        let operation = operation.on(id);
        loop {
            let dir = self.open_layer(id, operation)?.ok_or_else(|| operation.not_found())?;
            match Self::read(dir.clone(), id, operation) {
                // Who removes a layer frees it file by file, also under those who opened it before.
                Err(error)
                    if error.kind() == Kind::Corrupt
                        && !self.is_named(id, &dir).map_err(|error| operation.system(error))? => {}
                read => return read,
            }
        }
    }

    /// Whether a layer still has the directory that was opened as its own.
    fn is_named(&self, id: &LayerId, dir: &Dir) -> sys::Result<bool> {
        let here = self.root.try_stat(self.name_of(id).as_bytes())?;
        Ok(here.is_some_and(|here| dir.stat_self().is_ok_and(|dir| dir.same_inode(&here))))
    }

    fn read(dir: Dir, id: &LayerId, operation: Operation<'_>) -> Result<Layer> {
        let Some(record) = record::read::<Record>(&dir, RECORD, operation)? else {
            let message = format!("it has no record {}", dir.show(RECORD.as_bytes()));
            return Err(operation.error(Kind::Corrupt, message).with_hint("remove the layer"));
        };
        if record.id != *id {
            let message = format!("its record {} is that of {}", dir.show(RECORD.as_bytes()), record.id);
            return Err(operation.error(Kind::Corrupt, message));
        }
        let sealed = record::read(&dir, SEALED, operation)?;
        Ok(Layer { dir, record, sealed })
    }

    /// Takes away what lies in the place of a layer's directory and is none, a symlink, say; nothing is followed.
    pub(super) fn clear_no_layer(&self, id: &LayerId, operation: Operation<'_>) -> Result<()> {
        match self.root.unlink(self.name_of(id).as_bytes()) {
            Err(error) if !error.is_not_found() => Err(operation.on(id).system(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn open_layer(&self, id: &LayerId, operation: Operation<'_>) -> Result<Option<Dir>> {
        match self.root.open_dir(self.name_of(id).as_bytes()) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(operation.on(id).system(error)),
        }
    }

    /// The ids of every layer, in no order.
    ///
    /// # Errors
    /// `System`.
    pub fn ids(&self, operation: Operation<'_>) -> Result<Vec<LayerId>> {
        let entries = self.root.entries().map_err(|error| operation.system(error))?;
        let directories =
            entries.into_iter().filter(|entry| matches!(entry.kind, FileType::Directory | FileType::Unknown));
        Ok(directories.filter_map(|entry| self.id_of(&entry.name)).collect())
    }

    /// The records of a layer and its ancestors, from the layer down to its base. None is kept open: a chain may
    /// be longer than a process may have descriptors.
    ///
    /// # Errors
    /// `NotFound` for the layer; `Corrupt` when an ancestor is missing or the records form a circle.
    pub fn chain(&self, id: &LayerId, operation: Operation<'_>) -> Result<Vec<Record>> {
        let operation = operation.on(id);
        let mut chain = vec![self.load(id, operation)?.record];
        let mut seen = HashSet::from([id.clone()]);
        while let Some(parent) = chain.last().and_then(|record| record.parent.clone()) {
            if !seen.insert(parent.clone()) {
                let message = format!("its chain comes back to {parent}");
                return Err(operation.error(Kind::Corrupt, message));
            }
            match self.load(&parent, operation) {
                Ok(layer) => chain.push(layer.record),
                Err(error) if error.kind() == Kind::NotFound => {
                    return Err(operation.error(Kind::Corrupt, format!("its ancestor {parent} is missing")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(chain)
    }

    /// A child of the layer, if it has any.
    ///
    /// # Errors
    /// `System`.
    pub fn any_child(&self, id: &LayerId, dir: &Dir, operation: Operation<'_>) -> Result<Option<LayerId>> {
        for (name, child, token) in self.markers(dir, operation)? {
            if self.is_child(id, &child, &token, operation)? {
                return Ok(Some(child));
            }
            tracing::debug!(layer = %id, marker = %name, "ignored the marker of a child that does not exist");
        }
        Ok(None)
    }

    /// Whether the marker `CHILD+TOKEN` in `parent` stands for a layer. One whose record is damaged counts.
    pub(super) fn is_child(
        &self,
        parent: &LayerId,
        child: &LayerId,
        token: &str,
        operation: Operation<'_>,
    ) -> Result<bool> {
        match self.load(child, operation) {
            Ok(layer) => Ok(layer.record.token == token && layer.record.parent.as_ref() == Some(parent)),
            Err(error) => match error.kind() {
                Kind::NotFound => Ok(false),
                Kind::Corrupt | Kind::Unsupported => Ok(true),
                _ => Err(error),
            },
        }
    }

    /// The markers in a layer's directory: file name, child and token.
    pub(super) fn markers(
        &self,
        layer: &Dir,
        operation: Operation<'_>,
    ) -> Result<Vec<(String, LayerId, String)>> {
        let entries = match layer.open_dir(CHILDREN).and_then(|children| children.entries()) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(operation.system(error)),
        };
        let parse = |name: Vec<u8>| {
            let name = String::from_utf8(name).ok()?;
            let (child, token) = name.split_once('+')?;
            let (child, token) = (LayerId::new(child).ok()?, token.to_owned());
            Some((name, child, token))
        };
        Ok(entries.into_iter().filter_map(|entry| parse(entry.name)).collect())
    }
}

/// The marker of the layer `record` in its parent.
pub(super) fn marker_name(record: &Record) -> String {
    format!("{}+{}", record.id, record.token)
}

/// Writes the marker of a child; one that is there is left alone. Says whether it was missing.
pub(super) fn add_marker(parent: &Dir, record: &Record) -> sys::Result<bool> {
    match parent.ensure_dir(CHILDREN, 0o700)?.create_file(marker_name(record).as_bytes(), 0o600) {
        Ok(_) => Ok(true),
        Err(error) if error.is_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a marker; one that is not there is left alone.
pub(super) fn drop_marker(parent: &Dir, name: &str) -> sys::Result<()> {
    match parent.open_dir(CHILDREN).and_then(|children| children.unlink(name.as_bytes())) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Makes an empty directory a root: its record is the first thing in it.
fn initialise(
    root: &Dir,
    format: Format,
    settings: &[(&str, String)],
    operation: Operation<'_>,
) -> Result<RootRecord, Error> {
    let system = |error| operation.system(error);
    // Several processes may open a new root at once; one of them makes it.
    let _lock =
        lock::Lock::wait(root.open_file(b".").map_err(system)?, lock::Mode::Exclusive).map_err(system)?;
    if let Some(record) = root_record::read(root, operation)? {
        return Ok(record);
    }
    // Another process may be trying here what the file system can do.
    let probe = scratch::PREFIX.as_bytes();
    let foreign =
        |name: &[u8]| name != b"lost+found" && !name.starts_with(b".driver.json") && !name.starts_with(probe);
    if let Some(entry) = root.entries().map_err(system)?.iter().find(|entry| foreign(&entry.name)) {
        if again::is_ours(root, format, operation)? {
            let message = format!(
                "the record {} is missing, but what it belongs to is there",
                root.show(ROOT_RECORD.as_bytes())
            );
            return Err(operation.error(Kind::Corrupt, message).with_hint(AGAIN));
        }
        let message = format!(
            "{} is not a root of this program, and it is not empty: it holds {}",
            root.show(b""),
            entry.name.escape_ascii()
        );
        return Err(operation
            .error(Kind::InvalidInput, message)
            .with_hint("give an empty or missing directory"));
    }
    if root.stat_self().map_err(system)?.mode != 0o700 {
        root.set_mode_self(0o700).map_err(system)?;
    }
    let record = root_record::write(root, format, settings, operation)?;
    // From here on probes lie in `staging`: what one left that died is looked for now and never again.
    if let Err(error) = Scratch::sweep(root) {
        tracing::warn!(%error, "could not remove old scratch directories");
    }
    Ok(record)
}
