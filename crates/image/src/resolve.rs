//! From an index to one image: by tag, by place, by platform.
//!
//! ```text
//! index.json ─ tag ─→ manifest                     taken whatever it is for (with a warning)
//!            └ tag ─→ index ─ platform ─→ manifest  or an error that lists what there is
//! ```
//!
//! Invariant: the number of documents that are read is bounded, whatever indexes refer to.

use layerstore_changeset::Digest;
use oci_spec::image::ANNOTATION_REF_NAME;

use crate::blobs::{self, Blobs};
use crate::config::Config;
use crate::document::{READ, bad};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Descriptor, Document, Index, Manifest};
use crate::name::ImageName;
use crate::platform::Platform;
use crate::reference::Selector;

/// Where containerd and docker keep the full name of an image in a layout.
pub(crate) const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";
/// How deep indexes may be nested; more than two levels are not seen in practice.
const MAX_DEPTH: usize = 8;
/// How many documents may be read to find one image.
const MAX_DOCUMENTS: usize = 256;

/// An image that was found.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) manifest: Manifest,
    pub(crate) config: Config,
    pub(crate) names: Vec<ImageName>,
    pub(crate) warnings: Vec<String>,
}

/// Finds an image and reads its manifest and configuration.
pub(crate) fn resolve(
    blobs: &dyn Blobs,
    index: &Index,
    selector: Option<&Selector>,
    platform: &Platform,
    subject: &str,
) -> Result<Resolved> {
    let entries = select(index, selector, subject)?;
    let names = names(&entries);
    let mut search =
        Search { blobs, subject, platform, documents: 0, found: Vec::new(), offered: Vec::new() };
    let direct = entries.len() == 1;
    search.walk(&entries, 0)?;
    let (manifest, config) = search.best(direct)?;
    let mut warnings = config.warnings();
    if platform.suits(config.platform()).is_none() {
        warnings.push(format!("the image is for {}, not for {platform}", config.platform()));
    }
    Ok(Resolved { manifest, config, names, warnings })
}

/// The entries of `index.json` that are meant.
fn select(index: &Index, selector: Option<&Selector>, subject: &str) -> Result<Vec<Descriptor>> {
    let missing = |reason: String| {
        let tags = tags(index);
        let error = Error::new(Kind::NotFound, READ, subject, reason);
        if tags.is_empty() { error } else { error.with_hint(format!("there are {}", tags.join(", "))) }
    };
    let entries: Vec<_> = match selector {
        Some(Selector::Index(place)) => index.manifests.get(*place).into_iter().collect(),
        Some(Selector::Tag(tag)) => {
            let by = |key: &str| {
                let is = |entry: &&Descriptor| entry.annotations.get(key) == Some(tag);
                index.manifests.iter().filter(is).collect::<Vec<_>>()
            };
            let tagged = by(ANNOTATION_REF_NAME);
            if tagged.is_empty() { by(ANNOTATION_CONTAINERD_NAME) } else { tagged }
        }
        None => index.manifests.iter().filter(|entry| !is_attachment(entry)).collect(),
    };
    let mut chosen: Vec<Descriptor> = Vec::new();
    for entry in entries {
        // One image under two tags is one image.
        if chosen.iter().all(|known| known.digest != entry.digest) {
            chosen.push(entry.clone());
        }
    }
    match (chosen.len(), selector) {
        (0, None) => Err(missing("there is no image in it".to_owned())),
        (0, Some(Selector::Tag(tag))) => Err(missing(format!("there is no image tagged {tag}"))),
        (0, Some(Selector::Index(place))) => {
            let count = index.manifests.len();
            Err(missing(format!("there is no image at place {place}; there are {count}")))
        }
        (1, _) => Ok(chosen),
        // Several are one image where each says which machine it is for.
        _ if chosen.iter().all(|entry| entry.platform.is_some()) && one_name(&chosen) => Ok(chosen),
        (count, _) => {
            let tags = tags(index).join(", ");
            let reason = format!("there are {count} images in it, and none is chosen");
            Err(Error::new(Kind::InvalidInput, READ, subject, reason)
                .with_hint(format!("add :TAG, or :@N for the N-th; there are {tags}")))
        }
    }
}

fn one_name(entries: &[Descriptor]) -> bool {
    let mut names = entries.iter().map(|entry| entry.annotations.get(ANNOTATION_REF_NAME));
    let first = names.next();
    names.all(|name| Some(name) == first)
}

/// Every tag of an index, for messages; an image without one by its place.
fn tags(index: &Index) -> Vec<String> {
    let describe = |(place, entry): (usize, &Descriptor)| match entry.annotations.get(ANNOTATION_REF_NAME) {
        Some(tag) => tag.escape_debug().to_string(),
        None => format!("@{place}"),
    };
    index.manifests.iter().enumerate().map(describe).take(20).collect()
}

