//! Tars of one image being written: OCI archives, and docker archives that are OCI layouts too.
//!
//! ```text
//! blobs/ blobs/sha256/                       directories
//! blobs/sha256/HEX …                         layers, in the order they come; configuration; manifest
//! oci-layout index.json                      the layout
//! manifest.json                              docker archives only: [{"Config", "RepoTags", "Layers"}]
//! ```
//!
//! This is the form of `docker save` since version 25: docker (since 1.10), podman, skopeo and containerd load
//! it. A blob's header is written after its data, in the place that was left for it, so that no blob needs a copy
//! of its own before its size and name are known.
//!
//! Invariant: the archive has no name until it is complete.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use layerstore_changeset::Digest;
use layerstore_changeset::digest::Hashing;
use layerstore_sys as sys;
use layerstore_sys::{Dir, FileType, Temporary};
use serde_json::json;
use tar::{EntryType, Header};

use crate::blobs::Section;
use crate::config::Config;
use crate::destination::{BlobWriter, ImageDestination, WRITE, check_promise};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Index, Manifest, to_bytes};
use crate::media::{Compression, Format};
use crate::name::ImageName;
use crate::oci::{INDEX, MARKER, MARKER_CONTENT, Tagged, asked, compose, tag_index};
use crate::reference::Reference;

const BLOCK: u64 = 512;

/// What kind of archive it is to be.
#[derive(Debug)]
pub(crate) enum Contents {
    /// An OCI archive.
    Oci { tag: Option<String>, compression: Compression },
    /// A docker archive, whose layers are not compressed: that is what every version of docker reads.
    Docker { name: Option<ImageName> },
}

/// An archive in the making.
#[derive(Debug)]
pub(crate) struct ArchiveWriter {
    file: Temporary,
    /// Where the next header goes.
    at: u64,
    blobs: HashMap<Digest, u64>,
    contents: Contents,
    /// The directory that the archive is for and its name there; none when it goes into a pipe.
    target: Option<(Dir, Vec<u8>)>,
    path: PathBuf,
    subject: String,
}

