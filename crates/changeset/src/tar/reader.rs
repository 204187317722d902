//! Reads a layer's tar as a stream of changes.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, Write};

use super::body::{Body, padding};
use super::entry::{self, Extensions};
use super::header::{BLOCK, Header};
use super::input::{Input, Piece, truncated};
use super::pax::Pax;
use super::sparse;
use crate::change::{Change, Kind};
use crate::error::{Code, Error, Result};
use crate::limits::Limits;
use crate::record::Recorder;
use crate::stream::{ChangeSource, FileData, Item};

/// Most warnings that are kept; the rest is counted.
const MAX_WARNINGS: usize = 100;

/// A strict, streaming tar reader.
///
/// Read it as a [`ChangeSource`] to its end, then call [`Reader::finish`], which reads the stream to *its* end, so
/// that digests are over all of it.
pub struct Reader<R, W = io::Sink> {
    body: Body<R, W>,
    limits: Limits,
    entries: u64,
    ended: bool,
    warnings: Vec<String>,
    suppressed: u64,
    /// Kinds of warnings that are given once.
    warned: BTreeSet<&'static str>,
}

/// What is left when an archive has been read.
#[derive(Debug)]
pub struct Finished<R, W> {
    /// The stream, at its end.
    pub stream: R,
    /// The length of the archive with everything after its end mark, in bytes.
    pub bytes: u64,
    /// What was left out, for a person.
    pub warnings: Vec<String>,
    /// Where the record went, complete.
    pub record: Option<W>,
}

impl<R: BufRead> Reader<R> {
    /// Reads `stream`, which is not compressed.
    pub fn new(stream: R, limits: Limits) -> Self {
        Self::with(stream, limits, None)
    }
}

