//! Manifests and indexes: what refers to what, with every field that is not ours kept as it was read.
//!
//! Invariants: a [`Manifest`] holds the exact bytes it was read from, so that its digest holds; what is changed
//! for another destination is only what has to be (descriptors, media types), and unknown fields stay.

use std::collections::BTreeMap;

use layerstore_changeset::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::document::{self, bad};
use crate::error::Result;
use crate::media::{self, Compression, DocumentType, Format, MediaType};
use crate::platform::Platform;

/// Most descriptors of one manifest or index.
const MAX_DESCRIPTORS: usize = 10_000;

/// Annotations, of a descriptor or a document.
pub type Annotations = BTreeMap<String, String>;

/// Names a blob: what it is, its digest and its size.
///
/// Source: OCI image specification, descriptor.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the blob is.
    #[serde(rename = "mediaType")]
    pub media_type: MediaType,
    /// Digest of the blob's bytes.
    pub digest: Digest,
    /// Number of the blob's bytes.
    pub size: u64,
    /// Annotations.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    /// In an index, the machine that the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Everything else, kept as it was read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor with nothing but what is required.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, annotations: BTreeMap::new(), platform: None, extra: Map::new() }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// This descriptor for another blob: annotations and unknown fields stay, unless they are about the old
    /// bytes.
    #[must_use]
    pub fn with_blob(&self, blob: &Self) -> Self {
        let mut new = self.clone();
        if (&self.media_type, self.digest) != (&blob.media_type, blob.digest) {
            new.media_type = blob.media_type.clone();
            new.digest = blob.digest;
            new.size = blob.size;
        }
        if self.digest != blob.digest {
            // Other places of the same bytes, and the bytes themselves.
            new.extra.remove("urls");
            new.extra.remove("data");
        }
        new
    }

    fn parse(value: Value, what: &str, subject: &str) -> Result<Self> {
        if let Value::Object(map) = &value {
            document::check_keys(map, &["mediaType", "digest", "size", "annotations", "platform"], subject)?;
        }
        document::typed(value, what, subject)
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

impl Document {
    /// Parses a document that a descriptor called `expected`, or that calls itself something.
    ///
    /// # Errors
    /// `BAD_DOCUMENT`; Unsupported for schema 1 and artifacts.
    pub(crate) fn parse(bytes: Vec<u8>, expected: Option<&MediaType>, subject: &str) -> Result<Self> {
        let body = document::object(&bytes, subject)?;
        let known =
            ["schemaVersion", "mediaType", "manifests", "config", "layers", "annotations", "fsLayers"];
        document::check_keys(&body, &known, subject)?;
        if body.contains_key("fsLayers") || body.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            return Err(media::schema1(subject));
        }
        // Every document written since 2016 says 2; docker's readers insist on it, OCI's say it is required.
        match body.get("schemaVersion") {
            None => {}
            Some(version) if version.as_u64() == Some(2) => {}
            Some(other) => return Err(bad(subject, format!("schemaVersion is {other}, not 2"))),
        }
        let is_index = match (body.contains_key("manifests"), body.contains_key("layers")) {
            (true, true) => return Err(bad(subject, "the document has both `layers` and `manifests`")),
            (true, false) if body.contains_key("config") => {
                return Err(bad(subject, "the document has both `config` and `manifests`"));
            }
            (has_manifests, _) => has_manifests,
        };
        let claimed = match body.get("mediaType") {
            None => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) => Some(MediaType::from(text.as_str())),
            Some(_) => return Err(bad(subject, "mediaType is not a string")),
        };
        if let (Some(claimed), Some(expected)) = (&claimed, expected)
            && claimed != expected
        {
            return Err(bad(
                subject,
                format!("it is called {expected} by what refers to it and {claimed} by itself"),
            ));
        }
        let kind = match claimed.as_ref().or(expected) {
            Some(media_type) => media::document_type(media_type, subject)?,
            None if is_index => DocumentType::Index(Format::Oci),
            None => DocumentType::Manifest(Format::Oci),
        };
        match kind {
            DocumentType::Index(_) if body.contains_key("layers") || body.contains_key("config") => {
                Err(bad(subject, "an index has neither `layers` nor `config`"))
            }
            DocumentType::Index(_) => Index::from_body(body, subject).map(Self::Index),
            DocumentType::Manifest(_) if is_index => Err(bad(subject, "a manifest has no `manifests`")),
            DocumentType::Manifest(format) => {
                Manifest::from_body(bytes, format, body, subject).map(Box::new).map(Self::Manifest)
            }
        }
    }
}

/// The list of an index or of `index.json`.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
    /// The whole document but `manifests`.
    body: Map<String, Value>,
}

impl Index {
    /// An index of nothing.
    pub(crate) fn empty() -> Self {
        let mut body = Map::new();
        body.insert("schemaVersion".to_owned(), Value::from(2));
        body.insert("mediaType".to_owned(), Value::from(MediaType::ImageIndex.as_ref()));
        Self { manifests: Vec::new(), body }
    }