impl ArchiveWriter {
    /// Begins an archive that will be called `path`. One that is there is replaced in the end.
    pub(crate) fn create(path: &Path, contents: Contents, reference: &Reference) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let subject = reference.to_string();
        let system = |error| Error::system(WRITE, &subject, error);
        let present = sys::fs::stat(path).map_err(system)?;
        let (dir, target) = match present.map(|stat| stat.kind) {
            Some(FileType::Directory) => {
                return Err(Error::new(
                    Kind::InvalidInput,
                    WRITE,
                    subject,
                    "this is a directory, not a file",
                ));
            }
            None | Some(FileType::Regular) => {
                let name = path.file_name().map(|name| name.as_bytes().to_vec());
                let name = name.ok_or_else(|| {
                    Error::new(Kind::InvalidInput, WRITE, &subject, "the path does not end in a file name")
                })?;
                let dir = Dir::holding(path).map_err(system)?;
                (dir.clone(), Some((dir, name)))
            }
            // A pipe or device: the archive is made aside and copied there when it is complete.
            Some(_) => (Dir::open(std::env::temp_dir()).map_err(system)?, None),
        };
        let file = Temporary::new(&dir, 0o644).map_err(system)?;
        let mut new =
            Self { file, at: 0, blobs: HashMap::new(), contents, target, path: path.to_owned(), subject };
        for directory in ["blobs/", "blobs/sha256/"] {
            new.write_header(new.at, directory, 0, EntryType::Directory)?;
            new.at += BLOCK;
        }
        Ok(new)
    }

    fn system(&self, error: sys::Error) -> Error {
        Error::system(WRITE, &self.subject, error)
    }

    fn write_header(&self, at: u64, name: &str, size: u64, kind: EntryType) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_path(name).map_err(|error| Error::from_io(WRITE, name, error))?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.file.file().write_all_at(header.as_bytes(), at).map_err(|error| self.system(error))
    }

    /// Ends a member whose data was written behind the place of its header.
    fn end_member(&mut self, name: &str, size: u64) -> Result<()> {
        self.write_header(self.at, name, size, EntryType::Regular)?;
        self.at = (self.at + BLOCK + size).next_multiple_of(BLOCK);
        // The padding is a hole, which reads as the zeros that it has to be.
        self.file.file().set_length(self.at).map_err(|error| self.system(error))
    }

    fn put_member(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = self.file.file().write_all_at(bytes, self.at + BLOCK);
        written.map_err(|error| self.system(error))?;
        self.end_member(name, bytes.len() as u64)
    }

    fn put_blob(&mut self, bytes: &[u8]) -> Result<()> {
        let digest = Digest::of(bytes);
        if self.blobs.insert(digest, bytes.len() as u64).is_none() {
            self.put_member(&blob_name(&digest), bytes)?;
        }
        Ok(())
    }

    /// Makes the archive visible, or sends it where it is to go.
    fn publish(self) -> Result<()> {
        let Self { file, at, target, path, subject, .. } = self;
        let system = |error| Error::system(WRITE, &subject, error);
        // The end of an archive: two blocks of zeros.
        file.file().set_length(at + 2 * BLOCK).map_err(system)?;
        match target {
            Some((dir, name)) => {
                let done = file.file().sync().and_then(|()| file.persist(&name)).and_then(|()| dir.sync());
                done.map_err(system)
            }
            None => {
                let mut out = sys::fs::open_for_writing(&path).map_err(system)?;
                let mut whole = Section::new(file.into_file().into(), 0, at + 2 * BLOCK);
                let copied = io::copy(&mut whole, &mut out);
                copied.map(drop).map_err(|error| Error::from_io(WRITE, &subject, error))
            }
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl ImageDestination for ArchiveWriter {
    fn format(&self) -> Format {
        Format::Oci
    }

    fn compression(&self) -> Compression {
        match self.contents {
            Contents::Oci { compression, .. } => compression,
            Contents::Docker { .. } => Compression::None,
        }
    }

    fn accepts(&self, compression: Compression) -> bool {
        matches!(self.contents, Contents::Oci { .. }) || compression == Compression::None
    }

    fn blob_size(&mut self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blobs.get(digest).copied())
    }

    fn create_blob(&mut self) -> Result<Box<dyn BlobWriter + '_>> {
        let at = self.at + BLOCK;
        Ok(Box::new(MemberBlob { data: Some(Hashing::new(MemberData { archive: self, at })) }))
    }

    fn finish(
        mut self: Box<Self>,
        manifest: &Manifest,
        config: &Config,
        names: &[ImageName],
    ) -> Result<Digest> {
        compose(&mut *self, manifest, config)?;
        self.put_blob(config.raw())?;
        self.put_blob(manifest.raw())?;
        self.put_member(MARKER, MARKER_CONTENT)?;
        let mut index = Index::empty();
        let (tag, names) = match &self.contents {
            Contents::Oci { tag, .. } => (tag.clone(), asked(tag.as_deref(), names)),
            Contents::Docker { name } => {
                let names = name.as_ref().map_or(names, std::slice::from_ref).to_vec();
                (names.first().and_then(ImageName::tag).map(str::to_owned), names)
            }
        };
        tag_index(&mut index, &Tagged { manifest, config, tag: tag.as_deref(), names: &names });
        self.put_member(INDEX, &index.to_bytes()?)?;
        if matches!(self.contents, Contents::Docker { .. }) {
            // A name by digest is no tag: docker refuses it here.
            let tags: Vec<_> =
                names.iter().filter(|name| name.tag().is_some()).map(ImageName::canonical).collect();
            let layers = manifest.layers().iter().map(|layer| blob_name(&layer.digest));
            let list = json!([{
                "Config": blob_name(&config.image_id()),
                "RepoTags": if tags.is_empty() { serde_json::Value::Null } else { json!(tags) },
                "Layers": layers.collect::<Vec<_>>(),
            }]);
            self.put_member("manifest.json", &to_bytes(&list)?)?;
        }
        self.publish()?;
        Ok(manifest.digest())
    }
}

/// The data of the member being written.
#[derive(Debug)]
struct MemberData<'a> {
    archive: &'a mut ArchiveWriter,
    at: u64,
}

impl Write for MemberData<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.file.file().write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob being written into the archive.
#[derive(Debug)]
struct MemberBlob<'a> {
    /// None once it is finished.
    data: Option<Hashing<MemberData<'a>>>,
}

impl Write for MemberBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.data {
            Some(data) => data.write(bytes),
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemberBlob<'_> {
    fn finish(mut self: Box<Self>, promised: Option<(Digest, u64)>) -> Result<(Digest, u64)> {
        let Some(data) = self.data.take() else {
            return Err(Error::new(Kind::InvalidInput, WRITE, "blob", "it is finished already"));
        };
        let (MemberData { archive, .. }, digest, size) = data.finish();
        let result = check_promise(promised, (digest, size), &archive.subject);
        if result.is_err() || archive.blobs.contains_key(&digest) {
            // It is refused, or it is there already: the next member takes its place.
            archive.file.file().set_length(archive.at).map_err(|error| archive.system(error))?;
            return result.map(|()| (digest, size));
        }
        archive.end_member(&blob_name(&digest), size)?;
        archive.blobs.insert(digest, size);
        Ok((digest, size))
    }
}

impl Drop for MemberBlob<'_> {
    fn drop(&mut self) {
        if let Some(data) = self.data.take() {
            let (MemberData { archive, .. }, ..) = data.finish();
            // What stays behind when this fails lies where the next member is written, and is overwritten.
            let _ = archive.file.file().set_length(archive.at);
        }
    }
}
