//! What a row of a layer says, and how its columns are read.

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use rusqlite::Row;
use rusqlite::types::Type;

use crate::model::{Layer, LayerKind, LayerState};

/// A layer with what only the store itself needs to know.
#[derive(Debug, Clone)]
pub(crate) struct LayerRow {
    /// What everybody may know.
    pub(crate) layer: Layer,
    /// Who writes it.
    pub(crate) session: Option<String>,
    /// Whose it is.
    pub(crate) origin: LayerOrigin,
    /// What gives its tar back.
    pub(crate) kept: Option<Kept>,
    /// How it was made durable.
    pub(crate) sync: String,
}

/// Who made a layer, which decides who may remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerOrigin {
    /// A pull or commit: goes when no image, container or child needs it.
    Image,
    /// A container's own.
    Container,
    /// A driver author's: stays until somebody removes it.
    User,
}

/// What gives a layer's tar back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The record and the tree.
    Record,
    /// The blob.
    Blob,
}

impl LayerOrigin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::User => "user",
        }
    }

    pub(crate) fn from_word(word: &str) -> Self {
        match word {
            "image" => Self::Image,
            "container" => Self::Container,
            _ => Self::User,
        }
    }
}

impl Kept {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Blob => "blob",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Record, Self::Blob].into_iter().find(|kept| kept.as_str() == word)
    }
}

/// A layer that is about to be.
#[derive(Debug)]
pub(crate) struct NewLayer<'a> {
    pub(crate) id: &'a LayerId,
    pub(crate) parent: Option<&'a LayerId>,
    /// Who writes it; none when it is complete.
    pub(crate) session: Option<&'a str>,
    pub(crate) chain_id: Option<&'a Digest>,
    pub(crate) kind: LayerKind,
    pub(crate) origin: LayerOrigin,
}

/// What is known of a layer once it is complete.
#[derive(Debug, Clone)]
pub(crate) struct Completed {
    pub(crate) id: LayerId,
    pub(crate) chain_id: Option<Digest>,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) usage: layerstore_driver::Usage,
    pub(crate) tar_size: u64,
    pub(crate) kept: Kept,
    pub(crate) blob: Option<(Digest, u64, String)>,
    pub(crate) sync: &'static str,
}

pub(super) const COLUMNS: &str = "id, parent, session, chain_id, diff_id, state, kind, origin, labels, created, updated, \
                       size, disk_bytes, inodes, tar_size, kept, blob_digest, blob_size, media_type, sync";

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<LayerRow> {
    let labels = text(row, 8)?;
    Ok(LayerRow {
        layer: Layer {
            id: parsed(row, 0)?.ok_or(rusqlite::Error::InvalidQuery)?,
            parent: parsed(row, 1)?,
            chain_id: parsed(row, 3)?,
            diff_id: parsed(row, 4)?,
            state: match text(row, 5)? {
                "staging" => LayerState::Staging,
                "ready" => LayerState::Ready,
                "deleting" => LayerState::Deleting,
                _ => LayerState::Damaged,
            },
            kind: match text(row, 6)? {
                "active" => LayerKind::Active,
                "view" => LayerKind::View,
                _ => LayerKind::Committed,
            },
            labels: if labels == "{}" {
                std::collections::BTreeMap::new()
            } else {
                serde_json::from_str(labels).unwrap_or_default()
            },
            created: row.get(9)?,
            updated: row.get(10)?,
            size: unsigned(row, 11)?,
            disk_bytes: unsigned(row, 12)?,
            inodes: unsigned(row, 13)?,
            tar_size: unsigned(row, 14)?,
            blob_digest: parsed(row, 16)?,
            blob_size: unsigned(row, 17)?,
            media_type: row.get(18)?,
        },
        session: row.get(2)?,
        origin: LayerOrigin::from_word(text(row, 7)?),
        kept: row.get_ref(15)?.as_str_or_null()?.and_then(Kept::from_word),
        sync: row.get(19)?,
    })
}

/// A text column where it lies: a list of tens of thousands of rows feels every copy.
fn text<'a>(row: &'a Row<'_>, index: usize) -> rusqlite::Result<&'a str> {
    Ok(row.get_ref(index)?.as_str()?)
}

/// A text column as a type that is parsed; what cannot be parsed is a damaged database.
pub(in crate::db) fn parsed<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(index)?.as_str_or_null()?;
    let parse = |text: &str| {
        text.parse()
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
    };
    text.map(parse).transpose()
}

/// An integer column that is never negative.
pub(in crate::db) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(|number| u64::try_from(number).unwrap_or(0)))
}

/// A size as SQLite keeps it.
pub(in crate::db) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
