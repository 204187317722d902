//! What writing a layout means, whether into a directory or into a tar.

use layerstore_changeset::Code;
use oci_spec::image::ANNOTATION_REF_NAME;

use crate::config::Config;
use crate::destination::{ImageDestination, WRITE};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Index, Manifest};
use crate::name::ImageName;
use crate::reference::Selector;
use crate::resolve::{ANNOTATION_CONTAINERD_NAME, check_layers};

/// An image as an index is to name it.
pub(crate) struct Tagged<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) config: &'a Config,
    pub(crate) tag: Option<&'a str>,
    pub(crate) names: &'a [ImageName],
}

/// The tag to write; a place cannot be written to.
pub(crate) fn tag_of(selector: Option<&Selector>, subject: &str) -> Result<Option<String>> {
    match selector {
        None => Ok(None),
        Some(Selector::Tag(tag)) => Ok(Some(tag.clone())),
        Some(Selector::Index(_)) => {
            let reason = "an image is written under a tag, not at a place";
            Err(Error::new(Kind::InvalidInput, WRITE, subject, reason))
        }
    }
}

/// The names that an image gets in a layout: the one that was asked for as its tag, if that is a whole name; of those
/// it has the ones that a bare tag fits, by tag or by repository; all where nothing was asked for. Who loads the
/// layout gives these names to the image, so that a name which nobody asked for would take it from another image.
pub(crate) fn asked(tag: Option<&str>, names: &[ImageName]) -> Vec<ImageName> {
    match tag {
        None => names.to_vec(),
        Some(tag) if tag.contains([':', '/']) => tag.parse().into_iter().collect(),
        Some(tag) => {
            let last = |name: &ImageName| name.repository().rsplit('/').next() == Some(tag);
            names.iter().filter(|name| name.tag() == Some(tag) || last(name)).cloned().collect()
        }
    }
}

/// Refuses to publish what is not complete: every layer is there, and the three documents belong together.
pub(crate) fn compose(
    destination: &mut dyn ImageDestination,
    manifest: &Manifest,
    config: &Config,
) -> Result<()> {
    let subject = format!("manifest {}", manifest.digest());
    let refuse = |reason: String| Err(Error::new(Kind::InvalidInput, WRITE, &subject, reason));
    if manifest.format() != destination.format() {
        return refuse("this transport holds manifests of the other format".to_owned());
    }
    let (named, is) = (manifest.config().digest, config.image_id());
    if named != is {
        return refuse(format!("it names the configuration {named}, but {is} was given"));
    }
    check_layers(config.diff_ids(), manifest.layers().len(), &subject)?;
    for layer in manifest.layers() {
        match destination.blob_size(&layer.digest)? {
            Some(size) if size == layer.size => {}
            Some(size) => {
                let reason = format!("blob {} has {size} bytes, not {}", layer.digest, layer.size);
                return Err(Error::refused(Code::SizeMismatch, WRITE, subject, reason));
            }
            None => return refuse(format!("blob {} was not written", layer.digest)),
        }
    }
    Ok(())
}

/// Puts an image into an index, in place of the one that had its tag.
pub(crate) fn tag_index(index: &mut Index, image: &Tagged<'_>) {
    let mut entry = image.manifest.descriptor();
    let platform = image.config.platform();
    if !platform.os.is_empty() && !platform.architecture.is_empty() {
        entry.platform = Some(platform.clone());
    }
    if let Some(tag) = image.tag {
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag.to_owned());
    }
    if let Some(name) = image.names.first() {
        entry.annotations.insert(ANNOTATION_CONTAINERD_NAME.to_owned(), name.canonical());
    }
    let digest = entry.digest;
    let replaced = |known: &crate::manifest::Descriptor| {
        let known_tag = known.annotations.get(ANNOTATION_REF_NAME).map(String::as_str);
        match image.tag {
            Some(tag) => known_tag == Some(tag),
            // Written without a tag, the same image is there once.
            None => known_tag.is_none() && known.digest == digest,
        }
    };
    // One tag names one image from now on, also where it named several before.
    let place = index.manifests.iter().position(replaced).unwrap_or(index.manifests.len());
    index.manifests.retain(|known| !replaced(known));
    index.manifests.insert(place, entry);
}
