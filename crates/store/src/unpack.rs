//! A layer's blob into a layer of the driver, in one pass.
//!
//! ```text
//! blob ─→ decompress ─→ hash ─→ tar::Reader ─→ driver.apply
//!         (thread)     (thread)     └ record ─→ records/LAYER.tar-split.gz
//!                         └ counts for write-back
//! ```
//!
//! The threads start when a tar is opened ([`Store::open_tar`]), so that the next layer of an image is read, inflated
//! and hashed as far as its buffers go while the one before is still being completed.
//!
//! Invariant: what is returned describes the whole stream to its very end; the caller compares it with what was
//! promised before anything refers to the layer.

use std::io::{BufReader, Read, Write};
use std::sync::Arc;

use layerstore_changeset::compress::{Compression, Decompressor, Threaded};
use layerstore_changeset::digest::Hashing;
use layerstore_changeset::record::Recorder;
use layerstore_changeset::{ChangeSource as _, Code, Context, Digest, Error as ChangesetError, Limits, tar};
use layerstore_driver::{Applied, Base, LayerId, Usage};

use crate::error::{Error, Explain as _, Kind, Result};
use crate::files;
use crate::store::Store;
use crate::writeback::WriteBack;

/// Bytes that are read from a blob at once.
const BUFFER: usize = 256 << 10;
/// Bytes of a tar in which its first entry is looked at before anything is written.
const HEAD: u64 = 64 << 10;

/// What came out of unpacking a layer.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the tar.
    pub(crate) diff_id: Digest,
    /// How the blob was compressed.
    pub(crate) compression: Compression,
    /// Bytes of the tar.
    pub(crate) tar_size: u64,
    /// What the driver wrote.
    pub(crate) applied: Applied,
    /// What the sealed layer takes.
    pub(crate) usage: Usage,
    /// What was left out.
    pub(crate) warnings: Vec<String>,
}

/// A layer's tar, being read ahead.
pub(crate) type OpenTar = Threaded<(Decompressor<BufReader<Box<dyn Read + Send>>>, Hashing<()>)>;

impl Store {
    /// Opens a blob (plain, gzip or zstd) and begins to read it. `what` is named in errors.
    pub(crate) fn open_tar(
        &self,
        operation: &'static str,
        what: &dyn std::fmt::Display,
        blob: Box<dyn Read + Send>,
        write_back: Option<Arc<WriteBack>>,
    ) -> Result<OpenTar> {
        let blob = BufReader::with_capacity(BUFFER, blob);
        let inflated = Decompressor::detect(blob, &Limits::default()).explain(operation, what)?;
        let inflated = Threaded::new("inflate", inflated).explain(operation, what)?;
        let look = move |hashing: &mut Hashing<()>, bytes: &[u8]| {
            hashing.take_in(bytes);
            if let Some(write_back) = &write_back {
                write_back.wrote(bytes.len() as u64);
            }
        };
        inflated.tapped("hash", Hashing::new(()), look).explain(operation, what)
    }

    /// Unpacks a layer's tar into a new, empty layer with a record of it, and seals it.
    pub(crate) fn unpack(
        &self,
        operation: &'static str,
        id: &LayerId,
        tar: OpenTar,
        context: &Context,
    ) -> Result<Unpacked> {
        let record =
            files::create(&self.folders().records, &files::record_name(id)).explain(operation, id)?;
        let recorder = Recorder::new(record).explain(operation, id)?;
        let mut reader = tar::Reader::recording(tar, Limits::default(), recorder);
        let context = &self.with_write_back(context);
        let applied = self.driver().apply(id, &mut reader, context).explain(operation, id)?;
        let finished = reader.finish().explain(operation, id)?;
        let (blob, hashing) = finished.stream.finish().explain(operation, id)?;
        let ((), diff_id, tar_size) = hashing.finish();
        let usage = self.driver().seal(id, None, context).explain(operation, id)?;
        self.write_places(id, &applied.relocated)?;
        let mut warnings = finished.warnings;
        warnings.extend(applied.warnings.iter().cloned());
        Ok(Unpacked { diff_id, compression: blob.compression(), tar_size, applied, usage, warnings })
    }

    /// Applies a tar that comes from outside to a writable layer, without a record.
    pub(crate) fn apply_tar(
        &self,
        operation: &'static str,
        id: &LayerId,
        tar: &mut (dyn Read + Send),
        context: &Context,
    ) -> Result<Applied> {
        let limits = Limits::default();
        let mut plain =
            Decompressor::detect(BufReader::with_capacity(BUFFER, tar), &limits).explain(operation, id)?;
        // What is no tar at all is refused before the driver hears of it: a layer is spoiled by its first change.
        let mut head = Vec::new();
        (&mut plain)
            .take(HEAD)
            .read_to_end(&mut head)
            .map_err(|error| ChangesetError::stream("tar", error))
            .explain(operation, id)?;
        let whole = (head.len() as u64) < HEAD;
        match tar::Reader::new(head.as_slice(), limits.clone()).next() {
            // An entry that is larger than the head is no mistake.
            Err(error) if whole || error.code() != Some(Code::Truncated) => {
                return Err(error).explain(operation, id);
            }
            _ => {}
        }
        let plain = std::io::Cursor::new(head).chain(plain);
        let mut reader = tar::Reader::new(BufReader::with_capacity(BUFFER, plain), limits);
        let mut applied = self.driver().apply(id, &mut reader, context).explain(operation, id)?;
        applied.warnings.splice(..0, reader.finish().explain(operation, id)?.warnings);
        Ok(applied)
    }

    /// Writes what leads from `base` to a layer as a tar; returns what was left out.
    pub(crate) fn write_diff(
        &self,
        operation: &'static str,
        id: &LayerId,
        base: Base<'_>,
        out: &mut dyn Write,
        context: &Context,
    ) -> Result<Vec<String>> {
        let mut writer = tar::Writer::new(out);
        self.driver().diff(id, base, &mut writer, context).explain(operation, id)?;
        let warnings = writer.warnings().to_vec();
        writer.finish().explain(operation, id)?.flush().map_err(|error| {
            Error::new(Kind::System, operation, id.as_str(), error.to_string()).with_source(error)
        })?;
        Ok(warnings)
    }
}
