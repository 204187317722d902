//! Names of images that no row has any more, though the images' own records have them.

use std::collections::{BTreeMap, HashMap, HashSet};

use layerstore_changeset::Digest;
use layerstore_image::ImageName;

use crate::db::images::key;
use crate::db::{Durability, images, now, sessions, untagged};
use crate::error::{Explain as _, Result};
use crate::mirror::{self, NamesRecord};
use crate::store::Store;

/// After this time every disk has been written to.
const A_DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// What the records of names say beside the database.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Names that nobody took away and no image has, with the images whose records have them.
    pub(crate) lost: BTreeMap<String, (ImageName, Vec<Digest>)>,
    /// Images whose records are not as the database says, which is right.
    behind: Vec<Digest>,
}

impl Store {
    /// Compares the records of names with the database.
    pub(crate) fn look_at_names(&self, operation: &'static str) -> Result<Names> {
        // Before the rows: who takes a name away writes the record after it.
        let mut said: HashMap<Digest, Vec<ImageName>> = HashMap::new();
        for entry in self.folders().images.entries().explain(operation, "images")? {
            let id = String::from_utf8(entry.name).ok().and_then(|hex| format!("sha256:{hex}").parse().ok());
            let Some(id) = id else { continue };
            let folder = self.folders().images.open_dir(Digest::hex(&id).as_bytes()).ok();
            let record = folder.and_then(|folder| mirror::read::<NamesRecord>(&folder, "names.json"));
            // One that is missing, or lies in something else, is told and written again elsewhere.
            let Some(record) = record else { continue };
            said.insert(id, record.names.iter().filter_map(|name| name.parse().ok()).collect());
        }
        self.database().read(operation, |connection| {
            let (rows, removed) = (images::all_names(connection)?, untagged::all(connection)?);
            let owner: HashMap<String, Digest> =
                rows.iter().flat_map(|(id, names)| names.iter().map(|name| (key(name), *id))).collect();
            let mut found = Names::default();
            for image in images::all(connection)? {
                let id = image.id;
                // Who brings it in writes down names that it does not have yet.
                let Some(names) = said.remove(&id) else { continue };
                if sessions::is_held(connection, &id.to_string())? {
                    continue;
                }
                let keys: HashSet<String> = names.iter().map(key).collect();
                let mut behind =
                    rows.get(&id).is_some_and(|names| names.iter().any(|name| !keys.contains(&key(name))));
                for name in names {
                    let key = key(&name);
                    if owner.get(&key) == Some(&id) {
                        continue;
                    }
                    if owner.contains_key(&key) || removed.contains(&key) {
                        behind = true;
                    } else {
                        found.lost.entry(key).or_insert_with(|| (name, Vec::new())).1.push(id);
                    }
                }
                if behind {
                    found.behind.push(id);
                }
            }
            // What they say is all there is of a name that is lost.
            let needed: HashSet<Digest> = found.lost.values().flat_map(|(_, of)| of).copied().collect();
            found.behind.retain(|id| !needed.contains(id));
            Ok(found)
        })
    }

    /// Gives these names back to their images. Says which.
    pub(crate) fn bring_names_back(&self, operation: &'static str, names: &Names) -> Result<HashSet<String>> {
        let back = self.database().write(operation, Durability::Full, |transaction| {
            let mut back = HashMap::new();
            let removed = untagged::all(transaction)?;
            for (key, (name, of)) in &names.lost {
                if let [image] = of.as_slice()
                    && images::named(transaction, name)?.is_none()
                    && !removed.contains(key)
                    && images::get(transaction, image)?.is_some()
                {
                    images::set_name(transaction, name, image)?;
                    back.insert(key.clone(), *image);
                }
            }
            Ok(back)
        })?;
        let images: HashSet<Digest> = back.values().copied().collect();
        self.follow_names(&images.into_iter().collect::<Vec<_>>());
        Ok(back.into_keys().collect())
    }

    /// Writes the records of names that are behind the database, and forgets which names were taken away: all until
    /// now where nothing is left of it on any disk, else those of a day ago.
    pub(crate) fn settle_names(&self, operation: &'static str, all: bool) -> Result<()> {
        let until = if all { now() } else { now().saturating_sub(A_DAY) };
        if !self.database().read(operation, |connection| untagged::any(connection, until))? {
            return Ok(());
        }
        self.write_names(&self.look_at_names(operation)?.behind)?;
        self.database()
            .write_freeing(operation, Durability::Relaxed, |transaction| untagged::clear(transaction, until))
    }

    /// Writes the records of names that are behind the database.
    pub(crate) fn write_names_behind(&self, names: &Names) -> Result<()> {
        self.write_names(&names.behind)
    }
}