fn names(entries: &[Descriptor]) -> Vec<ImageName> {
    let mut names = Vec::new();
    for entry in entries {
        let full = entry.annotations.get(ANNOTATION_CONTAINERD_NAME);
        // A bare tag is no name.
        let tag = entry.annotations.get(ANNOTATION_REF_NAME).filter(|tag| tag.contains([':', '/']));
        for name in [full, tag].into_iter().flatten().filter_map(|text| text.parse().ok()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Signatures, attestations and the like, which lie beside images.
fn is_attachment(entry: &Descriptor) -> bool {
    entry.platform.as_ref().is_some_and(Platform::is_unknown)
        || entry.annotations.contains_key("vnd.docker.reference.type")
}

struct Search<'a> {
    blobs: &'a dyn Blobs,
    subject: &'a str,
    platform: &'a Platform,
    documents: usize,
    /// Manifests that may be meant, with how well they suit; none where only the configuration can tell.
    found: Vec<(Descriptor, Option<u32>)>,
    /// What there is, for the message.
    offered: Vec<String>,
}

impl Search<'_> {
    fn read(&mut self, entry: &Descriptor) -> Result<Document> {
        self.documents += 1;
        if self.documents > MAX_DOCUMENTS {
            return Err(bad(self.subject, format!("more than {MAX_DOCUMENTS} documents to find one image")));
        }
        let subject = format!("{} in {}", entry.digest, self.subject);
        Document::parse(blobs::document(self.blobs, entry, &subject)?, Some(&entry.media_type), &subject)
    }

    fn walk(&mut self, entries: &[Descriptor], depth: usize) -> Result<()> {
        use crate::media::{DocumentType, document_type};
        if depth > MAX_DEPTH {
            return Err(bad(self.subject, format!("indexes are nested more than {MAX_DEPTH} deep")));
        }
        for entry in entries {
            if is_attachment(entry) {
                continue;
            }
            let kind = match document_type(&entry.media_type, self.subject) {
                Ok(kind) => kind,
                // Something else may lie beside images in an index; alone it is what was asked for.
                Err(error) if entries.len() == 1 => return Err(error),
                Err(_) => continue,
            };
            let rank = match &entry.platform {
                None => None,
                Some(offered) => match self.platform.suits(offered) {
                    Some(rank) => Some(rank),
                    // Named by `index.json` itself it is what was asked for.
                    None if depth == 0 && entries.len() == 1 => None,
                    None => {
                        self.offered.push(offered.to_string());
                        continue;
                    }
                },
            };
            match kind {
                DocumentType::Manifest(_) => self.found.push((entry.clone(), rank)),
                DocumentType::Index(_) => match self.read(entry)? {
                    Document::Index(nested) => self.walk(&nested.manifests, depth + 1)?,
                    Document::Manifest(_) => return Err(bad(self.subject, "an index was promised")),
                },
            }
        }
        Ok(())
    }

    /// The manifest that suits best; `direct` takes the only one there is, whatever it is for.
    fn best(mut self, direct: bool) -> Result<(Manifest, Config)> {
        let ranked = self.found.iter().filter_map(|(entry, rank)| Some((rank.as_ref()?, entry)));
        // Among equals the first one counts, as it does for docker and containerd.
        let best = ranked.rev().max_by_key(|(rank, _)| **rank).map(|(_, entry)| entry.clone());
        if let Some(entry) = best {
            return self.load(&entry);
        }
        let unranked: Vec<_> = self.found.drain(..).map(|(entry, _)| entry).collect();
        if let [only] = unranked.as_slice()
            && direct
            && self.offered.is_empty()
        {
            return self.load(only);
        }
        let mut best: Option<(u32, (Manifest, Config))> = None;
        for entry in unranked {
            let image = self.load(&entry)?;
            match self.platform.suits(image.1.platform()) {
                Some(rank) if best.as_ref().is_none_or(|(known, _)| rank > *known) => {
                    best = Some((rank, image))
                }
                Some(_) => {}
                None => self.offered.push(image.1.platform().to_string()),
            }
        }
        if let Some((_, image)) = best {
            return Ok(image);
        }
        self.offered.sort();
        self.offered.dedup();
        let offered = self.offered.join(", ");
        let reason = format!("there is no image for {}", self.platform);
        let error = Error::new(Kind::NotFound, READ, self.subject, reason);
        Err(if offered.is_empty() {
            error
        } else {
            error.with_hint(format!("there are images for {offered}"))
        })
    }

    fn load(&mut self, entry: &Descriptor) -> Result<(Manifest, Config)> {
        let Document::Manifest(manifest) = self.read(entry)? else {
            return Err(bad(self.subject, "a manifest was promised"));
        };
        let subject = format!("configuration {} in {}", manifest.config().digest, self.subject);
        let config = Config::parse(blobs::document(self.blobs, manifest.config(), &subject)?)?;
        check_layers(config.diff_ids(), manifest.layers().len(), &subject)?;
        Ok((*manifest, config))
    }
}

/// Refuses an image whose configuration does not name each of its layers.
pub(crate) fn check_layers(diff_ids: &[Digest], layers: usize, subject: &str) -> Result<()> {
    if diff_ids.len() == layers {
        return Ok(());
    }
    Err(bad(subject, format!("it names {} diff IDs, but the image has {layers} layers", diff_ids.len())))
}
