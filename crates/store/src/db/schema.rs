//! The schema, its version, and the gate that refuses what this program does not know.
//!
//! ```text
//! sessions ──< holds(object)         who works on the store right now, and what must stay for it
//!    │
//!    └──< layers >── parent ── layers
//!            │  └──< image_layers >── images ──< names
//!            └── containers              (a container outlives the removal of its image)
//! ```
//!
//! Times are nanoseconds since 1970, sizes bytes, digests `sha256:` and 64 hexadecimal digits.

use layerstore_driver::Kind;
use rusqlite::Connection;

use crate::error::{Error, Explain as _, MADE_AGAIN, Result};

/// "LySt": what `file` and other programs tell the database by.
const APPLICATION_ID: i32 = 0x4c79_5374;
/// Version of schema and layout on disk. A store with a higher one is refused.
pub(crate) const VERSION: i32 = 1;
/// Features that a store may require and this program knows. None yet; a store that requires another is refused.
const FEATURES: [&str; 0] = [];

const SCHEMA: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,            -- driver, features, created
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,       -- names staging/ID.lease
    purpose    TEXT NOT NULL,          -- pull, push, commit: for people
    persistent INTEGER NOT NULL,       -- 1: a lease that ends when it is released, not with a process
    started    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    object  TEXT NOT NULL,             -- layer id or image id that must stay
    PRIMARY KEY (session, object)
) STRICT, WITHOUT ROWID;
CREATE INDEX holds_object ON holds(object);

CREATE TABLE layers (
    id          TEXT PRIMARY KEY,      -- the driver's id
    parent      TEXT REFERENCES layers(id),
    session     TEXT REFERENCES sessions(id),  -- who writes it, while staging
    chain_id    TEXT,                  -- claimed by the first writer
    diff_id     TEXT,
    state       TEXT NOT NULL CHECK (state IN ('staging', 'ready', 'deleting', 'damaged')),
    kind        TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    origin      TEXT NOT NULL CHECK (origin IN ('image', 'container', 'user')),
    labels      TEXT NOT NULL DEFAULT '{}',
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    size        INTEGER,               -- bytes of file data
    disk_bytes  INTEGER,
    inodes      INTEGER,
    tar_size    INTEGER,
    kept        TEXT CHECK (kept IN ('record', 'blob')),  -- what gives the tar back
    blob_digest TEXT,
    blob_size   INTEGER,
    media_type  TEXT,
    sync        TEXT NOT NULL          -- what was made durable: layer or none
) STRICT, WITHOUT ROWID;
-- A layer of a container has none, and costs this index nothing.
CREATE UNIQUE INDEX layers_chain_id ON layers(chain_id) WHERE chain_id IS NOT NULL;
CREATE INDEX layers_parent ON layers(parent) WHERE parent IS NOT NULL;
CREATE INDEX layers_session ON layers(session) WHERE session IS NOT NULL;
CREATE INDEX layers_unready ON layers(state) WHERE state <> 'ready';

CREATE TABLE images (
    id              TEXT PRIMARY KEY,  -- digest of the configuration
    parent          TEXT,              -- image it was committed from; may be gone
    created         TEXT,              -- RFC 3339, from the configuration
    stored          INTEGER NOT NULL,
    size            INTEGER NOT NULL,
    manifest_digest TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX images_parent ON images(parent) WHERE parent IS NOT NULL;

CREATE TABLE image_layers (
    image    TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,         -- 0 is the base
    layer    TEXT NOT NULL REFERENCES layers(id),
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_layer ON image_layers(layer);

CREATE TABLE names (
    name       TEXT PRIMARY KEY,       -- as shown: REPOSITORY:TAG or REPOSITORY@DIGEST
    repository TEXT NOT NULL,
    tag        TEXT,
    digest     TEXT,
    image      TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX names_image ON names(image);

CREATE TABLE containers (
    id         TEXT PRIMARY KEY,
    name       TEXT UNIQUE,
    image      TEXT NOT NULL,          -- may be gone
    image_name TEXT,
    layer      TEXT NOT NULL UNIQUE REFERENCES layers(id),
    created    INTEGER NOT NULL,
    size_limit INTEGER,
    labels     TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;
CREATE INDEX containers_image ON containers(image);
";

/// What has to be there.
const TABLES: [&str; 8] =
    ["meta", "sessions", "holds", "layers", "images", "image_layers", "names", "containers"];

/// The error about a database that has to be made again.
pub(super) fn damaged(message: String) -> Error {
    Error::new(Kind::Corrupt, OPERATION, "layerstore.db", message).with_hint(MADE_AGAIN)
}

/// Whether the database holds nothing yet.
pub(super) fn is_new(connection: &Connection) -> Result<bool> {
    let version: i32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).explain(OPERATION, "")?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .explain(OPERATION, "")?;
    Ok(version == 0 && tables == 0)
}

/// Makes the tables of a new store, inside the caller's transaction.
pub(super) fn create(connection: &Connection, driver: &str, now: i64) -> Result<()> {
    connection.execute_batch(SCHEMA).explain(OPERATION, "")?;
    connection
        .execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"))
        .explain(OPERATION, "")?;
    let mut insert =
        connection.prepare("INSERT INTO meta (key, value) VALUES (?, ?)").explain(OPERATION, "")?;
    for (key, value) in [("driver", driver), ("features", ""), ("created", &now.to_string())] {
        insert.execute([key, value]).explain(OPERATION, "")?;
    }
    Ok(())
}

/// Refuses a database that is another program's, or newer than this one.
pub(super) fn check(connection: &Connection) -> Result<()> {
    let number = |pragma: &str| -> Result<i32> {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).explain(OPERATION, "")
    };
    let refuse = |kind, message: String| Err(Error::new(kind, OPERATION, "layerstore.db", message));
    let named = TABLES.map(|table| format!("'{table}'")).join(", ");
    let there: u32 = connection
        .query_row(
            &format!("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ({named})"),
            [],
            |row| row.get(0),
        )
        .explain(OPERATION, "")?;
    let application = number("application_id")?;
    if application != APPLICATION_ID {
        return Err(damaged(format!("not a layerstore database (application id {application:#x})")));
    }
    let version = number("user_version")?;
    if version < 1 {
        return Err(damaged(format!("the database has version {version}, and no store ever had")));
    }
    if version != VERSION {
        return refuse(
            Kind::Unsupported,
            format!("the store has version {version}, this program knows version {VERSION}"),
        )
        .map_err(|error: Error| error.with_hint("use the program that made it, or a newer one"));
    }
    if usize::try_from(there) != Ok(TABLES.len()) {
        return Err(damaged("tables of the database are missing".to_owned()));
    }
    if meta(connection, "driver")?.is_none() {
        return Err(damaged("the database does not say which driver the store was made with".to_owned()));
    }
    let features = meta(connection, "features")?.unwrap_or_default();
    let unknown: Vec<_> =
        features.split(',').filter(|word| !word.is_empty() && !FEATURES.contains(word)).collect();
    if !unknown.is_empty() {
        return refuse(
            Kind::Unsupported,
            format!("the store uses features that this program does not know: {}", unknown.join(", ")),
        )
        .map_err(|error: Error| error.with_hint("use a newer program"));
    }
    Ok(())
}

/// A fact about the store.
pub(super) fn meta(connection: &Connection, key: &str) -> Result<Option<String>> {
    use rusqlite::OptionalExtension as _;
    connection
        .query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
        .optional()
        .explain(OPERATION, "")
}

const OPERATION: &str = "open store";
