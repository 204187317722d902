//! Rows of images and their names.

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use layerstore_image::ImageName;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::layers::{parsed, signed, unsigned};
use super::{removed, untagged};
use crate::error::{Explain as _, Result};

const OPERATION: &str = "read images";
const COLUMNS: &str = "id, parent, created, stored, size, manifest_digest";

/// An image, as its row says.
#[derive(Debug, Clone)]
pub(crate) struct ImageRow {
    /// Digest of the configuration.
    pub(crate) id: Digest,
    /// The image that it was committed from; may be gone.
    pub(crate) parent: Option<Digest>,
    /// When it was built.
    pub(crate) created: Option<String>,
    /// When it came into the store.
    pub(crate) stored: i64,
    /// Bytes of file data in all its layers.
    pub(crate) size: u64,
    /// Digest of the manifest that it came with.
    pub(crate) manifest_digest: Option<Digest>,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: parsed(row, 0)?.ok_or(rusqlite::Error::InvalidQuery)?,
        parent: parsed(row, 1)?,
        created: row.get(2)?,
        stored: row.get(3)?,
        size: unsigned(row, 4)?.unwrap_or(0),
        manifest_digest: parsed(row, 5)?,
    })
}

fn many(connection: &Connection, rest: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<ImageRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM images {rest}"))
        .and_then(|mut statement| statement.query_map(values, from_row)?.collect())
        .explain(OPERATION, "")
}

/// The image with this ID.
pub(crate) fn get(connection: &Connection, id: &Digest) -> Result<Option<ImageRow>> {
    Ok(many(connection, "WHERE id = ?", &[&id.to_string()])?.pop())
}

/// Every image, the newest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<ImageRow>> {
    many(connection, "ORDER BY stored DESC, id", &[])
}

/// Images whose ID begins with these hexadecimal digits, at most `limit`.
pub(crate) fn with_prefix(connection: &Connection, hex: &str, limit: u32) -> Result<Vec<ImageRow>> {
    let prefix = format!("sha256:{hex}");
    let end = super::prefix_end(&prefix);
    many(connection, "WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", &[&prefix, &end, &limit])
}

/// Images that were committed from this one.
pub(crate) fn children(connection: &Connection, id: &Digest) -> Result<Vec<ImageRow>> {
    many(connection, "WHERE parent = ?", &[&id.to_string()])
}

/// Images that use a layer.
pub(crate) fn of_layer(connection: &Connection, layer: &LayerId) -> Result<Vec<Digest>> {
    connection
        .prepare_cached("SELECT image FROM image_layers WHERE layer = ? ORDER BY image")
        .and_then(|mut statement| {
            let rows = statement.query_map([layer.as_str()], |row| parsed(row, 0))?;
            rows.filter_map(Result::transpose).collect()
        })
        .explain(OPERATION, "")
}

/// Every image with a layer of it.
pub(crate) fn all_links(connection: &Connection) -> Result<Vec<(Option<Digest>, Option<LayerId>)>> {
    connection
        .prepare("SELECT image, layer FROM image_layers")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((parsed(row, 0)?, parsed(row, 1)?)))?.collect()
        })
        .explain(OPERATION, "")
}

/// Adds an image over these layers, unless it is there.
pub(crate) fn insert(connection: &Connection, image: &ImageRow, layers: &[LayerId]) -> Result<()> {
    const OPERATION: &str = "add image";
    let added = connection
        .execute(
            "INSERT OR IGNORE INTO images (id, parent, created, stored, size, manifest_digest) \
             VALUES (?, ?, ?, ?, ?, ?)",
            params![
                image.id.to_string(),
                image.parent.map(|id| id.to_string()),
                image.created,
                image.stored,
                signed(image.size),
                image.manifest_digest.map(|digest| digest.to_string()),
            ],
        )
        .explain(OPERATION, "")?;
    if added == 0 {
        return Ok(());
    }
    // What is there of one that has no row is what somebody left who deleted it by hand.
    connection
        .execute("DELETE FROM image_layers WHERE image = ?", [image.id.to_string()])
        .explain(OPERATION, "")?;
    link(connection, &image.id, layers)
}

