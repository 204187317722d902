//! OCI layouts in a directory: read, and written so that several images live in one.
//!
//! Invariants: a blob gets its name only when it is complete and on disk; `index.json` is replaced at once, under
//! a lock on `oci-layout`, after everything that it refers to is on disk; entries of other images and fields that
//! are not understood stay. A directory that holds something else is refused.

use std::fmt::Debug;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::digest::Hashing;
use layerstore_changeset::{Code, Digest};
use layerstore_sys as sys;
use layerstore_sys::{Dir, Errno, Temporary};

use super::{INDEX, LayoutImage, MARKER, MARKER_CONTENT, Tagged, asked, check_marker, compose, tag_index};
use crate::blobs::{Blobs, Opened, Section};
use crate::config::Config;
use crate::destination::{BlobWriter, ImageDestination, WRITE, check_promise};
use crate::document::{MAX_DOCUMENT, READ, bad};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Index, Manifest};
use crate::media::{Compression, Format};
use crate::name::ImageName;
use crate::reference::{Reference, Selector};
use crate::source::OpenOptions;

/// The blobs of a layout in a directory.
#[derive(Debug)]
pub(crate) struct LayoutDirectory {
    dir: Dir,
}

impl LayoutDirectory {
    /// Opens an image of the layout at `path`.
    pub(crate) fn open(
        path: &Path,
        selector: Option<&Selector>,
        options: &OpenOptions,
        subject: String,
    ) -> Result<LayoutImage> {
        let dir = Dir::open(path).map_err(|error| Error::system(READ, &subject, error))?;
        let marker = read(&dir, MARKER, &subject)?;
        let index = read(&dir, INDEX, &subject)?;
        LayoutImage::new(Arc::new(Self { dir }), &marker, index, selector, options, subject)
    }
}

impl Blobs for LayoutDirectory {
    fn open(&self, digest: &Digest) -> Result<Option<Opened>> {
        // Blobs may be symlinks (Bazel's layouts are made of them): the digest is what is trusted.
        let file = match sys::fs::open_regular_at(&self.dir, blob_path(digest).as_bytes()) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other.map_err(|error| unreadable(error, format!("blob {digest}"), None))?,
        };
        let stat = file.stat().map_err(|error| Error::system(READ, format!("blob {digest}"), error))?;
        Ok(Some((Box::new(Section::new(Arc::new(file), 0, u64::MAX)), Some(stat.size))))
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a small file of the layout.
fn read(dir: &Dir, name: &str, subject: &str) -> Result<Vec<u8>> {
    let file = sys::fs::open_regular_at(dir, name.as_bytes());
    match file.and_then(|mut file| file.read_to_end_limited(MAX_DOCUMENT)) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.is_not_found() => {
            let reason = format!("the directory has no {name}: it is not an OCI layout");
            Err(Error::new(Kind::NotFound, READ, subject, reason))
        }
        Err(error) if error.errno() == Errno::FBIG => {
            Err(bad(subject, format!("{name} has more than {MAX_DOCUMENT} bytes")))
        }
        Err(error) => Err(unreadable(error, subject.to_owned(), Some(name))),
    }
}

/// Tells what the layout did wrong from what the system did: a fifo or a device that somebody put in a file's place
/// is never read.
fn unreadable(error: sys::Error, subject: String, name: Option<&str>) -> Error {
    let (code, reason) = match error.errno() {
        // Opening a socket is ENXIO.
        Errno::INVAL | Errno::ISDIR | Errno::NXIO => (Code::BadType, "is not a regular file"),
        Errno::LOOP => (Code::SymlinkLoop, "is a symlink that leads to itself"),
        _ => return Error::system(READ, subject, error),
    };
    let reason = format!("{} {reason}", name.unwrap_or("it"));
    Error::refused(code, READ, subject, reason)
        .with_source(error)
        .with_hint("an image's files have to be regular ones, or symlinks to such: copy it again")
}

/// Makes other writers of the layout's index wait.
fn lock(dir: &Dir) -> sys::Result<sys::lock::Lock> {
    sys::lock::Lock::wait(dir.open_file_rw(MARKER.as_bytes())?, sys::lock::Mode::Exclusive)
}

/// The marker before it has its name.
const MARKER_BEGUN: &[u8] = b".oci-layout.tmp";

/// An image being written into a layout in a directory.
#[derive(Debug)]
pub(crate) struct LayoutWriter {
    dir: Dir,
    blobs: Dir,
    tag: Option<String>,
    compression: Compression,
    subject: String,
}

