//! One root file system as an image of one layer: a tar of it, or a directory.
//!
//! Invariant: the layer's digest is known before anybody reads it, because the content is hashed when the image
//! is opened; what changes afterwards is found when the layer is read, and refused. The configuration is made of
//! nothing but the content and the time of the tar or directory: the same root file system is the same image.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::Digest;
use layerstore_changeset::digest::Hashing;
use layerstore_sys as sys;

use crate::blobs::Section;
use crate::compress;
use crate::config::{Commit, Config};
use crate::document::READ;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Annotations, Manifest};
use crate::media::{Compression, Format};
use crate::name::ImageName;
use crate::oci::no_layer;
use crate::source::{ImageSource, Layer, OpenOptions};
use crate::tarball::open_file;
use crate::verify::Verified;

/// What the only step of the history says.
const COMMENT: &str = "imported from rootfs";

/// A root file system.
#[derive(Debug)]
pub(crate) struct RootfsImage {
    content: Content,
    config: Config,
    layer: Layer,
    subject: String,
}

#[derive(Debug)]
enum Content {
    /// A tar, compressed or not.
    Tar(Arc<sys::File>),
}

impl RootfsImage {
    /// Opens the directory or tar at `path`.
    pub(crate) fn open(path: &Path, options: &OpenOptions, subject: String) -> Result<Self> {
        let system = |error| Error::system(READ, &subject, error);
        let Some(stat) = sys::fs::stat(path).map_err(system)? else {
            return Err(Error::new(Kind::NotFound, READ, subject, "no such file or directory"));
        };
        let (content, layer) = if stat.kind == sys::FileType::Directory {
            return Err(Error::new(Kind::Unsupported, READ, subject, "directories are not supported yet"));
        } else {
            let file = Arc::new(open_file(path, &options.temporary, &subject)?);
            let layer = hash_tar(&file, &subject)?;
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
        Ok(Self { content, config, layer, subject })
    }
}

fn rfc3339(time: sys::Timestamp) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    // A time that no calendar knows is as good as none.
    jiff::Timestamp::new(time.seconds, nanos).unwrap_or_default().to_string()
}

/// Reads a tar once, for the digests of the file and of what is in it.
fn hash_tar(file: &Arc<sys::File>, subject: &str) -> Result<Layer> {
    let failed = |error| Error::from_io(READ, subject, error);
    let size = file.stat().map_err(|error| Error::system(READ, subject, error))?.size;
    let mut blob = Hashing::new(Section::new(Arc::clone(file), 0, size));
    let mut first = [0; 4];
    let count = file.read_at(&mut first, 0).map_err(|error| Error::system(READ, subject, error))?;
    let compression = compress::detect(first.get(..count).unwrap_or_default());
    let mut content = Hashing::new(io::sink());
    io::copy(&mut compress::decoder(&mut blob).map_err(failed)?, &mut content).map_err(failed)?;
    io::copy(&mut blob, &mut io::sink()).map_err(failed)?;
    let (_, diff_id, _) = content.finish();
    let (_, digest, size) = blob.finish();
    Ok(layer(diff_id, digest, size, compression))
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
        &[]
    }

    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + Send>> {
        if index > 0 {
            return Err(no_layer(index, 1, &self.subject));
        }
        let Content::Tar(file) = &self.content;
        let stream = Section::new(Arc::clone(file), 0, u64::MAX);
        Ok(Box::new(Verified::new(stream, self.layer.size, self.layer.digest, self.subject.clone())))
    }
}
