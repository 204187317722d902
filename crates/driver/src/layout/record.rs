//! The records of a layer.
//!
//! ```text
//! layer.json    {"version":1,"id":"…","parent":"…"|null,"token":"…","created":NANOSECONDS}   written at creation;
//!               and "limit":BYTES where the layer's size is limited
//! sealed.json   {"version":1,"bytes":…,"inodes":…,"sealed":NANOSECONDS}                      there once it is sealed
//! ```
//!
//! Invariant: neither is ever written again. A layer becomes sealed by a file that appears, so nothing that was
//! durable is at risk, and no operation has to wait for the disk: a power cut before the store's sync leaves at
//! worst an empty or short `sealed.json` (recovery takes it away, the layer is writable again) or an empty
//! `layer.json` (the layer is [`Corrupt`](crate::Kind::Corrupt): it was made after the last sync, and nothing
//! visible refers to it).

use std::time::{SystemTime, UNIX_EPOCH};

use layerstore_changeset::tree::Usage;
use layerstore_sys::{self as sys, Dir};

use crate::error::{Error, Kind};
use crate::id::LayerId;

use super::operation::Operation;

/// File name of [`Record`] in a layer's directory.
pub const RECORD: &str = "layer.json";
/// File name of [`Sealed`] in a layer's directory.
pub const SEALED: &str = "sealed.json";
/// The version of both that this code writes and the only one it reads.
pub const VERSION: u32 = 1;
/// Longest record that is read, in bytes.
const LIMIT: usize = 64 << 10;

/// What is known of a layer from its creation on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    pub(super) version: u32,
    /// The layer.
    pub id: LayerId,
    /// Its parent; none for a base layer.
    pub parent: Option<LayerId>,
    /// Names this creation for ever: the layer's marker in its parent ends with it.
    pub token: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: u64,
    /// Most bytes that it may take until it is sealed: its directory is one that the file system limits then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What is known of a layer once it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sealed {
    version: u32,
    bytes: u64,
    inodes: u64,
    /// When it was sealed, in nanoseconds since 1970.
    pub sealed: u64,
}

impl Record {
    /// The record of a layer that is being made now.
    pub fn new(id: &LayerId, parent: Option<&LayerId>, token: String) -> Self {
        Self { version: VERSION, id: id.clone(), parent: parent.cloned(), token, created: now(), limit: None }
    }
}

impl Sealed {
    /// The record of a layer that is being sealed now.
    pub fn new(usage: Usage) -> Self {
        Self { version: VERSION, bytes: usage.bytes, inodes: usage.inodes, sealed: now() }
    }

    /// The space that the layer takes by itself.
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.bytes, inodes: self.inodes }
    }
}

/// Nanoseconds since 1970; 0 on a clock that is set before.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads a record of this version; none when the file is not there.
///
/// # Errors
/// `Corrupt` when it cannot be understood, `Unsupported` for another version, `System`.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    dir: &Dir,
    name: &str,
    operation: Operation<'_>,
) -> Result<Option<T>, Error> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let text = match dir.open_file(name.as_bytes()).and_then(|mut file| file.read_to_end_limited(LIMIT)) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(operation.system(error)),
    };
    let damaged = |error: serde_json::Error| {
        operation
            .error(Kind::Corrupt, format!("the record {} cannot be read: {error}", dir.show(name.as_bytes())))
    };
    let Versioned { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version != VERSION {
        let message = format!(
            "the record {} has version {version}, and this program knows version {VERSION} only",
            dir.show(name.as_bytes())
        );
        return Err(operation
            .error(Kind::Unsupported, message)
            .with_hint("use the program that wrote it, or a newer one"));
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Writes a new record so that other processes see all of it or nothing; see the module for what a power cut
/// may leave.
///
/// # Errors
/// The calls'; `EEXIST` never, a leftover of a crash is replaced.
pub(super) fn write<T: serde::Serialize>(dir: &Dir, name: &str, record: &T) -> sys::Result<()> {
    use std::io::Write as _;
    let mut text = serde_json::to_vec(record).map_err(|_| invalid(dir, name))?;
    text.push(b'\n');
    let temporary = format!(".{name}.tmp");
    match dir.unlink(temporary.as_bytes()) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let mut file = dir.create_file(temporary.as_bytes(), 0o600)?;
    let written = file
        .write_all(&text)
        .map_err(|error| sys::Error::from_io(error, "write", || dir.show(temporary.as_bytes())))
        .and_then(|()| dir.rename(temporary.as_bytes(), dir, name.as_bytes()));
    if written.is_err() {
        // The first error is the one to report; a leftover is replaced by the next attempt.
        let _ = dir.unlink(temporary.as_bytes());
    }
    written
}

fn invalid(dir: &Dir, name: &str) -> sys::Error {
    sys::Error::new("write", dir.show(name.as_bytes()), sys::Errno::INVAL)
}
