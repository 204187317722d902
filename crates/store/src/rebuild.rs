//! Making a lost or damaged database again from the records beside the data.
//!
//! The old files are kept under another name, nothing is removed. A layer comes back when its record, its parent and
//! the driver's layer are there; an image when its configuration is its own and all its layers came back. The rest
//! is told, stays on disk, and goes with `gc`. Invariant: nobody else has the store open meanwhile.

use std::collections::{BTreeMap, HashMap};

use layerstore_changeset::Digest;
use layerstore_driver::{LayerId, LayerInfo, LayerState as DriverState};
use layerstore_sys::{self as sys, Dir};
use rusqlite::Connection;

use crate::binding;
use crate::db::layers::{LayerOrigin, LayerRow};
use crate::db::{Database, Durability, containers, damage, images, layers, now};
use crate::error::{Error, Explain as _, ExplainOwn as _, Kind, MADE_AGAIN, Result};
use crate::files::Folders;
use crate::mirror::{self, ContainerRecord, ImageRecord, LayerRecord, NamesRecord};
use crate::model::{Container, Finding, LayerKind, LayerState, Rebuilt};
use crate::open;
use crate::store::{Store, StoreOptions};

const OPERATION: &str = "rebuild database";
/// The database and what SQLite keeps beside it.
const FILES: [&str; 3] = ["layerstore.db", "layerstore.db-wal", "layerstore.db-shm"];

impl Store {
    /// Has the driver make the record of its own root again where that is missing or torn, and says so: without it the
    /// store cannot be opened, nor its database be made again. To be called before [`Store::repair_database`].
    ///
    /// # Errors
    /// [`Unsupported`](crate::Kind::Unsupported) where only somebody else can say what was in it, with who.
    pub fn repair_root(options: &StoreOptions) -> Result<Option<Finding>> {
        let path = &options.config.graphroot.value;
        if !sys::fs::exists(path).explain(OPERATION, path.display())? {
            return Ok(None);
        }
        let root = Dir::open(path).explain(OPERATION, path.display())?;
        if !is_ours(&root)? {
            return Ok(None);
        }
        open::repair_driver_root(options, &root)
    }

    /// Makes the metadata database of a store again if it is lost or damaged, from the records that lie beside the
    /// data. None when it is sound. To be called while the store is not open in this process.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) when another program has the store open;
    /// [`Unsupported`](crate::Kind::Unsupported) for a store that a newer program made.
    pub fn repair_database(options: &StoreOptions) -> Result<Option<Rebuilt>> {
        let path = &options.config.graphroot.value;
        if !sys::fs::exists(path).explain(OPERATION, path.display())? {
            return Ok(None);
        }
        let root = Dir::open(path).explain(OPERATION, path.display())?;
        let Some(reason) = what_is_wrong(&root)? else { return Ok(None) };
        // Checked before and held from here on: what opens the driver takes the shared lock for a moment.
        drop(binding::alone(&root, OPERATION)?);
        let driver = open::driver_without_database(options, &root)?;
        let alone = binding::alone(&root, OPERATION)?;
        let mut rebuilt = Rebuilt { reason, ..Rebuilt::default() };
        let kept = format!("layerstore.db.damaged-{}", now());
        for name in FILES {
            let new = name.replacen("layerstore.db", &kept, 1);
            match root.rename(name.as_bytes(), &root, new.as_bytes()) {
                Ok(()) => rebuilt.kept_as = Some(root.path().join(&kept)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error).explain(OPERATION, name),
            }
        }
        let folders = Folders::open(&root).explain_own(OPERATION, path.display())?;
        let infos = driver.layers().explain(OPERATION, "")?;
        let infos = infos.into_iter().map(|info| (info.id.clone(), info)).collect();
        let mut found = Found { infos, rows: HashMap::new(), containers: Vec::new(), left_out: Vec::new() };
        found.layers(&folders)?;
        found.containers(&folders)?;
        found.only_whole_chains();
        // Written beside, so that a crash leaves no half-filled database in the place of a lost one.
        let fresh = tempfile_name();
        root.make_dir(fresh.as_bytes(), 0o700).explain(OPERATION, &fresh)?;
        let beside = root.open_dir(fresh.as_bytes()).explain(OPERATION, &fresh)?;
        let database = Database::create(&beside, driver.name())?;
        database.write(OPERATION, Durability::Full, |transaction| {
            found.fill(transaction, &folders, &mut rebuilt)
        })?;
        database.close()?;
        beside.rename(b"layerstore.db", &root, b"layerstore.db").explain(OPERATION, "layerstore.db")?;
        root.sync().explain(OPERATION, path.display())?;
        sys::remove::tree(&root, fresh.as_bytes()).explain(OPERATION, &fresh)?;
        drop(alone);
        rebuilt.left_out = found.left_out;
        Ok(Some(rebuilt))
    }
}