impl<R: BufRead, W: Write + Send + 'static> Reader<R, W> {
    /// Reads `stream` and takes a record of it.
    pub fn recording(stream: R, limits: Limits, recorder: Recorder<W>) -> Self {
        Self::with(stream, limits, Some(recorder))
    }

    fn with(stream: R, limits: Limits, recorder: Option<Recorder<W>>) -> Self {
        let body = Body::new(Input::new(stream, recorder), limits.bytes);
        Self {
            body,
            limits,
            entries: 0,
            ended: false,
            warnings: Vec::new(),
            suppressed: 0,
            warned: BTreeSet::new(),
        }
    }

    /// What was left out so far, for a person.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many bytes of the archive were read so far.
    pub fn position(&self) -> u64 {
        self.body.input.position()
    }

    /// Reads everything that is left, entries and what follows the end mark alike (entries are checked like any
    /// other), and completes the record.
    ///
    /// # Errors
    /// Refused input and I/O.
    pub fn finish(mut self) -> Result<Finished<R, W>> {
        while self.next()?.is_some() {}
        self.body.input.drain()?;
        if self.suppressed > 0 {
            self.warnings.push(format!("{} more warnings", self.suppressed));
        }
        let bytes = self.body.input.position();
        let (stream, recorder) = self.body.input.into_parts();
        let record = recorder.map(Recorder::finish).transpose()?;
        Ok(Finished { stream, bytes, warnings: self.warnings, record })
    }

    /// Reads up to the next change; none at the end of the archive.
    fn advance(&mut self) -> Result<Option<Change>> {
        if !self.body.skip()? {
            self.warn("the archive ends right behind a file's data, without padding and end mark".to_owned());
            self.ended = true;
            return Ok(None);
        }
        self.body.offset = self.position();
        let offset = self.body.offset;
        let change = self.entry().map_err(|error| error.at(offset))?;
        self.ended = change.is_none();
        Ok(change)
    }

    fn entry(&mut self) -> Result<Option<Change>> {
        let mut waiting = Extensions::default();
        let header = loop {
            let Some(block) = self.body.input.block()? else {
                return if waiting.is_empty() { Ok(None) } else { Err(truncated(b"")) };
            };
            if is_zero(block) {
                if !waiting.is_empty() {
                    return Err(bad_extension(b"archive", "an extension header without an entry"));
                }
                return self.end();
            }
            let header = Header::parse(block)?;
            match header.kind() {
                kind @ (b'x' | b'g' | b'L' | b'K') => self.extension(kind, &header, &mut waiting)?,
                _ => break header,
            }
        };
        self.entries += 1;
        if self.entries > self.limits.entries {
            let reason = format!("more than {} entries", self.limits.entries);
            return Err(Error::refused(Code::LimitExceeded, header.name(), reason));
        }
        self.main(&header, waiting).map(Some)
    }

    /// Reads an entry's own header, and its map if the file is sparse.
    fn main(&mut self, header: &Header, mut waiting: Extensions) -> Result<Change> {
        let gnu = header.kind() == b'S';
        let mut keys = waiting.pax.as_mut().map(|pax| std::mem::take(&mut pax.sparse)).unwrap_or_default();
        let pax_size = waiting.pax.as_ref().and_then(|pax| pax.size);
        let sparse_name = keys.name();
        let pax_sparse = keys.present();
        let name = entry::raw_name(header, &mut waiting, sparse_name);
        if gnu && (pax_sparse || pax_size.is_some()) {
            return Err(bad_extension(&name, "a GNU sparse file with a PAX header about its size"));
        }
        if pax_sparse && !matches!(header.kind(), b'0' | b'\0') {
            return Err(bad_extension(&name, "GNU.sparse records before something that is no file"));
        }
        // The header's own size must be readable even where a record replaces it: some programs use it then.
        let own = header.size()?;
        let stored = pax_size.unwrap_or(own);
        let limit = self.limits.extension_bytes;
        let input = &mut self.body.input;
        let map = if gnu {
            let (first, extended, size) = header.gnu_sparse();
            Some((sparse::read_gnu(input, (first, extended, size?), stored, &name, limit)?, stored))
        } else {
            keys.form(&name)?.map(|form| form.read(input, stored, &name, limit)).transpose()?
        };
        let real_size = map.as_ref().map(|(map, _)| map.size);
        let meaning = entry::read(header, waiting, name, stored, real_size)?;
        if let Some(warning) = meaning.warning
            && self.warned.insert(warning)
        {
            self.warn(format!("{}: {warning}", meaning.name.escape_ascii()));
        }
        self.body.open(meaning.name, stored, map, &meaning.change)?;
        Ok(meaning.change)
    }

    /// Reads an extension header.
    fn extension(&mut self, kind: u8, header: &Header, waiting: &mut Extensions) -> Result<()> {
        let (name, size) = (header.name(), header.size()?);
        if size > self.limits.extension_bytes {
            let reason = format!("extension header of {size} bytes, over {}", self.limits.extension_bytes);
            return Err(Error::refused(Code::LimitExceeded, name, reason));
        }
        let conflict = match kind {
            b'g' => !waiting.is_empty(),
            b'x' => !waiting.is_empty(),
            b'L' => waiting.pax.is_some() || waiting.name.is_some(),
            _ => waiting.pax.is_some() || waiting.link.is_some(),
        };
        if conflict {
            return Err(bad_extension(&name, "extension headers that contradict each other"));
        }
        let mut data = Vec::new();
        self.body.input.append(size, &mut data)?;
        self.body.input.skip(padding(size), Piece::Raw)?;
        match kind {
            b'x' => waiting.pax = Some(Pax::parse(&data, &name, &self.limits)?),
            b'g' => {
                let warning = "a global header is left alone";
                if Pax::check_global(&data, &name)? && self.warned.insert(warning) {
                    self.warn(format!("{}: {warning}", name.escape_ascii()));
                }
            }
            b'L' => waiting.name = Some(long_text(data, &name)?),
            _ => waiting.link = Some(long_text(data, &name)?),
        }
        Ok(())
    }

    /// The first zero block was read.
    fn end(&mut self) -> Result<Option<Change>> {
        match self.body.input.block()? {
            Some(block) if !is_zero(block) => {
                let reason =
                    "a single zero block between entries: programs disagree whether the archive ends";
                Err(Error::refused(Code::BadHeader, "archive", reason))
            }
            _ => Ok(None),
        }
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else {
            self.suppressed += 1;
        }
    }
}

impl<R: BufRead, W: Write + Send + 'static> ChangeSource for Reader<R, W> {
    fn next(&mut self) -> Result<Option<Item<'_>>> {
        if self.ended {
            return Ok(None);
        }
        Ok(self.advance()?.map(|change| {
            let file = matches!(&change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. }));
            let offset = Some(self.body.offset);
            Item { change, data: file.then_some(&mut self.body as &mut dyn FileData), offset }
        }))
    }
}

impl<R, W> fmt::Debug for Reader<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("entries", &self.entries)
            .field("ended", &self.ended)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|&b| b == 0)
}

/// The text of a GNU long name: up to its NUL, after which there is nothing.
fn long_text(mut data: Vec<u8>, name: &[u8]) -> Result<Vec<u8>> {
    let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    if data.iter().skip(end).any(|&b| b != 0) {
        return Err(bad_extension(name, "NUL within a long name"));
    }
    data.truncate(end);
    if data.is_empty() {
        return Err(bad_extension(name, "an empty long name"));
    }
    Ok(data)
}

fn bad_extension(name: &[u8], reason: &str) -> Error {
    Error::refused(Code::BadExtension, name, reason)
}
