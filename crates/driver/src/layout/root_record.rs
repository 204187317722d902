//! The record of a root: whose it is, in which version, and what was settled when it was made.

use std::collections::BTreeMap;

use layerstore_sys::{self as sys, Dir, FileType};

use crate::error::{Kind, Result};

use super::operation::Operation;
use super::root::Format;

/// Its name in the root.
pub(super) const ROOT_RECORD: &str = "driver.json";
/// What a person can do about a root without it.
pub(super) const AGAIN: &str = "`layerstore check --repair` makes it again";
/// Longest record, in bytes.
const LIMIT: usize = 64 << 10;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct RootRecord {
    pub(super) driver: String,
    pub(super) version: u32,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
}

/// Reads the record of a root; none where there is none.
pub(super) fn read(root: &Dir, operation: Operation<'_>) -> Result<Option<RootRecord>> {
    let name = ROOT_RECORD.as_bytes();
    let damaged = |why: String| {
        let message = format!("the record {} cannot be read: {why}", root.show(name));
        operation.error(Kind::Corrupt, message).with_hint(AGAIN)
    };
    match root.open_file(name).and_then(|mut file| file.read_to_end_limited(LIMIT)) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| damaged(error.to_string())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => match root.try_stat(name) {
            Ok(Some(stat)) if stat.kind != FileType::Regular => Err(damaged("it is not a file".to_owned())),
            _ => Err(operation.system(error)),
        },
    }
}

/// Writes the record of a root, durably.
pub(super) fn write(
    root: &Dir,
    format: Format,
    settings: &[(&str, String)],
    operation: Operation<'_>,
) -> Result<RootRecord> {
    let record = RootRecord {
        driver: format.driver.to_owned(),
        version: format.version,
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    };
    let text = serde_json::to_vec(&record)
        .map_err(|error| operation.error(Kind::System, format!("write the root's record: {error}")))?;
    sys::fs::write_atomic(root, ROOT_RECORD.as_bytes(), &text, 0o600)
        .and_then(|()| root.sync())
        .map_err(|error| operation.system(error))?;
    Ok(record)
}