impl LayoutWriter {
    /// Opens the layout, or begins one in a directory that is empty or missing.
    pub(crate) fn create(
        path: &Path,
        selector: Option<&Selector>,
        compression: Compression,
        reference: &Reference,
    ) -> Result<Self> {
        let subject = reference.to_string();
        let tag = super::write::tag_of(selector, &subject)?;
        let no_images = Index::empty().to_bytes()?;
        let prepared = || {
            sys::fs::make_dirs(path, 0o755)?;
            let dir = Dir::open(path)?;
            if dir.try_stat(MARKER.as_bytes())?.is_none() {
                // Two that begin one layout at once do it one after the other; there is no marker to lock yet.
                let _lock = sys::lock::Lock::wait(dir.open_file(b".")?, sys::lock::Mode::Exclusive)?;
                if dir.try_stat(MARKER.as_bytes())?.is_none() {
                    // What a push leaves that is killed while it writes the marker; it is replaced.
                    if dir.entries()?.iter().any(|entry| entry.name != MARKER_BEGUN) {
                        return Ok(Err(dir.clone()));
                    }
                    sys::fs::write_atomic(&dir, MARKER.as_bytes(), MARKER_CONTENT, 0o644)?;
                }
            }
            let blobs = dir.ensure_dir(b"blobs", 0o755)?.ensure_dir(b"sha256", 0o755)?;
            // Without an index it is no layout for anybody, and so it would stay if nothing more came.
            if dir.try_stat(INDEX.as_bytes())?.is_none() {
                let _lock = lock(&dir)?;
                if dir.try_stat(INDEX.as_bytes())?.is_none() {
                    sys::fs::write_atomic(&dir, INDEX.as_bytes(), &no_images, 0o644)?;
                }
            }
            Ok(Ok((dir, blobs)))
        };
        let (dir, blobs) = match prepared().map_err(|error| Error::system(WRITE, &subject, error))? {
            Ok(opened) => opened,
            Err(_) => {
                let reason = "the directory is not empty and is not an OCI layout";
                return Err(Error::new(Kind::InvalidInput, WRITE, subject, reason)
                    .with_hint("name a directory that is empty or does not exist"));
            }
        };
        check_marker(&read(&dir, MARKER, &subject)?, &subject)?;
        Ok(Self { dir, blobs, tag, compression, subject })
    }

    fn system(&self, error: sys::Error) -> Error {
        Error::system(WRITE, &self.subject, error)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest)?.is_some() {
            return Ok(());
        }
        let subject = self.subject.clone();
        let mut blob = self.create_blob()?;
        blob.write_all(bytes).map_err(|error| Error::from_io(WRITE, subject, error))?;
        blob.finish(Some((digest, bytes.len() as u64)))?;
        Ok(())
    }

    /// Replaces `index.json`; other writers wait.
    fn publish(&self, manifest: &Manifest, config: &Config, names: &[ImageName]) -> Result<()> {
        let _lock = lock(&self.dir).map_err(|error| self.system(error))?;
        let present = self.dir.try_stat(INDEX.as_bytes()).map_err(|error| self.system(error))?;
        let mut index = match present {
            None => Index::empty(),
            Some(_) => {
                Index::parse(read(&self.dir, INDEX, &self.subject)?, &format!("{INDEX} of {}", self.subject))?
            }
        };
        let names = asked(self.tag.as_deref(), names);
        tag_index(&mut index, &Tagged { manifest, config, tag: self.tag.as_deref(), names: &names });
        let written = sys::fs::write_atomic(&self.dir, INDEX.as_bytes(), &index.to_bytes()?, 0o644);
        written.and_then(|()| self.dir.sync()).map_err(|error| self.system(error))
    }
}

impl ImageDestination for LayoutWriter {
    fn format(&self) -> Format {
        Format::Oci
    }

    fn compression(&self) -> Compression {
        self.compression
    }

    fn accepts(&self, _compression: Compression) -> bool {
        true
    }

    fn blob_size(&mut self, digest: &Digest) -> Result<Option<u64>> {
        let stat = self.blobs.try_stat(digest.hex().as_bytes()).map_err(|error| self.system(error))?;
        Ok(stat.filter(|stat| stat.kind == sys::FileType::Regular).map(|stat| stat.size))
    }

    fn create_blob(&mut self) -> Result<Box<dyn BlobWriter + '_>> {
        let file = Temporary::new(&self.blobs, 0o644).map_err(|error| self.system(error))?;
        Ok(Box::new(FileBlob { file: Hashing::new(file.into()), subject: self.subject.clone() }))
    }

    fn finish(
        mut self: Box<Self>,
        manifest: &Manifest,
        config: &Config,
        names: &[ImageName],
    ) -> Result<Digest> {
        compose(&mut *self, manifest, config)?;
        self.put(config.raw())?;
        self.put(manifest.raw())?;
        // The names of the blobs, before the index tells of them.
        self.blobs.sync().map_err(|error| self.system(error))?;
        self.publish(manifest, config, names)?;
        Ok(manifest.digest())
    }
}

/// A blob being written to a file of its own.
struct FileBlob {
    file: Hashing<Named>,
    subject: String,
}

/// A temporary file as a writer.
#[derive(Debug)]
struct Named(Temporary);

impl From<Temporary> for Named {
    fn from(file: Temporary) -> Self {
        Self(file)
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for FileBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for FileBlob {
    fn finish(self: Box<Self>, promised: Option<(Digest, u64)>) -> Result<(Digest, u64)> {
        let Self { file, subject } = *self;
        let (Named(file), digest, size) = file.finish();
        check_promise(promised, (digest, size), &subject)?;
        let done = file.file().sync().and_then(|()| file.persist(digest.hex().as_bytes()));
        done.map_err(|error| Error::system(WRITE, subject, error))?;
        Ok((digest, size))
    }
}
