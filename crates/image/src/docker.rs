//! Docker archives: what `docker save` writes, in every form since version 1.10.
//!
//! ```text
//! manifest.json                  [{"Config": FILE, "RepoTags": [NAME…], "Layers": [FILE…]}, …]
//! HEX.json, HEX/layer.tar        docker 1.10 to 24; a layer may be a link to another image's
//! HEX.json, HEX.tar              skopeo
//! blobs/sha256/HEX               docker 25 and later, an OCI layout as well
//! ```
//!
//! Invariants: the configuration is taken byte for byte, so that its digest is the image ID; what a file's name
//! promises in the last form is verified; the diff IDs are the only promise about the layers in the others.
//!
//! Source: moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".

use std::io::Read;
use std::path::Path;

use layerstore_changeset::{Code, Digest};
use serde::Deserialize;

use crate::compress;
use crate::config::Config;
use crate::document::{self, READ, bad};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Annotations, Manifest};
use crate::media::{Compression, Format};
use crate::name::ImageName;
use crate::oci::no_layer;
use crate::reference::ArchiveSelector;
use crate::resolve::check_layers;
use crate::source::{ImageSource, Layer, OpenOptions, Verify};
use crate::tarball::TarBall;
use crate::verify::Verified;

const LIST: &str = "manifest.json";
/// Most layers of one image in `manifest.json`.
const MAX_LAYERS: usize = 10_000;

/// An entry of `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image of a docker archive.
#[derive(Debug)]
pub(crate) struct DockerImage {
    tar: TarBall,
    subject: String,
    config: Config,
    layers: Vec<Layer>,
    files: Vec<String>,
    names: Vec<ImageName>,
    warnings: Vec<String>,
}

impl DockerImage {
    /// Opens an image of the archive at `path`.
    pub(crate) fn open(
        path: &Path,
        selector: Option<&ArchiveSelector>,
        options: &OpenOptions,
        subject: String,
    ) -> Result<Self> {
        let tar = TarBall::open(path, options, &subject)?;
        let item = select(list(&tar, path, &subject)?, selector, &subject)?;
        let missing = |name: &str| {
            let reason = format!("the archive has no {}", name.escape_debug());
            Error::new(Kind::NotFound, READ, &subject, reason)
        };
        let raw = tar.document(&item.config, &subject)?.ok_or_else(|| missing(&item.config))?;
        if let Some(promised) = promised_digest(&item.config) {
            let found = Digest::of(&raw);
            if found != promised {
                let reason = format!("the configuration {promised} has the digest {found}");
                return Err(Error::refused(Code::DigestMismatch, READ, subject, reason));
            }
        }
        let config = Config::parse(raw)?;
        let files = item.layers.unwrap_or_default();
        check_layers(config.diff_ids(), files.len(), &subject)?;
        let mut layers = Vec::new();
        for (file, diff_id) in files.iter().zip(config.diff_ids()) {
            let data = tar.member(file, &subject)?.ok_or_else(|| missing(file))?;
            let size = data.remaining();
            let compression =
                compress::detect(&data).map_err(|error| Error::changeset(READ, &subject, error))?;
            // What is not compressed is its own tar.
            let itself = (compression == Compression::None).then_some(*diff_id);
            layers.push(Layer {
                diff_id: *diff_id,
                digest: promised_digest(file).or(itself),
                size,
                media_type: Format::Docker.layer(compression),
                compression,
                annotations: Annotations::new(),
            });
        }
        let mut warnings = config.warnings();
        if options.platform.suits(config.platform()).is_none() {
            warnings.push(format!("the image is for {}, not for {}", config.platform(), options.platform));
        }
        let mut names = Vec::new();
        for tag in item.repo_tags.unwrap_or_default() {
            match tag.parse() {
                Ok(name) => names.push(name),
                Err(error) => warnings.push(format!("a name is left out: {error}")),
            }
        }
        Ok(Self { tar, subject, config, layers, files, names, warnings })
    }
}

/// Reads `manifest.json`.
fn list(tar: &TarBall, path: &Path, subject: &str) -> Result<Vec<Item>> {
    let Some(bytes) = tar.document(LIST, subject)? else {
        let error = Error::new(Kind::NotFound, READ, subject, format!("the archive has no {LIST}"));
        return Err(if tar.contains("repositories") {
            error.with_hint("it is older than docker 1.10: load and save it with a newer docker")
        } else if tar.contains(crate::oci::INDEX) {
            error.with_hint(format!("it looks like oci-archive:{}", path.display()))
        } else {
            error.with_hint("is it what `docker save` wrote?")
        });
    };
    let what = format!("{LIST} of {subject}");
    let value = document::value(&bytes, &what)?;
    for item in value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_object) {
        document::check_keys(item, &["Config", "RepoTags", "Layers"], &what)?;
    }
    document::typed(value, "the list of images", &what)
}

/// The image that is meant.
fn select(items: Vec<Item>, selector: Option<&ArchiveSelector>, subject: &str) -> Result<Item> {
    let count = items.len();
    let has = |item: &Item, wanted: &ImageName| {
        let tags = item.repo_tags.iter().flatten();
        tags.filter_map(|tag| tag.parse::<ImageName>().ok()).any(|name| name == *wanted)
    };
    let all: Vec<_> = items.iter().flat_map(|item| item.repo_tags.iter().flatten()).cloned().collect();
    let refuse = |kind, reason: String| {
        let error = Error::new(kind, READ, subject, reason);
        if all.is_empty() { error } else { error.with_hint(format!("there are {}", all.join(", "))) }
    };
    let found = match selector {
        Some(ArchiveSelector::Index(place)) => items.into_iter().nth(*place).ok_or_else(|| {
            refuse(Kind::NotFound, format!("there is no image at place {place}; there are {count}"))
        }),
        Some(ArchiveSelector::Name(wanted)) => items
            .into_iter()
            .find(|item| has(item, wanted))
            .ok_or_else(|| refuse(Kind::NotFound, format!("there is no image called {wanted}"))),
        None if count > 1 => {
            let reason = format!("there are {count} images in it, and none is chosen: add :NAME:TAG or :@N");
            Err(refuse(Kind::InvalidInput, reason))
        }
        None => items
            .into_iter()
            .next()
            .ok_or_else(|| refuse(Kind::NotFound, "there is no image in it".to_owned())),
    }?;
    let layers = found.layers.as_ref().map_or(0, Vec::len);
    if layers > MAX_LAYERS {
        return Err(bad(subject, format!("the image has {layers} layers, more than {MAX_LAYERS}")));
    }
    Ok(found)
}

/// The digest that a name in an OCI layout promises.
fn promised_digest(file: &str) -> Option<Digest> {
    let hex = file.strip_prefix("blobs/sha256/")?;
    format!("sha256:{hex}").parse().ok()
}

impl ImageSource for DockerImage {
    fn config(&self) -> &Config {
        &self.config
    }

    fn manifest(&self) -> Option<&Manifest> {
        None
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
        let none = || no_layer(index, self.layers.len(), &self.subject);
        let (layer, file) = self.layers.get(index).zip(self.files.get(index)).ok_or_else(none)?;
        let data = self.tar.member(file, &self.subject)?.ok_or_else(none)?;
        let subject = format!("layer {}", layer.diff_id);
        Ok(Box::new(Verified::new(data, layer.size, verify.digest(layer.digest), subject)))
    }
}
