//! Rows of layers: asked for, made, changed and forgotten.

mod row;

use std::collections::HashSet;

use layerstore_changeset::Digest;
use layerstore_driver::{Kind, LayerId};
use rusqlite::{Connection, OptionalExtension as _, params};

use self::row::{COLUMNS, from_row};
pub(crate) use self::row::{Completed, Kept, LayerOrigin, LayerRow, NewLayer};
pub(super) use self::row::{parsed, signed, unsigned};
use crate::error::{Error, Explain as _, Result};
use crate::model::{LayerKind, LayerState};

const OPERATION: &str = "read layers";

fn one(connection: &Connection, condition: &str, value: &str) -> Result<Option<LayerRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE {condition}"))
        .and_then(|mut statement| statement.query_row([value], from_row).optional())
        .explain(OPERATION, "")
}

pub(super) fn many(
    connection: &Connection,
    rest: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<LayerRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM layers {rest}"))
        .and_then(|mut statement| statement.query_map(values, from_row)?.collect())
        .explain(OPERATION, "")
}

/// The layer with this id.
pub(crate) fn get(connection: &Connection, id: &str) -> Result<Option<LayerRow>> {
    one(connection, "id = ?", id)
}

/// The layer that has or is to have this chain ID.
pub(crate) fn by_chain(connection: &Connection, chain_id: &Digest) -> Result<Option<LayerRow>> {
    one(connection, "chain_id = ?", &chain_id.to_string())
}

/// Every layer, the oldest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<LayerRow>> {
    let mut rows = many(connection, "", &[])?;
    // Not by SQLite, which would write every row whole into its sorter.
    rows.sort_unstable_by(|one, other| {
        (one.layer.created, &one.layer.id).cmp(&(other.layer.created, &other.layer.id))
    });
    Ok(rows)
}

/// The ids of all layers.
pub(crate) fn ids(connection: &Connection) -> Result<HashSet<String>> {
    connection
        .prepare_cached("SELECT id FROM layers")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .explain(OPERATION, "")
}

/// Layers whose id begins with `prefix`, at most `limit`.
pub(crate) fn with_prefix(connection: &Connection, prefix: &str, limit: u32) -> Result<Vec<LayerRow>> {
    many(
        connection,
        "WHERE id >= ? AND id < ? AND state <> 'deleting' ORDER BY id LIMIT ?",
        &[&prefix, &super::prefix_end(prefix), &limit],
    )
}

/// Layers whose digest in `column` (their chain ID or diff ID) begins with the digits `hex`, at most `limit`.
pub(crate) fn with_digest(
    connection: &Connection,
    column: &'static str,
    hex: &str,
    limit: u32,
) -> Result<Vec<LayerRow>> {
    let prefix = format!("sha256:{hex}");
    let condition = format!("{column} >= ? AND {column} < ? AND state <> 'deleting'");
    let rest = format!("WHERE {condition} ORDER BY {column} LIMIT ?");
    many(connection, &rest, &[&prefix, &super::prefix_end(&prefix), &limit])
}

/// Layers on their way out.
pub(crate) fn doomed(connection: &Connection) -> Result<Vec<LayerRow>> {
    many(connection, "WHERE state = 'deleting' AND state <> 'ready'", &[])
}

/// Layers that a session writes, children before parents.
pub(crate) fn of_session(connection: &Connection, session: &str) -> Result<Vec<LayerRow>> {
    many(connection, "WHERE session = ? ORDER BY created DESC", &[&session])
}

/// The layers of an image, from the base upwards.
pub(crate) fn of_image(connection: &Connection, image: &Digest) -> Result<Vec<LayerRow>> {
    let columns = COLUMNS.split(", ").map(|column| format!("l.{column}")).collect::<Vec<_>>().join(", ");
    connection
        .prepare_cached(&format!(
            "SELECT {columns} FROM image_layers i JOIN layers l ON l.id = i.layer \
             WHERE i.image = ? ORDER BY i.position"
        ))
        .and_then(|mut statement| statement.query_map([image.to_string()], from_row)?.collect())
        .explain(OPERATION, "")
}

