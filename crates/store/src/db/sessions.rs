//! Rows of sessions: who works on the store, and what must stay for it.

use rusqlite::{Connection, params};

use crate::error::{Explain as _, Result};

const OPERATION: &str = "keep session";

/// Begins a session.
pub(crate) fn insert(connection: &Connection, id: &str, purpose: &str) -> Result<()> {
    connection
        .execute(
            "INSERT INTO sessions (id, purpose, persistent, started) VALUES (?, ?, 0, ?)",
            params![id, purpose, super::now()],
        )
        .map(drop)
        .explain(OPERATION, "")
}

/// Keeps an object as long as the session lives.
pub(crate) fn hold(connection: &Connection, session: &str, object: &str) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO holds (session, object) VALUES (?, ?)")
        .and_then(|mut statement| statement.execute([session, object]))
        .map(drop)
        .explain(OPERATION, "")
}

/// Ends a session and what it held. Its layers must be complete or doomed.
pub(crate) fn delete(connection: &Connection, id: &str) -> Result<()> {
    connection.execute("DELETE FROM sessions WHERE id = ?", [id]).map(drop).explain(OPERATION, "")
}

/// Sessions that end with a process.
pub(crate) fn of_processes(connection: &Connection) -> Result<Vec<String>> {
    connection
        .prepare_cached("SELECT id FROM sessions WHERE persistent = 0")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .explain(OPERATION, "")
}

/// What a session holds.
pub(crate) fn held_by(connection: &Connection, session: &str) -> Result<Vec<String>> {
    connection
        .prepare_cached("SELECT object FROM holds WHERE session = ?")
        .and_then(|mut statement| statement.query_map([session], |row| row.get(0))?.collect())
        .explain(OPERATION, "")
}

/// Whether a living or dead session holds an object.
pub(crate) fn is_held(connection: &Connection, object: &str) -> Result<bool> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM holds WHERE object = ?)", [object], |row| row.get(0))
        .explain(OPERATION, "")
}
