//! Blobs as they came: kept where a record cannot give the tar back, and, with `keep_blobs`, for every layer, so that
//! a push needs no compression and the blob keeps its digest.
//!
//! ```text
//! blobs/LAYER     the bytes of the blob, compressed as they came
//! ```
//!
//! Invariant: a blob that is pushed is compared with the digest that the layer's row has for it; one that is not it
//! is left alone, and the layer is written from its record.

use std::io::Read;

use layerstore_changeset::Context;
use layerstore_driver::LayerId;
use layerstore_image::{Descriptor, ImageDestination};

use crate::db::layers::LayerRow;
use crate::error::{Explain as _, Result};
use crate::files;
use crate::store::Store;

/// Bytes that are copied at once.
const BUFFER: usize = 256 << 10;

impl Store {
    /// Keeps a layer's blob as it came.
    pub(crate) fn keep_blob(
        &self,
        operation: &'static str,
        id: &LayerId,
        blob: &mut dyn Read,
        context: &Context,
    ) -> Result<()> {
        let mut file = files::create(&self.folders().blobs, id.as_str()).explain(operation, id)?;
        copy(blob, &mut file, context).explain(operation, id)
    }

    /// Writes the blob that was kept of a layer, if there is one that the destination takes as it is.
    pub(crate) fn push_blob(
        &self,
        operation: &'static str,
        destination: &mut dyn ImageDestination,
        layer: &LayerRow,
        context: &Context,
    ) -> Result<Option<Descriptor>> {
        let (id, layer) = (&layer.layer.id, &layer.layer);
        let (Some(digest), Some(size), Some(media_type)) =
            (layer.blob_digest, layer.blob_size, &layer.media_type)
        else {
            return Ok(None);
        };
        let came = Descriptor::new(media_type.as_str().into(), digest, size);
        let Ok(compression) = came.compression() else { return Ok(None) };
        let folder = &self.folders().blobs;
        let stat = folder.try_stat(id.as_str().as_bytes()).explain(operation, id)?;
        // Another size is another blob; what else is wrong shows when it is written.
        if compression != destination.compression() || stat.is_none_or(|stat| stat.size != size) {
            return Ok(None);
        }
        let media_type = destination.format().layer(compression);
        let mut file = folder.open_file(id.as_str().as_bytes()).explain(operation, id)?;
        let mut blob = destination.create_blob().explain(operation, id)?;
        copy(&mut file, &mut blob, context).explain(operation, id)?;
        match blob.finish(Some((digest, size))) {
            Ok((digest, size)) => Ok(Some(Descriptor::new(media_type, digest, size))),
            Err(error) => {
                tracing::warn!(layer = %id, %error, "the blob that was kept is damaged; the layer is written anew");
                Ok(None)
            }
        }
    }
}

fn copy(
    from: &mut dyn Read,
    to: &mut dyn std::io::Write,
    context: &Context,
) -> layerstore_changeset::Result<()> {
    let failed = |what: &'static str| move |error| layerstore_changeset::Error::stream(what, error);
    let mut buffer = vec![0; BUFFER];
    loop {
        context.check()?;
        let count = from.read(&mut buffer).map_err(failed("reading the layer's blob"))?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).map_err(failed("keeping the layer's blob"))?;
    }
}
