//! Rows of damaged layers: found, marked, made good; and rows that are made again from records.

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use rusqlite::{Connection, params};

use super::layers::{Completed, Kept, LayerOrigin, LayerRow, many, signed};
use crate::error::{Explain as _, Result};
use crate::model::LayerKind;

/// Notes that what lies on disk is not what was recorded.
pub(crate) fn mark(connection: &Connection, id: &LayerId) -> Result<()> {
    connection
        .execute("UPDATE layers SET state = 'damaged' WHERE id = ? AND state = 'ready'", [id.as_str()])
        .map(drop)
        .explain("check", "")
}

/// What no transaction leaves: a layer that is being written by nobody, or one on its way out on which something
/// stands. Its row was changed from outside.
const STRAY: &str = "state <> 'ready' AND ( \
     state = 'staging' AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = layers.session) \
     OR state = 'deleting' AND (chain_id IS NOT NULL \
         OR EXISTS (SELECT 1 FROM image_layers i WHERE i.layer = layers.id) \
         OR EXISTS (SELECT 1 FROM containers u WHERE u.layer = layers.id) \
         OR EXISTS (SELECT 1 FROM layers c WHERE c.parent = layers.id)))";

/// Layers that are neither complete nor anybody's, see [`STRAY`].
pub(crate) fn strays(connection: &Connection) -> Result<Vec<LayerRow>> {
    many(connection, &format!("WHERE {STRAY}"), &[])
}

/// Whether a layer is one of these.
pub(crate) fn is_stray(connection: &Connection, id: &LayerId) -> Result<bool> {
    Ok(!many(connection, &format!("WHERE id = ? AND {STRAY}"), &[&id.as_str()])?.is_empty())
}

/// Marks such a layer as damaged: whether its content is what was recorded is to be seen.
pub(crate) fn mark_stray(connection: &Connection, id: &LayerId) -> Result<()> {
    connection
        .execute(
            &format!("UPDATE layers SET state = 'damaged', session = NULL WHERE id = ? AND {STRAY}"),
            [id.as_str()],
        )
        .map(drop)
        .explain("check", "")
}

/// Notes that a layer is sound again. What it came in is that of `done`, if it was brought in anew.
pub(crate) fn clear(connection: &Connection, id: &LayerId, done: Option<&Completed>) -> Result<()> {
    const OPERATION: &str = "repair layer";
    if let Some(done) = done {
        connection
            .execute(
                "UPDATE layers SET tar_size = ?2, kept = ?3, sync = ?4, disk_bytes = ?5, inodes = ?6 WHERE id = ?1",
                params![
                    id.as_str(),
                    signed(done.tar_size),
                    done.kept.as_str(),
                    done.sync,
                    signed(done.usage.bytes),
                    signed(done.usage.inodes)
                ],
            )
            .explain(OPERATION, "")?;
    }
    connection
        .execute(
            "UPDATE layers SET state = 'ready', updated = ?2 WHERE id = ?1 AND state = 'damaged'",
            params![id.as_str(), super::now()],
        )
        .map(drop)
        .explain(OPERATION, "")
}

/// Every damaged layer.
pub(crate) fn all(connection: &Connection) -> Result<Vec<LayerRow>> {
    // The second condition is that of the index.
    many(connection, "WHERE state = 'damaged' AND state <> 'ready' ORDER BY created, id", &[])
}

/// A damaged layer among a layer and its ancestors. Costs next to nothing where no layer is damaged.
pub(crate) fn in_chain(connection: &Connection, id: &LayerId) -> Result<Option<LayerRow>> {
    if all(connection)?.is_empty() {
        return Ok(None);
    }
    Ok(chain(connection, id)?.into_iter().find(|row| row.layer.state == crate::model::LayerState::Damaged))
}

/// A layer and its ancestors, the layer first.
pub(crate) fn chain(connection: &Connection, id: &LayerId) -> Result<Vec<LayerRow>> {
    many(
        connection,
        "JOIN (WITH RECURSIVE chain (link, above, depth) AS ( \
             SELECT id, parent, 0 FROM layers WHERE id = ?1 \
             UNION SELECT l.id, l.parent, depth + 1 FROM chain JOIN layers l ON l.id = chain.above \
             WHERE depth < 65536) \
         SELECT link, depth FROM chain) ON link = id ORDER BY depth",
        &[&id.as_str()],
    )
}

/// Layers that stand on this one, at any distance.
pub(crate) fn descendants(connection: &Connection, id: &LayerId) -> Result<Vec<LayerRow>> {
    many(
        connection,
        "WHERE id IN (WITH RECURSIVE above (link) AS ( \
             SELECT id FROM layers WHERE parent = ?1 \
             UNION SELECT l.id FROM above JOIN layers l ON l.parent = above.link) SELECT link FROM above)",
        &[&id.as_str()],
    )
}

/// Adds a row as it stands, for a database that is made again.
pub(crate) fn restore(connection: &Connection, row: &LayerRow) -> Result<()> {
    let layer = &row.layer;
    let text = |digest: &Option<Digest>| digest.map(|digest| digest.to_string());
    connection
        .prepare_cached(
            "INSERT INTO layers (id, parent, chain_id, diff_id, state, kind, origin, labels, created, updated, size, \
             disk_bytes, inodes, tar_size, kept, blob_digest, blob_size, media_type, sync) \
             VALUES (?1, ?2, ?3, ?4, 'ready', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                layer.id.as_str(),
                layer.parent.as_ref().map(LayerId::as_str),
                text(&layer.chain_id),
                text(&layer.diff_id),
                if layer.kind == LayerKind::Committed { "committed" } else { "active" },
                row.origin.as_str(),
                serde_json::to_string(&layer.labels).unwrap_or_else(|_| "{}".to_owned()),
                layer.created,
                layer.updated,
                layer.size.map(signed),
                layer.disk_bytes.map(signed),
                layer.inodes.map(signed),
                layer.tar_size.map(signed),
                row.kept.map(Kept::as_str),
                text(&layer.blob_digest),
                layer.blob_size.map(signed),
                layer.media_type,
                row.sync,
            ])
        })
        .map(drop)
        .explain("rebuild database", &layer.id)
}

/// Whether a layer is an image's.
pub(crate) fn is_of_image(row: &LayerRow) -> bool {
    row.origin == LayerOrigin::Image
}
