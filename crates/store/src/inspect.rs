//! What `inspect` prints: images and containers in the shape that docker's tools expect.

use layerstore_changeset::Digest;
use serde_json::{Map, Value, json};

use crate::db::{images, layers};
use crate::error::{Explain as _, Result};
use crate::lookup;
use crate::model::{Container, timestamp};
use crate::store::Store;

const OPERATION: &str = "inspect";

impl Store {
    /// What `inspect` prints of an image or a container, in docker's shape: for an image `Id`, `RepoTags`,
    /// `RootFS.Layers` (diff IDs), `GraphDriver` …; for a container `Id`, `Name`, `Image`, `GraphDriver`,
    /// `Mounts` … A container wins where both fit.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn inspect(&self, name: &str) -> Result<Value> {
        let container = self
            .database()
            .read(OPERATION, |connection| lookup::find_container(connection, OPERATION, name))?;
        match container {
            Some(found) => self.inspect_container(&self.container(&found.id)?),
            None => self.inspect_image(name),
        }
    }

    fn inspect_image(&self, name: &str) -> Result<Value> {
        let image = self.image(name)?;
        let (tags, digests): (Vec<_>, Vec<_>) = image.names.iter().partition(|name| name.digest().is_none());
        let text = |key: &str| image.config.get(key).cloned().unwrap_or_else(|| json!(""));
        let diff_ids: Vec<Option<Digest>> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let history = image.config.get("history").and_then(Value::as_array);
        let comment =
            history.and_then(|steps| steps.last()?.get("comment").cloned()).unwrap_or_else(|| json!(""));
        Ok(json!({
            "Id": image.id,
            "RepoTags": tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "RepoDigests": digests.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "Parent": image.parent.map(|id| id.to_string()).unwrap_or_default(),
            "Comment": comment,
            "Created": text("created"),
            "Author": text("author"),
            "Architecture": text("architecture"),
            "Variant": text("variant"),
            "Os": text("os"),
            "Size": image.size,
            "Config": image.config.get("config").cloned().unwrap_or(Value::Null),
            "RootFS": { "Type": "layers", "Layers": diff_ids },
            "GraphDriver": graph_driver(&image.driver, &image.driver_data),
            "Layers": image.layers,
        }))
    }

    fn inspect_container(&self, container: &Container) -> Result<Value> {
        let data = self.driver().metadata(&container.layer).explain(OPERATION, &container.id)?;
        let (row, image) = self.database().read(OPERATION, |connection| {
            let row = layers::get(connection, container.layer.as_str())?;
            Ok((row, images::get(connection, &container.image)?))
        })?;
        Ok(json!({
            "Id": container.id,
            "Name": container.name.clone().unwrap_or_default(),
            "Created": timestamp(container.created),
            "Image": container.image,
            "ImageName": container.image_name,
            "ImagePresent": image.is_some(),
            "SizeLimit": container.size_limit,
            "Labels": container.labels,
            "Mounted": container.mounted,
            "Mounts": container.mounts,
            "GraphDriver": graph_driver(self.driver().name(), &data),
            "Layer": row.map(|row| row.layer),
        }))
    }
}

fn graph_driver(name: &str, data: &[(String, String)]) -> Value {
    let data: Map<String, Value> =
        data.iter().map(|(label, path)| (label.clone(), Value::from(path.as_str()))).collect();
    json!({ "Name": name, "Data": data })
}
