//! Rows of containers.

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::layers::{parsed, signed, unsigned};
use crate::error::{Explain as _, Result};
use crate::model::Container;

const OPERATION: &str = "read containers";
const COLUMNS: &str = "id, name, image, image_name, layer, created, size_limit, labels";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Container> {
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        image: parsed(row, 2)?.ok_or(rusqlite::Error::InvalidQuery)?,
        image_name: row.get(3)?,
        layer: parsed(row, 4)?.ok_or(rusqlite::Error::InvalidQuery)?,
        created: row.get(5)?,
        size_limit: unsigned(row, 6)?,
        labels: serde_json::from_str(&row.get::<_, String>(7)?).unwrap_or_default(),
        mounts: Vec::new(),
        mounted: false,
    })
}

fn many(connection: &Connection, rest: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Container>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM containers {rest}"))
        .and_then(|mut statement| statement.query_map(values, from_row)?.collect())
        .explain(OPERATION, "")
}

/// The container with this id or this name.
pub(crate) fn get(connection: &Connection, id_or_name: &str) -> Result<Option<Container>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM containers WHERE id = ?1 OR name = ?1 ORDER BY id <> ?1 LIMIT 1"
        ))
        .and_then(|mut statement| statement.query_row([id_or_name], from_row).optional())
        .explain(OPERATION, "")
}

/// Every container, the newest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Container>> {
    many(connection, "ORDER BY created DESC, id", &[])
}

/// How many containers there are of each image that has any.
pub(crate) fn per_image(connection: &Connection) -> Result<std::collections::HashMap<Digest, u64>> {
    let rows: Vec<(Option<Digest>, Option<u64>)> = connection
        .prepare_cached("SELECT image, count(*) FROM containers GROUP BY image")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((parsed(row, 0)?, unsigned(row, 1)?)))?.collect()
        })
        .explain(OPERATION, "")?;
    Ok(rows.into_iter().filter_map(|(image, count)| Some((image?, count?))).collect())
}

/// Containers made of an image, the oldest first.
pub(crate) fn of_image(connection: &Connection, image: &Digest) -> Result<Vec<Container>> {
    many(connection, "WHERE image = ? ORDER BY created, id", &[&image.to_string()])
}

/// The container whose own layer this is.
pub(crate) fn with_layer(connection: &Connection, layer: &LayerId) -> Result<Option<Container>> {
    Ok(many(connection, "WHERE layer = ?", &[&layer.as_str()])?.pop())
}

/// Whether a container was made of an image.
pub(crate) fn any_of_image(connection: &Connection, image: &Digest) -> Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM containers WHERE image = ?)")
        .and_then(|mut statement| statement.query_row([image.to_string()], |row| row.get(0)))
        .explain(OPERATION, "")
}

/// Containers whose id begins with `prefix`, at most `limit`.
pub(crate) fn with_prefix(connection: &Connection, prefix: &str, limit: u32) -> Result<Vec<Container>> {
    many(
        connection,
        "WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        &[&prefix, &super::prefix_end(prefix), &limit],
    )
}

/// Adds a container; its layer's row must be there.
pub(crate) fn insert(connection: &Connection, container: &Container) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO containers (id, name, image, image_name, layer, created, size_limit, labels) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            container.id,
            container.name,
            container.image.to_string(),
            container.image_name,
            container.layer.as_str(),
            container.created,
            container.size_limit.map(signed),
            serde_json::to_string(&container.labels).unwrap_or_else(|_| "{}".to_owned()),
        ])
        .map(drop)
}

/// Forgets a container.
pub(crate) fn delete(connection: &Connection, id: &str) -> Result<()> {
    connection.execute("DELETE FROM containers WHERE id = ?", [id]).map(drop).explain(OPERATION, "")
}