    /// Parses `index.json` of a layout.
    pub(crate) fn parse(bytes: Vec<u8>, subject: &str) -> Result<Self> {
        match Document::parse(bytes, None, subject)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => Err(bad(subject, "the document is a manifest, not an index")),
        }
    }

    fn from_body(mut body: Map<String, Value>, subject: &str) -> Result<Self> {
        let manifests = descriptors(body.remove("manifests"), "manifests", subject)?;
        Ok(Self { manifests, body })
    }

    /// The document, unknown fields included.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut body = self.body.clone();
        body.insert("manifests".to_owned(), to_value(&self.manifests)?);
        to_bytes(&body)
    }
}

/// An image manifest: a configuration and layers, base first.
///
/// Source: OCI image specification, manifest.md.
#[derive(Debug, Clone)]
pub struct Manifest {
    raw: Vec<u8>,
    format: Format,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: Annotations,
    /// The whole document but `config` and `layers`.
    body: Map<String, Value>,
}

impl Manifest {
    /// Parses a manifest that came out of a record of this program or a transport.
    ///
    /// # Errors
    /// `BAD_DOCUMENT` for an index and for everything that is no manifest; Unsupported for schema 1, artifacts
    /// and layers that are not distributed with the image.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        match Document::parse(bytes, None, "manifest")? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => Err(bad("manifest", "the document is an index, not a manifest")),
        }
    }

    /// A new manifest without annotations.
    ///
    /// # Errors
    /// None in practice: those of writing JSON.
    pub fn new(format: Format, config: Descriptor, layers: Vec<Descriptor>) -> Result<Self> {
        let mut body = Map::new();
        body.insert("schemaVersion".to_owned(), Value::from(2));
        body.insert("mediaType".to_owned(), Value::from(format.manifest().as_ref()));
        Self::assemble(format, config, layers, body)
    }

    fn from_body(raw: Vec<u8>, format: Format, mut body: Map<String, Value>, subject: &str) -> Result<Self> {
        let config = body.remove("config").ok_or_else(|| bad(subject, "the manifest has no `config`"))?;
        let config = Descriptor::parse(config, "config", subject)?;
        media::check_config(&config.media_type, subject)?;
        let layers = descriptors(body.remove("layers"), "layers", subject)?;
        for layer in &layers {
            media::layer_compression(&layer.media_type, subject)?;
        }
        let annotations = annotations(&body, subject)?;
        Ok(Self { raw, format, config, layers, annotations, body })
    }

    fn assemble(
        format: Format,
        config: Descriptor,
        layers: Vec<Descriptor>,
        body: Map<String, Value>,
    ) -> Result<Self> {
        let annotations = annotations(&body, "manifest")?;
        let mut whole = body.clone();
        whole.insert("config".to_owned(), to_value(&config)?);
        whole.insert("layers".to_owned(), to_value(&layers)?);
        Ok(Self { raw: to_bytes(&whole)?, format, config, layers, annotations, body })
    }

    /// This manifest with other blobs and in another format; annotations and unknown fields stay. Where nothing
    /// differs, the bytes stay too.
    ///
    /// # Errors
    /// None in practice: those of writing JSON.
    pub fn with_blobs(&self, format: Format, config: Descriptor, layers: Vec<Descriptor>) -> Result<Self> {
        if (format, &config, &layers) == (self.format, &self.config, &self.layers) {
            return Ok(self.clone());
        }
        let mut body = self.body.clone();
        // An OCI manifest may leave its type out; it then stays out.
        if format != self.format || body.contains_key("mediaType") {
            body.insert("mediaType".to_owned(), Value::from(format.manifest().as_ref()));
        }
        Self::assemble(format, config, layers, body)
    }

    /// The exact bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Digest of the exact bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// The descriptor of this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.format.manifest(), &self.raw)
    }

    /// In which spelling it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The configuration, whose digest is the image ID.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The layers, base first.
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The annotations of the manifest itself.
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }
}

impl Descriptor {
    /// How the layer that this names is compressed.
    ///
    /// # Errors
    /// Unsupported for layers that are not distributed with the image, encrypted ones, and unknown types.
    pub fn compression(&self) -> Result<Compression> {
        media::layer_compression(&self.media_type, &self.digest.to_string())
    }
}

fn annotations(body: &Map<String, Value>, subject: &str) -> Result<Annotations> {
    match body.get("annotations") {
        None | Some(Value::Null) => Ok(Annotations::new()),
        Some(value) => document::typed(value.clone(), "annotations", subject),
    }
}

fn descriptors(value: Option<Value>, what: &str, subject: &str) -> Result<Vec<Descriptor>> {
    let items = match value {
        None => return Err(bad(subject, format!("the document has no `{what}`"))),
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(bad(subject, format!("`{what}` is not a list"))),
    };
    if items.len() > MAX_DESCRIPTORS {
        return Err(bad(
            subject,
            format!("`{what}` has {} entries, more than {MAX_DESCRIPTORS}", items.len()),
        ));
    }
    let parse = |(index, item)| Descriptor::parse(item, &format!("{what}[{index}]"), subject);
    items.into_iter().enumerate().map(parse).collect()
}

pub(crate) fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| bad("document", error.to_string()).with_source(error))
}

pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| bad("document", error.to_string()).with_source(error))
}
