//! One root file system as an image of one layer: a tar of it, or a directory.
//!
//! Invariant: the layer's digest is known before anybody reads it, because the content is hashed when the image
//! is opened; what changes afterwards is found when the layer is read, and refused. The configuration is made of
//! nothing but the content and the time of the tar or directory: the same root file system is the same image.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use layerstore_changeset::digest::Hashing;
use layerstore_changeset::tree::{View, diff};
use layerstore_changeset::{self as changeset, Context, Digest};
use layerstore_sys as sys;
use layerstore_sys::Dir;

use crate::compress;
use crate::config::{Commit, Config};
use crate::document::READ;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Annotations, Manifest};
use crate::media::{Compression, Format};
use crate::name::ImageName;
use crate::oci::no_layer;
use crate::source::{ImageSource, Layer, OpenOptions, Verify};
use crate::spool::open_file;
use crate::transfer::transfer;
use crate::verify::Verified;

/// What the only step of the history says.
const COMMENT: &str = "imported from rootfs";
/// Buffers on their way from the directory to the reader.
const BUFFERS: usize = 4;

/// A root file system.
#[derive(Debug)]
pub(crate) struct RootfsImage {
    content: Content,
    config: Config,
    layer: Layer,
    warnings: Vec<String>,
    context: Context,
    subject: String,
}

#[derive(Debug)]
enum Content {
    /// A tar, compressed or not.
    Tar(Arc<sys::File>),
    /// A directory, whose tar is made when it is read.
    Directory(Dir),
}

impl RootfsImage {
    /// Opens the directory or tar at `path`.
    pub(crate) fn open(path: &Path, options: &OpenOptions, subject: String) -> Result<Self> {
        let system = |error| Error::system(READ, &subject, error);
        let Some(stat) = sys::fs::stat(path).map_err(system)? else {
            return Err(Error::new(Kind::NotFound, READ, subject, "no such file or directory"));
        };
        let mut warnings = Vec::new();
        let (content, layer) = if stat.kind == sys::FileType::Directory {
            let dir = Dir::open(path).map_err(system)?;
            let layer = hash_directory(&dir, &mut warnings, &options.context)
                .map_err(|error| Error::changeset(READ, &subject, error))?;
            (Content::Directory(dir), layer)
        } else {
            let file = Arc::new(open_file(path, options, &subject)?);
            let layer = hash_tar(&file, &subject, &options.context)?;
            (Content::Tar(file), layer)
        };
        let created = rfc3339(stat.mtime);
        let commit = Commit {
            diff_id: Some(layer.diff_id),
            created: created.clone(),
            message: Some(COMMENT.to_owned()),
            ..Commit::default()
        };
        let config = Config::empty(&options.platform, &created)?.commit(&commit)?;
        Ok(Self { content, config, layer, warnings, context: options.context.clone(), subject })
    }
}

fn rfc3339(time: sys::Timestamp) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    // A time that no calendar knows is as good as none.
    jiff::Timestamp::new(time.seconds, nanos).unwrap_or_default().to_string()
}

/// Reads a tar once, for the digests of the file and of what is in it.
fn hash_tar(file: &Arc<sys::File>, subject: &str, context: &Context) -> Result<Layer> {
    let refuse = |error| Error::changeset(READ, subject, error);
    let whole = compress::whole(Arc::clone(file));
    let compression = compress::detect(&whole).map_err(refuse)?;
    let mut blob = Hashing::new(whole);
    let mut content = Hashing::new(io::sink());
    transfer(&mut compress::decoder(&mut blob).map_err(refuse)?, &mut content, subject, context)?;
    transfer(&mut blob, &mut io::sink(), subject, context)?;
    let (_, diff_id, _) = content.finish();
    let (_, digest, size) = blob.finish();
    Ok(layer(diff_id, digest, size, compression))
}

/// Makes a directory's tar once, for its digest.
fn hash_directory(dir: &Dir, warnings: &mut Vec<String>, context: &Context) -> changeset::Result<Layer> {
    let mut tar = Hashing::new(io::sink());
    *warnings = write_tar(dir, &mut tar, context)?;
    let (_, digest, size) = tar.finish();
    Ok(layer(digest, digest, size, Compression::None))
}

/// Writes a directory as a layer over nothing; returns what was left out.
fn write_tar(dir: &Dir, out: impl Write, context: &Context) -> changeset::Result<Vec<String>> {
    let mut writer = changeset::tar::Writer::new(out);
    diff(&View::default(), &View::flat(dir.clone()), &mut writer, context)?;
    let warnings = writer.warnings().to_vec();
    writer.finish()?;
    Ok(warnings)
}

fn layer(diff_id: Digest, digest: Digest, size: u64, compression: Compression) -> Layer {
    Layer {
        diff_id,
        digest: Some(digest),
        size,
        media_type: Format::Oci.layer(compression),
        compression,
        annotations: Annotations::new(),
    }
}

impl ImageSource for RootfsImage {
    fn config(&self) -> &Config {
        &self.config
    }

    fn manifest(&self) -> Option<&Manifest> {
        None
    }

    fn layers(&self) -> &[Layer] {
        std::slice::from_ref(&self.layer)
    }

    fn names(&self) -> &[ImageName] {
        &[]
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn open_layer(&self, index: usize, verify: Verify) -> Result<Box<dyn Read + Send>> {
        if index > 0 {
            return Err(no_layer(index, 1, &self.subject));
        }
        let stream: Box<dyn Read + Send> = match &self.content {
            Content::Tar(file) => Box::new(compress::whole(Arc::clone(file))),
            Content::Directory(dir) => Box::new(
                DirectoryTar::start(dir.clone(), self.context.clone())
                    .map_err(|error| Error::from_io(READ, &self.subject, error))?,
            ),
        };
        let Layer { size, digest, .. } = self.layer;
        let subject = format!("{} (did it change?)", self.subject);
        Ok(Box::new(Verified::new(stream, size, verify.digest(digest), subject)))
    }
}

/// The tar of a directory, made by a thread while it is read.
struct DirectoryTar {
    buffers: Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
}

impl fmt::Debug for DirectoryTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryTar").finish_non_exhaustive()
    }
}

impl DirectoryTar {
    fn start(dir: Dir, context: Context) -> io::Result<Self> {
        let (sender, buffers) = sync_channel(BUFFERS);
        let work = move || {
            if let Err(error) = write_tar(&dir, Buffers(&sender), &context) {
                // Nobody listens any more when this fails: the reader was dropped, which is what stopped us.
                let _ = sender.send(Err(io::Error::other(error)));
            }
        };
        std::thread::Builder::new().name("rootfs".to_owned()).spawn(work)?;
        Ok(Self { buffers, current: io::Cursor::default() })
    }
}

impl Read for DirectoryTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.buffers.recv() {
                Ok(next) => self.current = io::Cursor::new(next?),
                // The thread is done.
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Sends what is written to it.
struct Buffers<'a>(&'a SyncSender<io::Result<Vec<u8>>>);

impl Write for Buffers<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Ok(bytes.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
