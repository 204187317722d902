//! Images: lists, details and names.

use layerstore_changeset::{Code, Digest};
use layerstore_driver::{Kind, LayerId};
use layerstore_image::{Config, ImageName, ImageSource, Manifest};

use crate::db::images::ImageRow;
use crate::db::layers::LayerRow;
use crate::db::{Durability, containers, images, layers};
use crate::error::{Error, Explain as _, Result};
use crate::lookup;
use crate::model::{HistoryLine, Image, ImageSummary};
use crate::store::Store;

/// What a person can do about damaged documents of an image.
pub(crate) const PULL_AGAIN: &str = "pull the image again: that writes it anew";

impl Store {
    /// Every image, the newest first.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        self.database().read("images", |connection| {
            // Three queries, however many images there are.
            let (mut names, containers) =
                (images::all_names(connection)?, containers::per_image(connection)?);
            let summary = |image: ImageRow| ImageSummary {
                names: names.remove(&image.id).unwrap_or_default(),
                containers: containers.get(&image.id).copied().unwrap_or(0),
                id: image.id,
                created: image.created,
                stored: image.stored,
                size: image.size,
            };
            Ok(images::all(connection)?.into_iter().map(summary).collect())
        })
    }

    /// One image, by name, ID or unique prefix of an ID.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an ambiguous prefix.
    pub fn image(&self, image: &str) -> Result<Image> {
        const OPERATION: &str = "inspect";
        let (row, names, layers) = self.database().read(OPERATION, |connection| {
            let row = lookup::image(connection, OPERATION, image)?;
            let names = images::names(connection, &row.id)?;
            let layers = layers::of_image(connection, &row.id)?;
            Ok((row, names, layers))
        })?;
        let driver_data = match layers.last() {
            Some(top) => self.driver().metadata(&top.layer.id).explain(OPERATION, image)?,
            None => Vec::new(),
        };
        let config = self.read_config(OPERATION, &row.id)?;
        let manifest = self.read_manifest(&row)?;
        Ok(Image {
            id: row.id,
            names,
            parent: row.parent,
            stored: row.stored,
            size: row.size,
            config: serde_json::Value::Object(config.document().clone()),
            manifest: manifest.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            layers: layers.into_iter().map(|row| row.layer).collect(),
            driver: self.driver().name().to_owned(),
            driver_data,
        })
    }

    /// A line per build step, the newest first.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn history(&self, image: &str) -> Result<Vec<HistoryLine>> {
        const OPERATION: &str = "history";
        let (row, layers) = self.find_image_layers(OPERATION, image)?;
        let config = self.read_config(OPERATION, &row.id)?;
        let ids: Vec<LayerId> = layers.iter().map(|row| row.layer.id.clone()).collect();
        let counts = self.database().read(OPERATION, |connection| {
            ids.iter()
                .map(|id| Ok(images::of_layer(connection, id)?.len() as u64))
                .collect::<Result<Vec<_>>>()
        })?;
        let mut layers = layers.into_iter().zip(counts);
        let line = |layer: Option<(LayerRow, u64)>| {
            let (row, shared_by) = layer.unzip();
            (row.as_ref().and_then(|row| row.layer.diff_id), size(&row), shared_by.unwrap_or(0))
        };
        let mut lines: Vec<HistoryLine> = Vec::new();
        for step in config.history() {
            let (diff_id, size, shared_by) = line(if step.empty_layer { None } else { layers.next() });
            lines.push(HistoryLine {
                created: step.created.clone(),
                created_by: step.created_by.clone(),
                author: step.author.clone(),
                comment: step.comment.clone(),
                diff_id,
                size,
                shared_by,
            });
        }
        // Some builders leave the history out; the layers are there all the same.
        for layer in layers {
            let (diff_id, size, shared_by) = line(Some(layer));
            lines.push(HistoryLine {
                created: None,
                created_by: None,
                author: None,
                comment: None,
                diff_id,
                size,
                shared_by,
            });
        }
        lines.reverse();
        Ok(lines)
    }

    /// Gives an image a name; a name that another image has moves to this one.
    ///
    /// # Errors
    /// As [`Store::image`]; [`InvalidInput`](crate::Kind::InvalidInput) for a name that is none, and for one with a
    /// digest: such names are those of manifests, and come with a pull.
    pub fn tag(&self, image: &str, name: &str) -> Result<ImageName> {
        const OPERATION: &str = "tag";
        let name = parse_tag(OPERATION, name)?;
        let mut renamed = Vec::new();
        self.database().write(OPERATION, Durability::Full, |transaction| {
            let row = lookup::image(transaction, OPERATION, image)?;
            renamed.extend(images::named(transaction, &name)?);
            renamed.push(row.id);
            images::set_name(transaction, &name, &row.id)
        })?;
        self.follow_names(&renamed);
        Ok(name)
    }

    /// Takes a name away; the image stays.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) for a name that no image has.
    pub fn untag(&self, name: &str) -> Result<ImageName> {
        const OPERATION: &str = "untag";
        let parsed = parse_name(OPERATION, name)?;
        let image = self.database().write(OPERATION, Durability::Full, |transaction| {
            let Some(image) = images::named(transaction, &parsed)? else {
                let message = format!("no image is called {parsed}");
                return Err(Error::new(Kind::NotFound, OPERATION, name, message));
            };
            images::remove_name(transaction, &parsed)?;
            Ok(image)
        })?;
        self.follow_names(&[image]);
        Ok(parsed)
    }

    /// An image with its layers, from the base upwards.
    pub(crate) fn find_image_layers(
        &self,
        operation: &'static str,
        image: &str,
    ) -> Result<(ImageRow, Vec<LayerRow>)> {
        self.database().read(operation, |connection| {
            let row = lookup::image(connection, operation, image)?;
            let layers = layers::of_image(connection, &row.id)?;
            Ok((row, layers))
        })
    }

    /// The manifest that an image came with; none where it came with none, or lost it.
    pub(crate) fn read_manifest(&self, image: &ImageRow) -> Result<Option<Vec<u8>>> {
        match self.read_image_file(&image.id, "manifest.json") {
            // It came with none.
            Err(_) if image.manifest_digest.is_none() => Ok(None),
            Ok(Some(bytes)) if image.manifest_digest.is_none() => {
                Ok(Manifest::parse(bytes.clone()).is_ok().then_some(bytes))
            }
            read => read.map_err(|error| error.with_hint(PULL_AGAIN)),
        }
    }

    /// The configuration of an image, checked against its ID.
    pub(crate) fn read_config(&self, operation: &'static str, image: &Digest) -> Result<Config> {
        let damaged = |message: &str| {
            Error::new(Kind::Corrupt, operation, image.to_string(), message).with_hint(PULL_AGAIN)
        };
        let bytes = self.read_image_file(image, "config.json")?;
        let bytes = bytes.ok_or_else(|| damaged("the image's configuration is missing"))?;
        if Digest::of(&bytes) != *image {
            return Err(damaged("the image's configuration is not what it was"));
        }
        Config::parse(bytes).explain(operation, image)
    }
}

