//! Writes changes as a layer's tar, as the OCI image specification wants it.
//!
//! Invariants: the output is a function of the changes; whiteouts are explicit, and a whiteout right before the
//! entry that replaces the name is not written (`.wh.x` beside `x` means different things to different
//! programs), a directory is made opaque instead; sparse files are written in full, because not everybody reads
//! sparse ones.

use std::fmt;
use std::io::{BufWriter, Write};

use super::header::BLOCK;
use super::write_header::Fields;
use crate::change::{Change, Device, Entry, Kind, Metadata};
use crate::encoding::tar as names;
use crate::error::{Code, Error, Result};
use crate::path::RelPath;
use crate::stream::{ChangeSink, Chunk, FileData};

/// Bytes that are collected before they go to the stream.
const BUFFER: usize = 256 << 10;
/// What holes and padding are written from.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes a tar archive to `W`.
pub struct Writer<W: Write> {
    out: BufWriter<W>,
    header: Vec<u8>,
    /// A whiteout that waits for what comes next.
    removed: Option<RelPath>,
    warnings: Vec<String>,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`; buffering is done here.
    pub fn new(out: W) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, out),
            header: Vec::new(),
            removed: None,
            warnings: Vec::new(),
        }
    }

    /// What was left out so far, for a person: sockets.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes the end mark and gives the stream back.
    ///
    /// # Errors
    /// I/O.
    pub fn finish(mut self) -> Result<W> {
        self.settle(None)?;
        self.zeros(2 * BLOCK as u64)?;
        self.out.into_inner().map_err(|error| failed(error.into_error()))
    }

    /// Writes the whiteout that waits, unless `next` puts something at its name; answers whether that is so.
    fn settle(&mut self, next: Option<&Change>) -> Result<bool> {
        let Some(path) = self.removed.take() else { return Ok(false) };
        if matches!(next, Some(Change::Put(entry)) if entry.path == path) {
            return Ok(true);
        }
        self.mark(&names::whiteout_name(&path))?;
        Ok(false)
    }

    /// Writes an empty file of that name.
    fn mark(&mut self, name: &[u8]) -> Result<()> {
        let metadata = Metadata { mode: 0o600, ..Metadata::default() };
        self.head(name, b'0', b"", 0, Device { major: 0, minor: 0 }, &metadata)
    }

    fn head(
        &mut self,
        name: &[u8],
        kind: u8,
        link: &[u8],
        size: u64,
        device: Device,
        metadata: &Metadata,
    ) -> Result<()> {
        let fields = Fields {
            name,
            kind,
            link,
            size,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            device,
            // A hard link's too: who sets its owner again, as containerd does, loses file capabilities by that.
            xattrs: &metadata.xattrs,
        };
        self.header.clear();
        fields.write(&mut self.header);
        self.out.write_all(&self.header).map_err(failed)
    }

    fn entry(&mut self, entry: &Entry, data: Option<&mut dyn FileData>) -> Result<()> {
        let none = Device { major: 0, minor: 0 };
        let (kind, link, size, device): (u8, &[u8], u64, Device) = match &entry.kind {
            Kind::File { size } => (b'0', b"", *size, none),
            Kind::Directory => (b'5', b"", 0, none),
            Kind::Symlink { target } => (b'2', target, 0, none),
            Kind::HardLink { target } => (b'1', target.as_bytes(), 0, none),
            Kind::Fifo => (b'6', b"", 0, none),
            Kind::CharDevice(device) => (b'3', b"", 0, *device),
            Kind::BlockDevice(device) => (b'4', b"", 0, *device),
            Kind::Socket => {
                self.warnings.push(format!("{}: sockets cannot be written to a tar: left out", entry.path));
                return Ok(());
            }
        };
        let path = entry.path.as_bytes();
        let slash: Vec<u8>;
        let name = if kind == b'5' {
            slash = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
            &slash
        } else {
            path
        };
        self.head(name, kind, link, size, device, &entry.metadata)?;
        if let Some(data) = data.filter(|_| kind == b'0') {
            self.data(entry, size, data)?;
        }
        Ok(())
    }

    fn data(&mut self, entry: &Entry, size: u64, data: &mut dyn FileData) -> Result<()> {
        let mut left = Some(size);
        while let Some(chunk) = data.next_chunk()? {
            let count = match chunk {
                Chunk::Data(bytes) => bytes.len() as u64,
                Chunk::Hole(count) => count,
            };
            left = left.and_then(|left| left.checked_sub(count));
            if left.is_none() {
                break;
            }
            match chunk {
                Chunk::Data(bytes) => self.out.write_all(bytes).map_err(failed)?,
                Chunk::Hole(count) => self.zeros(count)?,
            }
        }
        if left != Some(0) {
            let reason = format!("file has not {size} bytes any more: it changed while it was read");
            return Err(Error::refused(Code::SizeMismatch, entry.path.as_bytes(), reason));
        }
        self.zeros(size.wrapping_neg() % BLOCK as u64)
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let piece = usize::try_from(left).map_or(&ZEROS[..], |left| ZEROS.get(..left).unwrap_or(&ZEROS));
            self.out.write_all(piece).map_err(failed)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }
}

impl<W: Write> ChangeSink for Writer<W> {
    fn put(&mut self, change: Change, data: Option<&mut dyn FileData>) -> Result<()> {
        check(&change)?;
        let replaces = self.settle(Some(&change))?;
        match change {
            Change::Put(entry) => {
                self.entry(&entry, data)?;
                if replaces && entry.kind == Kind::Directory {
                    self.mark(&names::opaque_name(&entry.path))?;
                }
                // What is left out leaves the name hidden all the same.
                if replaces && entry.kind == Kind::Socket {
                    self.removed = Some(entry.path);
                }
            }
            Change::Remove(path) => self.removed = Some(path),
            Change::Opaque(path) => self.mark(&names::opaque_name(&path))?,
        }
        Ok(())
    }
}

/// Refuses what a layer's tar cannot say.
fn check(change: &Change) -> Result<()> {
    let path = change.path();
    let refuse =
        |reason| Err(Error::Unrepresentable { name: path.to_string(), encoding: "an OCI tar layer", reason });
    if names::holds_reserved(path) {
        return refuse("names that begin with .wh. mean whiteouts there: rename it");
    }
    match change {
        Change::Remove(path) if path.is_root() => refuse("the root cannot be removed"),
        Change::Put(Entry { kind: Kind::HardLink { target }, .. }) if names::holds_reserved(target) => {
            refuse("it is a hard link to a name that begins with .wh.")
        }
        Change::Put(entry) if path.is_root() && entry.kind != Kind::Directory => {
            refuse("the root must be a directory")
        }
        Change::Put(entry) if entry.kind.is_whiteout_device() => {
            refuse("character devices 0/0 are whiteouts of overlay file systems")
        }
        _ => Ok(()),
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::stream("writing the archive", error)
}

impl<W: Write> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}
