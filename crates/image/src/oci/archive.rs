//! OCI layouts in a tar, read where they lie: nothing is unpacked.

use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::Digest;

use super::{INDEX, LayoutImage, MARKER};
use crate::blobs::{Blobs, Opened};
use crate::document::READ;
use crate::error::{Error, Kind, Result};
use crate::reference::Selector;
use crate::source::OpenOptions;
use crate::tarball::TarBall;

/// The blobs of a layout in a tar.
#[derive(Debug)]
pub(crate) struct OciArchive {
    tar: TarBall,
}

impl OciArchive {
    /// Opens an image of the layout in the tar at `path`.
    pub(crate) fn open(
        path: &Path,
        selector: Option<&Selector>,
        options: &OpenOptions,
        subject: String,
    ) -> Result<LayoutImage> {
        let tar = TarBall::open(path, options, &subject)?;
        let document = |name: &str| match tar.document(name, &subject)? {
            Some(bytes) => Ok(bytes),
            None => {
                let reason = format!("the archive has no {name}: it is not an OCI archive");
                let error = Error::new(Kind::NotFound, READ, &subject, reason);
                Err(if tar.contains("manifest.json") {
                    error.with_hint(format!("it looks like docker-archive:{}", path.display()))
                } else {
                    error
                })
            }
        };
        let (marker, index) = (document(MARKER)?, document(INDEX)?);
        LayoutImage::new(Arc::new(Self { tar }), &marker, index, selector, options, subject)
    }
}

impl Blobs for OciArchive {
    fn open(&self, digest: &Digest) -> Result<Option<Opened>> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let Some(section) = self.tar.member(&name, &format!("blob {digest}"))? else { return Ok(None) };
        let size = section.remaining();
        Ok(Some((Box::new(section), Some(size))))
    }
}
