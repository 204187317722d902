//! Rows that are written again as their records say.

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use rusqlite::{Connection, params};

use super::containers as container_rows;
use super::images::{self, ImageRow};
use super::layers::{Kept, LayerRow, signed};
use crate::error::{Explain as _, Result};
use crate::model::{Container, LayerKind};

const OPERATION: &str = "repair row";

/// Gives layers that have rows these values; what is noted of their state stays.
pub(crate) fn layers(connection: &Connection, rows: &[LayerRow]) -> Result<()> {
    let text = |digest: &Option<Digest>| digest.map(|digest| digest.to_string());
    // Chain IDs may have changed places.
    for row in rows {
        connection
            .execute("UPDATE layers SET chain_id = NULL WHERE id = ?", [row.layer.id.as_str()])
            .explain(OPERATION, "")?;
    }
    for row in rows {
        let layer = &row.layer;
        let kind = if layer.kind == LayerKind::Committed { "committed" } else { "active" };
        connection
            .execute(
                "UPDATE layers SET parent = ?2, diff_id = ?3, kind = ?4, origin = ?5, size = ?6, tar_size = ?7, \
                 kept = ?8, blob_digest = ?9, blob_size = ?10, media_type = ?11, created = ?13, \
                 chain_id = CASE WHEN EXISTS (SELECT 1 FROM layers o WHERE o.chain_id = ?12) THEN NULL ELSE ?12 END \
                 WHERE id = ?1",
                params![
                    layer.id.as_str(),
                    layer.parent.as_ref().map(LayerId::as_str),
                    text(&layer.diff_id),
                    kind,
                    row.origin.as_str(),
                    layer.size.map(signed),
                    layer.tar_size.map(signed),
                    row.kept.map(Kept::as_str),
                    text(&layer.blob_digest),
                    layer.blob_size.map(signed),
                    layer.media_type,
                    text(&layer.chain_id),
                    layer.created,
                ],
            )
            .explain(OPERATION, "")?;
    }
    Ok(())
}

/// Puts these containers in the place of those that have their ids or layers.
pub(crate) fn containers(connection: &Connection, all: &[Container]) -> Result<()> {
    for container in all {
        connection
            .execute(
                "DELETE FROM containers WHERE id = ? OR layer = ?",
                [container.id.as_str(), container.layer.as_str()],
            )
            .explain(OPERATION, "")?;
    }
    for container in all {
        container_rows::insert(connection, container).explain(OPERATION, "")?;
    }
    Ok(())
}

/// Takes away rows that belong to something that is not there.
pub(crate) fn clear_dangling(connection: &Connection) -> Result<()> {
    connection
        .execute_batch(
            "DELETE FROM names WHERE image NOT IN (SELECT id FROM images);
             DELETE FROM image_layers WHERE image NOT IN (SELECT id FROM images);
             DELETE FROM holds WHERE session NOT IN (SELECT id FROM sessions);
             UPDATE layers SET session = NULL WHERE state IN ('ready', 'damaged') AND session IS NOT NULL
                 AND session NOT IN (SELECT id FROM sessions);",
        )
        .explain(OPERATION, "")
}

/// Takes away rows of the table of names that hold none.
pub(crate) fn clear_no_names(connection: &Connection, texts: &[String]) -> Result<()> {
    for text in texts {
        connection.execute("DELETE FROM names WHERE name = ?", [text]).explain(OPERATION, "")?;
    }
    Ok(())
}

/// Gives an image that has a row this date and size.
pub(crate) fn image(connection: &Connection, row: &ImageRow) -> Result<()> {
    connection
        .execute(
            "UPDATE images SET created = ?2, size = ?3 WHERE id = ?1",
            params![row.id.to_string(), row.created, signed(row.size)],
        )
        .map(drop)
        .explain(OPERATION, "")
}

/// Puts an image over these layers.
pub(crate) fn links(connection: &Connection, image: &Digest, layers: &[LayerId]) -> Result<()> {
    connection
        .execute("DELETE FROM image_layers WHERE image = ?", [image.to_string()])
        .explain(OPERATION, "")?;
    images::link(connection, image, layers)
}
