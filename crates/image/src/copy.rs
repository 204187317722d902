//! Copies an image from one place outside the store to another.
//!
//! Invariant: blobs that the destination takes as they are travel byte for byte; a manifest whose blobs and format
//! stay the same does too, so that its digest holds.

use layerstore_changeset::{Context, Digest};

use crate::compress;
use crate::destination::{ImageDestination, LayerWriter};
use crate::document::READ;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Manifest};
use crate::media::Format;
use crate::name::ImageName;
use crate::source::{ImageSource, Layer, Verify};
use crate::transfer::transfer;

/// Copies an image and returns the digest of the manifest that was written.
///
/// # Errors
/// Those of both sides, and cancellation.
pub fn copy(
    source: &dyn ImageSource,
    mut destination: Box<dyn ImageDestination>,
    names: &[ImageName],
    context: &Context,
) -> Result<Digest> {
    let mut layers = Vec::new();
    for (index, layer) in source.layers().iter().enumerate() {
        let mut blob = copy_layer(source, index, layer, &mut *destination, context)?;
        if let Some(known) = source.manifest().and_then(|manifest| manifest.layers().get(index)) {
            blob = known.with_blob(&blob);
        }
        layers.push(blob);
    }
    let format = destination.format();
    let manifest = assemble(source.manifest(), format, source.config().raw(), layers)?;
    destination.finish(&manifest, source.config(), names)
}

/// The manifest of an image whose layers were written: `original` with what has to change, or a new one.
///
/// # Errors
/// None in practice: those of writing JSON.
pub fn assemble(
    original: Option<&Manifest>,
    format: Format,
    config: &[u8],
    layers: Vec<Descriptor>,
) -> Result<Manifest> {
    let blob = Descriptor::of(format.config(), config);
    match original {
        None => Manifest::new(format, blob, layers),
        Some(original) => {
            let config = original.config().with_blob(&blob);
            original.with_blobs(format, config, layers)
        }
    }
}

fn copy_layer(
    source: &dyn ImageSource,
    index: usize,
    layer: &Layer,
    destination: &mut dyn ImageDestination,
    context: &Context,
) -> Result<Descriptor> {
    let subject = layer.diff_id.to_string();
    let format = destination.format();
    if destination.accepts(layer.compression) {
        let media_type = format.layer(layer.compression);
        if let Some(digest) = layer.digest
            && destination.blob_size(&digest)? == Some(layer.size)
        {
            return Ok(Descriptor::new(media_type, digest, layer.size));
        }
        // What is not compressed may as well be: the digest of the blob then changes anyway.
        if source.manifest().is_some() || layer.compression == destination.compression() {
            let mut blob = destination.create_blob()?;
            // What is written is hashed anyway, and compared with what was promised.
            transfer(&mut source.open_layer(index, Verify::Size)?, &mut blob, &subject, context)?;
            let promised = layer.digest.map(|digest| (digest, layer.size));
            let (digest, size) = blob.finish(promised)?;
            return Ok(Descriptor::new(media_type, digest, size));
        }
    }
    let mut tar = compress::decoder(source.open_layer(index, Verify::All)?)
        .map_err(|error| Error::changeset(READ, &subject, error))?;
    let mut writer = LayerWriter::new(destination, layer.diff_id)?;
    transfer(&mut tar, &mut writer, &subject, context)?;
    writer.finish()
}