fn tempfile_name() -> String {
    format!("rebuild-{}", now())
}

/// Why the database has to be made again; none when it is sound, or there is no store yet.
fn what_is_wrong(root: &Dir) -> Result<Option<String>> {
    for name in &FILES[1..] {
        let stat = root.try_stat(name.as_bytes()).explain(OPERATION, name)?;
        if stat.is_some_and(|stat| stat.kind != sys::FileType::Regular) {
            return Ok(Some(format!("{name} is not a file")));
        }
    }
    match Database::open(root) {
        Ok(Some(database)) => {
            let lines = database.read(OPERATION, |connection| {
                connection
                    .prepare("PRAGMA integrity_check(1)")
                    .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                    .explain(OPERATION, "")
            });
            let wrong = lines.and_then(|lines| {
                let wrong = Vec::<String>::into_iter(lines).find(|line| line != "ok");
                if wrong.is_none() {
                    database.read(OPERATION, read_every_row)?;
                }
                Ok(wrong)
            });
            match wrong {
                Ok(wrong) => Ok(wrong),
                Err(error) if error.kind() == Kind::Corrupt => Ok(Some(error.message().to_owned())),
                Err(error) => Err(error),
            }
        }
        Ok(None) => Ok(has_records(root)?.then(|| "it is missing".to_owned())),
        Err(error) if error.kind() == Kind::Corrupt => Ok(Some(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

/// Reads every value that is parsed: one that is not what it should be fails all that comes across it.
fn read_every_row(connection: &Connection) -> Result<()> {
    layers::all(connection)?;
    images::all(connection)?;
    images::all_names(connection)?;
    images::all_links(connection)?;
    containers::all(connection).map(drop)
}

/// Whether a root is a store's: it has a database, had one, or is being made one.
pub(crate) fn is_ours(root: &Dir) -> Result<bool> {
    let there = |name: &str| Ok(root.try_stat(name.as_bytes()).explain(OPERATION, name)?.is_some());
    Ok(there("layerstore.db")? || there("store.lock")?)
}

/// Whether records lie in a root: then it is not a new one.
pub(crate) fn has_records(root: &Dir) -> Result<bool> {
    for (folder, suffix) in [("images", ""), ("containers", ".json"), ("records", ".json")] {
        match root.open_dir(folder.as_bytes()).and_then(|folder| folder.entries()) {
            Ok(entries) if entries.iter().any(|entry| entry.name.ends_with(suffix.as_bytes())) => {
                return Ok(true);
            }
            Err(error) if !error.is_not_found() => return Err(error).explain_own(OPERATION, folder),
            _ => {}
        }
    }
    Ok(false)
}

/// The error of a root whose database is gone.
pub(crate) fn lost(root: &Dir) -> Error {
    let message = "the database is missing, but records of images and layers are there";
    Error::new(Kind::Corrupt, "open store", root.path().display().to_string(), message).with_hint(MADE_AGAIN)
}

/// The names of the records in a folder, without those that somebody is just writing.
pub(crate) fn record_names(folder: &Dir) -> Result<impl Iterator<Item = String>> {
    let entries = folder.entries().explain(OPERATION, folder.path().display())?;
    let names = entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap_or_default());
    Ok(names.filter(|name| !name.starts_with('.') && name.ends_with(".json")))
}

/// What the records give.
struct Found {
    infos: HashMap<LayerId, LayerInfo>,
    rows: HashMap<LayerId, LayerRow>,
    containers: Vec<Container>,
    left_out: Vec<String>,
}

impl Found {
    fn layers(&mut self, folders: &Folders) -> Result<()> {
        for name in record_names(&folders.records)? {
            let Some(record) = mirror::read::<LayerRecord>(&folders.records, &name) else {
                self.left_out.push(format!("the record {name} cannot be read"));
                continue;
            };
            let Some(info) = self.infos.get(&record.id) else {
                self.left_out.push(format!("layer {}: the driver does not have it", record.id));
                continue;
            };
            let row = record.into_row(info.state == DriverState::Sealed);
            if row.origin == LayerOrigin::Image && row.layer.kind != LayerKind::Committed {
                self.left_out.push(format!("layer {}: it was not finished", row.layer.id));
                continue;
            }
            self.rows.insert(row.layer.id.clone(), row);
        }
        // One layer has a chain ID; which one does not matter, they give the same view.
        let mut taken: BTreeMap<Digest, LayerId> = BTreeMap::new();
        for row in self.rows.values_mut() {
            if let Some(chain_id) = row.layer.chain_id
                && *taken.entry(chain_id).or_insert_with(|| row.layer.id.clone()) != row.layer.id
            {
                row.layer.chain_id = None;
            }
        }
        Ok(())
    }

    fn containers(&mut self, folders: &Folders) -> Result<()> {
        for name in record_names(&folders.containers)? {
            let Some(record) = mirror::read::<ContainerRecord>(&folders.containers, &name) else {
                self.left_out.push(format!("the record of a container {name} cannot be read"));
                continue;
            };
            let parent = record.parent.clone();
            let container = record.into_container();
            if !self.infos.contains_key(&container.layer) {
                self.left_out.push(format!("container {}: the driver does not have its layer", container.id));
                continue;
            }
            self.rows.insert(container.layer.clone(), layer_of(&container, parent));
            self.containers.push(container);
        }
        Ok(())
    }

    /// Leaves out what stands on something that is not there.
    fn only_whole_chains(&mut self) {
        loop {
            let orphans: Vec<LayerId> = self
                .rows
                .values()
                .filter(|row| row.layer.parent.as_ref().is_some_and(|parent| !self.rows.contains_key(parent)))
                .map(|row| row.layer.id.clone())
                .collect();
            if orphans.is_empty() {
                return;
            }
            for id in orphans {
                self.rows.remove(&id);
                self.left_out.push(format!("layer {id}: a layer below it is missing"));
            }
        }
    }

    fn fill(&mut self, transaction: &Connection, folders: &Folders, rebuilt: &mut Rebuilt) -> Result<()> {
        transaction.pragma_update(None, "defer_foreign_keys", true).explain(OPERATION, "")?;
        for row in self.rows.values() {
            damage::restore(transaction, row)?;
            rebuilt.layers += 1;
        }
        let mut names = std::collections::HashSet::new();
        for container in &mut self.containers {
            if !self.rows.contains_key(&container.layer) {
                self.left_out.push(format!("container {}: a layer below it is missing", container.id));
                continue;
            }
            container.name = container.name.take().filter(|name| names.insert(name.clone()));
            containers::insert(transaction, container).explain(OPERATION, "")?;
            rebuilt.containers += 1;
        }
        for entry in folders.images.entries().explain(OPERATION, "images")? {
            let hex = String::from_utf8(entry.name).unwrap_or_default();
            match self.image(transaction, folders, &hex) {
                Ok(count) => {
                    rebuilt.images += 1;
                    rebuilt.names += count;
                }
                Err(why) => self.left_out.push(format!("image {hex}: {why}")),
            }
        }
        Ok(())
    }

    /// Adds an image; returns how many names it has, or why it cannot be.
    fn image(&self, transaction: &Connection, folders: &Folders, hex: &str) -> Result<u64, String> {
        let said = |error: Error| error.message().to_owned();
        let folder = folders.images.open_dir(hex.as_bytes()).map_err(|error| error.to_string())?;
        let record = mirror::read::<ImageRecord>(&folder, "image.json").ok_or("its record cannot be read")?;
        let config = folder
            .open_file(b"config.json")
            .and_then(|mut file| file.read_to_end_limited(layerstore_image::MAX_DOCUMENT))
            .map_err(|error| error.to_string())?;
        if Digest::of(&config) != record.id || record.id.hex() != hex {
            return Err("its configuration is not its own".to_owned());
        }
        if let Some(missing) = record.layers.iter().find(|id| !self.rows.contains_key(id)) {
            return Err(format!("its layer {missing} is missing; pull it again"));
        }
        images::insert(transaction, &record.row(), &record.layers).map_err(said)?;
        let mut count = 0;
        for name in
            mirror::read::<NamesRecord>(&folder, "names.json").into_iter().flat_map(|record| record.names)
        {
            if let Ok(name) = name.parse() {
                images::set_name(transaction, &name, &record.id).map_err(said)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// The row of a container's layer.
pub(crate) fn layer_of(container: &Container, parent: Option<LayerId>) -> LayerRow {
    LayerRow {
        layer: crate::model::Layer {
            id: container.layer.clone(),
            parent,
            chain_id: None,
            diff_id: None,
            state: LayerState::Ready,
            kind: LayerKind::Active,
            labels: BTreeMap::new(),
            created: container.created,
            updated: container.created,
            size: None,
            disk_bytes: None,
            inodes: None,
            tar_size: None,
            blob_digest: None,
            blob_size: None,
            media_type: None,
        },
        session: None,
        origin: LayerOrigin::Container,
        kept: None,
        sync: "none".to_owned(),
    }
}