/// Adds a layer. A taken id is an error of the database's constraint.
pub(crate) fn insert(connection: &Connection, new: &NewLayer<'_>) -> Result<()> {
    const OPERATION: &str = "create layer";
    if let Some(parent) = new.parent
        && get(connection, parent.as_str())?.is_some_and(|row| row.layer.state == LayerState::Deleting)
    {
        // It is still on disk, and waits for nothing but those above it.
        let message = format!("the parent {parent} has just been removed");
        return Err(Error::new(Kind::NotFound, OPERATION, new.id.as_str(), message));
    }
    let now = super::now();
    let state = if new.session.is_some() { "staging" } else { "ready" };
    let kind = match new.kind {
        LayerKind::Active => "active",
        LayerKind::View => "view",
        LayerKind::Committed => "committed",
    };
    let done = connection
        .prepare_cached(
            "INSERT INTO layers (id, parent, session, chain_id, state, kind, origin, created, updated, sync) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 'none')",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                new.id.as_str(),
                new.parent.map(LayerId::as_str),
                new.session,
                new.chain_id.map(ToString::to_string),
                state,
                kind,
                new.origin.as_str(),
                now
            ])
        });
    match done {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            let message = match get(connection, new.id.as_str())? {
                Some(_) => "the id is taken",
                None => "the parent is not there any more",
            };
            Err(Error::new(Kind::AlreadyExists, OPERATION, new.id.as_str(), message))
        }
        done => done.map(drop).explain(OPERATION, ""),
    }
}

/// Makes a layer visible, complete and sealed.
pub(crate) fn complete(connection: &Connection, done: &Completed) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE layers SET state = 'ready', kind = 'committed', session = NULL, chain_id = ?2, \
             diff_id = ?3, updated = ?4, size = ?5, disk_bytes = ?6, inodes = ?7, tar_size = ?8, kept = ?9, \
             blob_digest = ?10, blob_size = ?11, media_type = ?12, sync = ?13 WHERE id = ?1",
        )
        .and_then(|mut statement| {
            let blob = done.blob.as_ref();
            statement.execute(params![
                done.id.as_str(),
                done.chain_id.map(|digest| digest.to_string()),
                done.diff_id.to_string(),
                super::now(),
                signed(done.size),
                signed(done.usage.bytes),
                signed(done.usage.inodes),
                signed(done.tar_size),
                done.kept.as_str(),
                blob.map(|(digest, ..)| digest.to_string()),
                blob.map(|(_, size, _)| signed(*size)),
                blob.map(|(.., media_type)| media_type.as_str()),
                done.sync,
            ])
        })
        .map(drop)
        .explain("commit layer", "")
}

/// Gives a layer that is being written the chain ID that became known.
pub(crate) fn claim(connection: &Connection, id: &LayerId, chain_id: &Digest) -> Result<()> {
    connection
        .execute("UPDATE layers SET chain_id = ?2 WHERE id = ?1", [id.as_str(), &chain_id.to_string()])
        .map(drop)
        .explain("commit layer", "")
}

/// Notes that a layer was sealed, and what it takes.
pub(crate) fn sealed(connection: &Connection, id: &LayerId, usage: layerstore_driver::Usage) -> Result<()> {
    connection
        .execute(
            "UPDATE layers SET kind = 'committed', disk_bytes = ?2, inodes = ?3, updated = ?4 WHERE id = ?1",
            params![id.as_str(), signed(usage.bytes), signed(usage.inodes), super::now()],
        )
        .map(drop)
        .explain("seal layer", "")
}

/// Notes bytes of file data.
pub(crate) fn applied(connection: &Connection, id: &LayerId, bytes: u64) -> Result<()> {
    connection
        .execute(
            "UPDATE layers SET size = coalesce(size, 0) + ?2, updated = ?3 WHERE id = ?1",
            params![id.as_str(), signed(bytes), super::now()],
        )
        .map(drop)
        .explain("apply layer", "")
}

/// Puts a layer on its way out: nobody finds it any more, and its chain ID is free.
pub(crate) fn doom(connection: &Connection, id: &LayerId) -> Result<()> {
    super::removed::note(connection, id.as_str())?;
    connection
        .prepare_cached(
            "UPDATE layers SET state = 'deleting', chain_id = NULL, parent = NULL, session = NULL WHERE id = ?",
        )
        .and_then(|mut statement| statement.execute([id.as_str()]))
        .map(drop)
        .explain("remove layer", "")
}