/// Whether an image has any layers, whatever became of these.
pub(crate) fn has_layers(connection: &Connection, id: &Digest) -> Result<bool> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM image_layers WHERE image = ?)", [id.to_string()], |row| {
            row.get(0)
        })
        .explain(OPERATION, "")
}

/// Says which layers an image that has none is over.
pub(crate) fn link(connection: &Connection, id: &Digest, layers: &[LayerId]) -> Result<()> {
    const OPERATION: &str = "add image";
    let mut statement = connection
        .prepare_cached("INSERT INTO image_layers (image, position, layer) VALUES (?, ?, ?)")
        .explain(OPERATION, "")?;
    for (position, layer) in (0_i64..).zip(layers) {
        statement.execute(params![id.to_string(), position, layer.as_str()]).explain(OPERATION, "")?;
    }
    Ok(())
}

/// Forgets an image with its names.
pub(crate) fn delete(connection: &Connection, id: &Digest) -> Result<()> {
    removed::note(connection, &id.hex())?;
    untagged::note_all(connection, id)?;
    connection.execute("DELETE FROM images WHERE id = ?", [id.to_string()]).map(drop).explain("rmi", "")
}

/// The image that has this name.
pub(crate) fn named(connection: &Connection, name: &ImageName) -> Result<Option<Digest>> {
    let found = connection
        .prepare_cached("SELECT image FROM names WHERE name = ?")
        .and_then(|mut statement| statement.query_row([key(name)], |row| parsed(row, 0)).optional())
        .explain(OPERATION, "")?;
    Ok(found.flatten())
}

/// What the table calls a name. One with tag and digest is found by its digest, which alone says which image.
pub(crate) fn key(name: &ImageName) -> String {
    match name.digest() {
        Some(digest) => format!("{}@{digest}", name.repository()),
        None => name.to_string(),
    }
}

/// The names of an image, sorted.
pub(crate) fn names(connection: &Connection, id: &Digest) -> Result<Vec<ImageName>> {
    let texts: Vec<String> = connection
        .prepare_cached("SELECT name FROM names WHERE image = ? ORDER BY name")
        .and_then(|mut statement| statement.query_map([id.to_string()], |row| row.get(0))?.collect())
        .explain(OPERATION, "")?;
    // They were checked when they came in; one that another program wrote and that is none is left out.
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

/// The names of every image, sorted.
pub(crate) fn all_names(
    connection: &Connection,
) -> Result<std::collections::HashMap<Digest, Vec<ImageName>>> {
    let rows: Vec<(Option<Digest>, String)> = connection
        .prepare_cached("SELECT image, name FROM names ORDER BY name")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((parsed(row, 0)?, row.get(1)?)))?.collect()
        })
        .explain(OPERATION, "")?;
    let mut names: std::collections::HashMap<Digest, Vec<ImageName>> = std::collections::HashMap::new();
    for (image, name) in rows {
        if let (Some(image), Ok(name)) = (image, name.parse()) {
            names.entry(image).or_default().push(name);
        }
    }
    Ok(names)
}

/// What is in the place of names and is none.
pub(crate) fn no_names(connection: &Connection) -> Result<Vec<String>> {
    let texts: Vec<String> = connection
        .prepare_cached("SELECT name FROM names ORDER BY name")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .explain(OPERATION, "")?;
    Ok(texts.into_iter().filter(|text| text.parse::<ImageName>().is_err()).collect())
}

/// Gives an image a name; another image loses it.
pub(crate) fn set_name(connection: &Connection, name: &ImageName, image: &Digest) -> Result<()> {
    untagged::forget(connection, &key(name))?;
    connection
        .execute(
            "INSERT INTO names (name, repository, tag, digest, image) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (name) DO UPDATE SET image = ?5",
            params![
                key(name),
                name.repository(),
                name.tag().filter(|_| name.digest().is_none()),
                name.digest().map(ToString::to_string),
                image.to_string()
            ],
        )
        .map(drop)
        .explain("tag", name)
}

/// Takes a name away.
pub(crate) fn remove_name(connection: &Connection, name: &ImageName) -> Result<()> {
    untagged::note(connection, &key(name))?;
    connection.execute("DELETE FROM names WHERE name = ?", [key(name)]).map(drop).explain("untag", name)
}
