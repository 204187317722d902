//! One line of a record, written and read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::error::{Code, Error, Result};

/// A line, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Raw bytes of the archive.
    Segment(Vec<u8>),
    /// The payload of a file, to be found in the tree.
    File {
        /// Its name as the archive spells it.
        name: Vec<u8>,
        /// Its size in bytes.
        size: u64,
        /// Its checksum; empty where it has no payload.
        crc: Vec<u8>,
    },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: u64,
    name: Option<String>,
    name_raw: Option<String>,
    #[serde(default)]
    size: u64,
    payload: Option<String>,
}

impl Line {
    /// Reads a line of the record.
    ///
    /// # Errors
    /// `BAD_DOCUMENT`.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::refused(Code::BadDocument, "tar record", reason);
        let decode = |text: String| {
            BASE64.decode(text).map_err(|error| bad(format!("payload is not base64: {error}")))
        };
        let raw: Raw = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        let payload = raw.payload.map(decode).transpose()?.unwrap_or_default();
        match raw.kind {
            2 => Ok(Self::Segment(payload)),
            1 => {
                let name = match (raw.name, raw.name_raw) {
                    (_, Some(name)) => decode(name)?,
                    (Some(name), None) => name.into_bytes(),
                    (None, None) => Vec::new(),
                };
                Ok(Self::File { name, size: raw.size, crc: payload })
            }
            other => Err(bad(format!("unknown type {other}"))),
        }
    }

    /// Writes a segment's line over `line`.
    pub(super) fn write_segment(line: &mut String, bytes: &[u8], position: u64) {
        line.clear();
        line.push_str(r#"{"type":2,"payload":""#);
        BASE64.encode_string(bytes, line);
        close(line, position);
    }

    /// Writes a file's line over `line`.
    pub(super) fn write_file(line: &mut String, name: &[u8], size: u64, crc: u64, position: u64) {
        line.clear();
        match std::str::from_utf8(name) {
            Ok(name) => {
                line.push_str(r#"{"type":1,"name":"#);
                line.push_str(&serde_json::Value::from(name).to_string());
            }
            Err(_) => {
                line.push_str(r#"{"type":1,"name_raw":""#);
                BASE64.encode_string(name, line);
                line.push('"');
            }
        }
        line.push_str(&format!(r#","size":{size},"payload":""#));
        BASE64.encode_string(crc.to_be_bytes(), line);
        close(line, position);
    }
}

fn close(line: &mut String, position: u64) {
    line.push_str(&format!("\",\"position\":{position}}}\n"));
}