/// Puts a layer on its way out, and below it those of images that only it kept, down to the first one that is
/// mounted. Returns them, children first.
pub(crate) fn doom_with_parents(
    connection: &Connection,
    id: &LayerId,
    is_mounted: impl Fn(&LayerId) -> Result<bool>,
) -> Result<Vec<LayerId>> {
    let mut doomed = vec![id.clone()];
    while let Some(last) = doomed.last() {
        // Asked before, as the row on its way out knows no parent any more.
        let below = kept_by_one(connection, last)?;
        doom(connection, last)?;
        let Some(below) = below else { break };
        if is_mounted(&below)? {
            break;
        }
        doomed.push(below);
    }
    Ok(doomed)
}

/// The parent of a layer, where it is a complete one of images that nothing else refers to.
fn kept_by_one(connection: &Connection, child: &LayerId) -> Result<Option<LayerId>> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT p.id FROM layers child JOIN layers p ON p.id = child.parent \
             WHERE child.id = ?1 AND p.state IN ('ready', 'damaged') AND p.origin = 'image' AND {}",
            nobody_uses("p.id", "AND c.id <> ?1")
        ))
        .and_then(|mut statement| statement.query_row([child.as_str()], |row| parsed(row, 0)).optional())
        .explain(OPERATION, "")?;
    Ok(found.flatten())
}

/// Forgets a layer that is gone from disk.
pub(crate) fn forget(connection: &Connection, ids: &[LayerId]) -> Result<()> {
    for id in ids {
        connection
            .prepare_cached("DELETE FROM layers WHERE id = ? AND state = 'deleting'")
            .and_then(|mut statement| statement.execute([id.as_str()]))
            .explain("remove layer", "")?;
    }
    Ok(())
}

/// Whether nothing refers to a layer: no image, container, child or session.
pub(crate) fn is_free(connection: &Connection, id: &LayerId) -> Result<bool> {
    connection
        .prepare_cached(&format!("SELECT {}", nobody_uses("?1", "")))
        .and_then(|mut statement| statement.query_row([id.as_str()], |row| row.get(0)))
        .explain(OPERATION, "")
}

/// What uses a layer, for a person; empty when nothing does.
pub(crate) fn users(connection: &Connection, id: &LayerId) -> Result<Vec<String>> {
    const USERS: [(&str, &str); 4] = [
        ("image", "SELECT image FROM image_layers WHERE layer = ? LIMIT 3"),
        ("container", "SELECT id FROM containers WHERE layer = ? LIMIT 3"),
        ("layer", "SELECT id FROM layers WHERE parent = ? LIMIT 3"),
        (
            "running",
            "SELECT s.purpose FROM holds h JOIN sessions s ON s.id = h.session WHERE object = ? LIMIT 3",
        ),
    ];
    let mut found = Vec::new();
    for (what, query) in USERS {
        let ids: Vec<String> = connection
            .prepare_cached(query)
            .and_then(|mut statement| statement.query_map([id.as_str()], |row| row.get(0))?.collect())
            .explain(OPERATION, "")?;
        found.extend(ids.into_iter().map(|id| format!("{what} {id}")));
    }
    Ok(found)
}

/// Complete layers of images that nothing refers to; their parents may be next.
pub(crate) fn free(connection: &Connection) -> Result<Vec<LayerRow>> {
    let nobody = nobody_uses("layers.id", "");
    let rest = format!(
        "WHERE state IN ('ready', 'damaged') AND origin <> 'user' AND {nobody} ORDER BY created DESC"
    );
    many(connection, &rest, &[])
}

/// The condition that nothing refers to a layer, which the statement calls `layer`: no image, no container, no child
/// `c` (of those that `children` leaves in question), and nobody who works with it.
fn nobody_uses(layer: &str, children: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.layer = {layer}) \
         AND NOT EXISTS (SELECT 1 FROM containers u WHERE u.layer = {layer}) \
         AND NOT EXISTS (SELECT 1 FROM layers c WHERE c.parent = {layer} {children}) \
         AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.object = {layer})"
    )
}