fn size(layer: &Option<LayerRow>) -> u64 {
    layer.as_ref().and_then(|row| row.layer.size).unwrap_or(0)
}

/// A name that a person gave.
pub(crate) fn parse_name(operation: &'static str, name: &str) -> Result<ImageName> {
    name.parse::<ImageName>().explain(operation, name)
}

/// A name that a person gives an image of the store, which says nothing of a manifest.
pub(crate) fn parse_tag(operation: &'static str, name: &str) -> Result<ImageName> {
    let parsed = parse_name(operation, name)?;
    if parsed.digest().is_some() {
        let message = "refusing to create a tag with a digest reference";
        return Err(Error::new(Kind::InvalidInput, operation, name, message)
            .with_hint("leave out what begins with `@`"));
    }
    Ok(parsed)
}

/// The names that an image gets that is pulled: those that were `given`, or else the source's own. A digest in a name
/// is that of the manifest; a name that claims another is refused where somebody gave it, and left out where only the
/// source says so.
pub(crate) fn pulled_names(
    operation: &'static str,
    source: &dyn ImageSource,
    given: &[String],
    warnings: &mut Vec<String>,
) -> Result<Vec<ImageName>> {
    let manifest = source.manifest().map(Manifest::digest);
    let wrong = |name: &ImageName| {
        let asked = name.digest().filter(|asked| manifest != Some(**asked))?;
        Some(match manifest {
            Some(manifest) => {
                format!("the name {name} asks for the manifest {asked}, but the image's is {manifest}")
            }
            None => format!("the name {name} asks for the manifest {asked}, but the source has none"),
        })
    };
    if given.is_empty() {
        let mut names = source.names().to_vec();
        names.retain(|name| match wrong(name) {
            Some(why) => {
                warnings.push(format!("{why}: it does not get this name"));
                false
            }
            None => true,
        });
        return Ok(names);
    }
    let check = |text: &String| {
        let name = parse_name(operation, text)?;
        match wrong(&name) {
            Some(why) => Err(Error::new(Kind::InvalidInput, operation, text, why)
                .with_code(Code::DigestMismatch)
                .with_hint("name it by a tag, or by its own digest")),
            None => Ok(name),
        }
    };
    given.iter().map(check).collect()
}
