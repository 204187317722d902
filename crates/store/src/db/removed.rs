//! What was removed not long ago: tombstones, in the table `meta`.
//!
//! ```text
//! removed:NANOSECONDS:ID     a layer, or an image by the hexadecimal digits of its ID
//! ```
//!
//! A record beside the data that no row knows is a leftover if what it tells of was removed, and else the row is lost
//! ([`lost`](crate::lost)). A power cut may take back the removal of files and not that of the row, so what was removed
//! is remembered until the next boot, or for a day, by when every disk has been written to.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use crate::error::{Explain as _, Result};

const OPERATION: &str = "remember removal";
const PREFIX: &str = "removed:";
const A_DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

fn key(time: i64, id: &str) -> String {
    // As many digits for each, so that keys sort by time.
    format!("{PREFIX}{time:020}:{id}")
}

/// Notes, in the transaction that removes it, that a thing goes.
pub(crate) fn note(connection: &Connection, id: &str) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, '')")
        .and_then(|mut statement| statement.execute(params![key(super::now(), id)]))
        .map(drop)
        .explain(OPERATION, id)
}

/// The ids of what was removed not long ago.
pub(crate) fn all(connection: &Connection) -> Result<HashSet<String>> {
    let keys = super::meta_keys(connection, PREFIX).explain(OPERATION, "")?;
    Ok(keys.iter().filter_map(|key| key.rsplit(':').next()).map(ToOwned::to_owned).collect())
}

/// Forgets what was removed a day ago.
pub(crate) fn clear_old(connection: &Connection) -> Result<()> {
    clear(connection, super::now().saturating_sub(A_DAY))
}

/// Forgets what was removed until `time`: nothing is left of it on disk.
pub(crate) fn clear(connection: &Connection, time: i64) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM meta WHERE key >= ? AND key < ?")
        .and_then(|mut statement| statement.execute([key(0, ""), key(time.max(0), "")]))
        .map(drop)
        .explain(OPERATION, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_remembered_for_a_day() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)").unwrap();
        let add = |time| connection.execute("INSERT INTO meta VALUES (?, '')", [time]).unwrap();
        add(key(crate::db::now() - A_DAY - 1, "old"));
        add(key(crate::db::now() - A_DAY / 2, "recent"));
        add("driver".to_owned());
        note(&connection, "new").unwrap();
        clear_old(&connection).unwrap();
        assert_eq!(all(&connection).unwrap(), ["recent", "new"].map(ToOwned::to_owned).into());
        let left: u32 = connection.query_row("SELECT count(*) FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 3, "what is no removal stays");
    }
}
