//! Names that were taken away on purpose: tombstones, in the table `meta`.
//!
//! ```text
//! untagged:NAME  →  NANOSECONDS
//! ```
//!
//! A name that `names.json` has and no row is lost, unless somebody took it away: a process that dies right after the
//! transaction, or a power cut, leaves the record behind. It goes when all records are as the database says.

use std::collections::HashSet;

use layerstore_changeset::Digest;
use rusqlite::{Connection, params};

use crate::error::{Explain as _, Result};

const OPERATION: &str = "remember removal";
const PREFIX: &str = "untagged:";

/// Notes, in the transaction that takes it, that a name goes; `key` is what the table calls it.
pub(crate) fn note(connection: &Connection, key: &str) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")
        .and_then(|mut statement| {
            statement.execute(params![format!("{PREFIX}{key}"), super::now().to_string()])
        })
        .map(drop)
        .explain(OPERATION, key)
}

/// As [`note`], of all names of an image.
pub(crate) fn note_all(connection: &Connection, image: &Digest) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO meta (key, value) SELECT ?1 || name, ?2 FROM names WHERE image = ?3",
        )
        .and_then(|mut statement| {
            statement.execute(params![PREFIX, super::now().to_string(), image.to_string()])
        })
        .map(drop)
        .explain(OPERATION, "")
}

/// Notes that a name is there again.
pub(crate) fn forget(connection: &Connection, key: &str) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM meta WHERE key = ?")
        .and_then(|mut statement| statement.execute([format!("{PREFIX}{key}")]))
        .map(drop)
        .explain(OPERATION, key)
}

/// The names that were taken away.
pub(crate) fn all(connection: &Connection) -> Result<HashSet<String>> {
    let keys = super::meta_keys(connection, PREFIX).explain(OPERATION, "")?;
    Ok(keys.iter().filter_map(|key| key.strip_prefix(PREFIX)).map(ToOwned::to_owned).collect())
}

/// Whether anything was taken away until `time`.
pub(crate) fn any(connection: &Connection, time: i64) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM meta WHERE key >= ? AND key < ? AND CAST(value AS INTEGER) < ?)",
        )
        .and_then(|mut statement| {
            statement.query_row(params![PREFIX, super::prefix_end(PREFIX), time], |row| row.get(0))
        })
        .explain(OPERATION, "")
}

/// Forgets what was taken away until `time`.
pub(crate) fn clear(connection: &Connection, time: i64) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM meta WHERE key >= ? AND key < ? AND CAST(value AS INTEGER) < ?")
        .and_then(|mut statement| statement.execute(params![PREFIX, super::prefix_end(PREFIX), time]))
        .map(drop)
        .explain(OPERATION, "")
}
