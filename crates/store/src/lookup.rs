//! Finding things by what a person typed: an id, a unique prefix of one, or a name.

use layerstore_changeset::Digest;
use layerstore_driver::Kind;
use layerstore_image::ImageName;
use rusqlite::Connection;

use crate::db::images::ImageRow;
use crate::db::layers::LayerRow;
use crate::db::{containers, images, layers};
use crate::error::{Error, Result};
use crate::model::{Container, LayerState};

/// Candidates that an error about an ambiguous prefix lists.
const SHOWN: u32 = 4;

/// The image with this name, ID or unique prefix of an ID; a name wins. None when there is none.
pub(crate) fn find_image(
    connection: &Connection,
    operation: &'static str,
    text: &str,
) -> Result<Option<ImageRow>> {
    if let Ok(name) = text.parse::<ImageName>()
        && let Some(id) = images::named(connection, &name)?
    {
        return images::get(connection, &id);
    }
    let Some(hex) = image_id_prefix(text) else { return Ok(None) };
    let found = images::with_prefix(connection, hex, SHOWN)?;
    let shown = found.iter().map(|image| short(&image.id.hex()).to_owned()).collect();
    unique(operation, text, found, shown)
}

/// The image, or an error.
pub(crate) fn image(connection: &Connection, operation: &'static str, text: &str) -> Result<ImageRow> {
    if text.trim().is_empty() {
        return Err(Error::new(Kind::InvalidInput, operation, "", "image name cannot be blank"));
    }
    find_image(connection, operation, text)?.ok_or_else(|| no_such_image(operation, text))
}

/// Docker's words for an image that is not there.
pub(crate) fn no_such_image(operation: &'static str, text: &str) -> Error {
    let name = match text.parse::<ImageName>() {
        Ok(name) if image_id_prefix(text).is_none_or(|hex| hex.len() < 12) => name.to_string(),
        _ => text.to_owned(),
    };
    Error::new(Kind::NotFound, operation, text, format!("No such image: {name}"))
        .with_hint("`layerstore images` lists what is there")
}

/// The hexadecimal digits of what may be an image ID or the beginning of one.
pub(crate) fn image_id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let fits = (1..=64).contains(&hex.len())
        && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    fits.then_some(hex)
}

/// The container with this id, name or unique prefix of an id.
pub(crate) fn find_container(
    connection: &Connection,
    operation: &'static str,
    text: &str,
) -> Result<Option<Container>> {
    if let Some(container) = containers::get(connection, text)? {
        return Ok(Some(container));
    }
    if image_id_prefix(text).is_none() {
        return Ok(None);
    }
    let found = containers::with_prefix(connection, text, SHOWN)?;
    let shown = found.iter().map(|container| short(&container.id).to_owned()).collect();
    unique(operation, text, found, shown)
}

/// The container, or an error.
pub(crate) fn container(connection: &Connection, operation: &'static str, text: &str) -> Result<Container> {
    find_container(connection, operation, text)?.ok_or_else(|| {
        Error::new(Kind::NotFound, operation, text, format!("no such container: {text}"))
            .with_hint("`layerstore ps` lists what is there")
    })
}

/// The layer with this id, chain ID or diff ID, or a unique prefix of one, the first that fits in this order; never one
/// that is on its way out.
pub(crate) fn layer(connection: &Connection, operation: &'static str, text: &str) -> Result<LayerRow> {
    let exact = match text.parse::<Digest>() {
        Ok(chain_id) => layers::by_chain(connection, &chain_id)?,
        Err(_) => layers::get(connection, text)?,
    };
    let found = match exact.filter(|row| row.layer.state != LayerState::Deleting) {
        Some(row) => Some(row),
        None if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) => None,
        None => {
            let mut found = layers::with_prefix(connection, text, SHOWN)?;
            if let Some(hex) = image_id_prefix(text) {
                // `tree` and `history` show these.
                for column in ["chain_id", "diff_id"] {
                    if found.is_empty() {
                        found = layers::with_digest(connection, column, hex, SHOWN)?;
                    }
                }
            }
            let shown = found.iter().map(|row| short(row.layer.id.as_str()).to_owned()).collect();
            unique(operation, text, found, shown)?
        }
    };
    found.ok_or_else(|| {
        Error::new(Kind::NotFound, operation, text, format!("no such layer: {text}"))
            .with_hint("`layerstore layer list` lists what is there")
    })
}

fn unique<T>(
    operation: &'static str,
    text: &str,
    mut found: Vec<T>,
    mut shown: Vec<String>,
) -> Result<Option<T>> {
    if found.len() < 2 {
        return Ok(found.pop());
    }
    if shown.len() == SHOWN as usize {
        shown.pop();
        shown.push("…".to_owned());
    }
    let message = format!("the prefix fits several: {}", shown.join(", "));
    Err(Error::new(Kind::InvalidInput, operation, text, message)
        .with_hint("give more digits, or one of these"))
}

/// The first twelve digits of an id, as tables show them.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
