//! OCI image layouts, in a directory and in a tar.
//!
//! ```text
//! oci-layout                     {"imageLayoutVersion": "1.0.0"}
//! index.json                     the images, each with its tag as an annotation
//! blobs/sha256/HEX               manifests, configurations, layers
//! ```
//!
//! Source: OCI image specification, image-layout.md.

mod archive;
mod directory;
mod write;

use std::io::Read;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use archive::OciArchive;
pub(crate) use directory::{LayoutDirectory, LayoutWriter};
pub(crate) use write::{Tagged, asked, compose, tag_index, tag_of};

use crate::blobs::{self, Blobs};
use crate::config::Config;
use crate::document::{self, READ};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Index, Manifest};
use crate::name::ImageName;
use crate::reference::Selector;
use crate::resolve::{Resolved, resolve};
use crate::source::{ImageSource, Layer, OpenOptions, Verify};

/// The file that marks a layout.
pub(crate) const MARKER: &str = "oci-layout";
/// What stands in it.
pub(crate) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The list of images.
pub(crate) const INDEX: &str = "index.json";

/// An image of a layout, wherever the layout lies.
#[derive(Debug)]
pub(crate) struct LayoutImage {
    blobs: Arc<dyn Blobs>,
    subject: String,
    manifest: Manifest,
    config: Config,
    layers: Vec<Layer>,
    names: Vec<ImageName>,
    warnings: Vec<String>,
}

impl LayoutImage {
    /// Finds the image in a layout whose marker and index were read.
    pub(crate) fn new(
        blobs: Arc<dyn Blobs>,
        marker: &[u8],
        index: Vec<u8>,
        selector: Option<&Selector>,
        options: &OpenOptions,
        subject: String,
    ) -> Result<Self> {
        check_marker(marker, &subject)?;
        let index = Index::parse(index, &format!("{INDEX} of {subject}"))?;
        let found = resolve(&*blobs, &index, selector, &options.platform, &subject)?;
        let Resolved { manifest, config, names, warnings } = found;
        let layers = config.diff_ids().iter().zip(manifest.layers()).map(|(diff_id, blob)| {
            Ok(Layer {
                diff_id: *diff_id,
                digest: Some(blob.digest),
                size: blob.size,
                media_type: blob.media_type.clone(),
                compression: blob.compression()?,
                annotations: blob.annotations.clone(),
            })
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { blobs, subject, manifest, config, layers, names, warnings })
    }
}

/// Refuses layouts of a version that is not known.
pub(crate) fn check_marker(marker: &[u8], subject: &str) -> Result<()> {
    let marker = document::object(marker, &format!("{MARKER} of {subject}"))?;
    match marker.get("imageLayoutVersion").and_then(Value::as_str) {
        Some(version) if version.starts_with("1.") => Ok(()),
        version => {
            let version = version.unwrap_or("none").escape_debug();
            let reason = format!("the layout has version {version}, not 1.0.0");
            Err(Error::new(Kind::Unsupported, READ, subject, reason))
        }
    }
}

/// Names the layer that is not there.
pub(crate) fn no_layer(index: usize, layers: usize, subject: &str) -> Error {
    Error::new(Kind::NotFound, READ, subject, format!("there is no layer {index}; there are {layers}"))
}

impl ImageSource for LayoutImage {
    fn config(&self) -> &Config {
        &self.config
    }

    fn manifest(&self) -> Option<&Manifest> {
        Some(&self.manifest)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn names(&self) -> &[ImageName] {
        &self.names
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn open_layer(&self, index: usize, verify: Verify) -> Result<Box<dyn Read + Send>> {
        let blob = self.manifest.layers().get(index);
        let blob = blob.ok_or_else(|| no_layer(index, self.layers.len(), &self.subject))?;
        blobs::open(&*self.blobs, &blob.digest, blob.size, verify, &self.subject)
    }
}
