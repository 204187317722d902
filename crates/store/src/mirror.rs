//! Records beside the data: what the database says, again, one file for each thing, so that a lost database can be
//! made again.
//!
//! ```text
//! records/LAYER.json         a layer: its place in the chain, digests, sizes            see [`LayerRecord`]
//! images/HEX/image.json      an image and its layers                                    see [`ImageRecord`]
//! images/HEX/names.json      {"version":1,"names":[…]}
//! containers/LAYER.json      a container, by its layer                                  see [`ContainerRecord`]
//! ```
//!
//! The database decides; these follow it. Those of an image are written before its data is made durable, so they
//! are durable with it. Later changes are written right after the transaction, without waiting for the disk; what a
//! power cut tears is made again when the store is opened first after a boot.

use std::collections::BTreeMap;

use layerstore_changeset::Digest;
use layerstore_driver::LayerId;
use layerstore_sys::lock::{Lock, Mode};
use layerstore_sys::{self as sys, Dir};

use crate::db::images::{self, ImageRow};
use crate::db::layers::{Completed, Kept, LayerOrigin, LayerRow};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::files;
use crate::model::{Container, Layer, LayerKind, LayerState};
use crate::store::Store;

const OPERATION: &str = "write record";
/// The name of an image's record, in its folder.
pub(crate) const IMAGE: &str = "image.json";
/// The version that this program writes and the only one it reads.
const VERSION: u32 = 1;
/// Longest record that is read, in bytes: labels may be long.
const LARGEST: usize = 16 << 20;

/// What `records/LAYER.json` holds.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct LayerRecord {
    version: u32,
    pub(crate) id: LayerId,
    pub(crate) parent: Option<LayerId>,
    chain_id: Option<Digest>,
    diff_id: Option<Digest>,
    origin: String,
    labels: BTreeMap<String, String>,
    created: i64,
    updated: i64,
    size: Option<u64>,
    disk_bytes: Option<u64>,
    inodes: Option<u64>,
    tar_size: Option<u64>,
    kept: Option<String>,
    blob_digest: Option<Digest>,
    blob_size: Option<u64>,
    media_type: Option<String>,
    sync: String,
}

/// What `images/HEX/image.json` holds.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ImageRecord {
    version: u32,
    pub(crate) id: Digest,
    parent: Option<Digest>,
    created: Option<String>,
    stored: i64,
    size: u64,
    manifest_digest: Option<Digest>,
    /// From the base upwards.
    pub(crate) layers: Vec<LayerId>,
}

/// What `images/HEX/names.json` holds.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct NamesRecord {
    version: u32,
    pub(crate) names: Vec<String>,
}

/// What `containers/LAYER.json` holds.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ContainerRecord {
    version: u32,
    id: String,
    name: Option<String>,
    image: Digest,
    image_name: Option<String>,
    pub(crate) layer: LayerId,
    pub(crate) parent: Option<LayerId>,
    created: i64,
    size_limit: Option<u64>,
    labels: BTreeMap<String, String>,
}

/// A record of a version.
pub(crate) trait Record: serde::Serialize + serde::de::DeserializeOwned {
    /// The version that it says.
    fn version(&self) -> u32;
}

macro_rules! versioned {
    ($($record:ty),*) => {
        $(impl Record for $record {
            fn version(&self) -> u32 {
                self.version
            }
        })*
    };
}

versioned!(LayerRecord, ImageRecord, NamesRecord, ContainerRecord);

/// The name of a layer's record, and of the record of the container that it belongs to.
pub(crate) fn file_name(id: &LayerId) -> String {
    format!("{id}.json")
}

/// Reads a record; none where there is none that this program understands.
pub(crate) fn read<R: Record>(folder: &Dir, name: &str) -> Option<R> {
    let bytes = folder.open_file(name.as_bytes()).ok()?.read_to_end_limited(LARGEST).ok()?;
    serde_json::from_slice::<R>(&bytes).ok().filter(|record| record.version() == VERSION)
}

/// Writes a record so that everybody sees all of it or what was there before.
pub(crate) fn write(folder: &Dir, name: &str, record: &impl Record) -> Result<()> {
    let mut bytes = serde_json::to_vec(record)
        .map_err(|error| Error::new(Kind::System, OPERATION, name, error.to_string()))?;
    bytes.push(b'\n');
    files::make_room(folder, name).explain(OPERATION, name)?;
    sys::fs::replace(folder, name.as_bytes(), &bytes, 0o600).explain(OPERATION, name)
}

impl LayerRecord {
    /// The record of a layer.
    pub(crate) fn of(row: &LayerRow) -> Self {
        let layer = row.layer.clone();
        Self {
            version: VERSION,
            id: layer.id,
            parent: layer.parent,
            chain_id: layer.chain_id,
            diff_id: layer.diff_id,
            origin: row.origin.as_str().to_owned(),
            labels: layer.labels,
            created: layer.created,
            updated: layer.updated,
            size: layer.size,
            disk_bytes: layer.disk_bytes,
            inodes: layer.inodes,
            tar_size: layer.tar_size,
            kept: row.kept.map(|kept| kept.as_str().to_owned()),
            blob_digest: layer.blob_digest,
            blob_size: layer.blob_size,
            media_type: layer.media_type,
            sync: row.sync.clone(),
        }
    }

    /// The row of the layer, which the driver has sealed or not.
    pub(crate) fn into_row(self, sealed: bool) -> LayerRow {
        LayerRow {
            layer: Layer {
                id: self.id,
                parent: self.parent,
                chain_id: self.chain_id,
                diff_id: self.diff_id,
                state: LayerState::Ready,
                kind: if sealed { LayerKind::Committed } else { LayerKind::Active },
                labels: self.labels,
                created: self.created,
                updated: self.updated,
                size: self.size,
                disk_bytes: self.disk_bytes,
                inodes: self.inodes,
                tar_size: self.tar_size,
                blob_digest: self.blob_digest,
                blob_size: self.blob_size,
                media_type: self.media_type,
            },
            session: None,
            origin: LayerOrigin::from_word(&self.origin),
            kept: self.kept.as_deref().and_then(Kept::from_word),
            sync: self.sync,
        }
    }
}

impl ImageRecord {
    /// The record of an image over these layers.
    pub(crate) fn of(image: &ImageRow, layers: &[LayerId]) -> Self {
        Self {
            version: VERSION,
            id: image.id,
            parent: image.parent,
            created: image.created.clone(),
            stored: image.stored,
            size: image.size,
            manifest_digest: image.manifest_digest,
            layers: layers.to_vec(),
        }
    }

    /// The row of the image.
    pub(crate) fn row(&self) -> ImageRow {
        ImageRow {
            id: self.id,
            parent: self.parent,
            created: self.created.clone(),
            stored: self.stored,
            size: self.size,
            manifest_digest: self.manifest_digest,
        }
    }
}

impl ContainerRecord {
    /// The record of a container, whose layer stands on `parent`.
    pub(crate) fn of(container: &Container, parent: Option<&LayerId>) -> Self {
        let container = container.clone();
        Self {
            version: VERSION,
            id: container.id,
            name: container.name,
            image: container.image,
            image_name: container.image_name,
            layer: container.layer,
            parent: parent.cloned(),
            created: container.created,
            size_limit: container.size_limit,
            labels: container.labels,
        }
    }

    /// The container.
    pub(crate) fn into_container(self) -> Container {
        Container {
            id: self.id,
            name: self.name,
            image: self.image,
            image_name: self.image_name,
            layer: self.layer,
            created: self.created,
            size_limit: self.size_limit,
            labels: self.labels,
            mounts: Vec::new(),
            mounted: false,
        }
    }
}

impl Store {
    /// Writes the record of a layer that has a row.
    pub(crate) fn write_layer_record(&self, row: &LayerRow) -> Result<()> {
        write(&self.folders().records, &file_name(&row.layer.id), &LayerRecord::of(row))
    }

    /// Writes the record of a layer that is complete, but has no row that says so yet.
    pub(crate) fn write_completed_record(&self, done: &Completed, mut row: LayerRow) -> Result<()> {
        let layer = &mut row.layer;
        layer.chain_id = done.chain_id;
        layer.diff_id = Some(done.diff_id);
        layer.size = Some(done.size);
        layer.disk_bytes = Some(done.usage.bytes);
        layer.inodes = Some(done.usage.inodes);
        layer.tar_size = Some(done.tar_size);
        if let Some((digest, size, media_type)) = &done.blob {
            layer.blob_digest = Some(*digest);
            layer.blob_size = Some(*size);
            layer.media_type = Some(media_type.clone());
        }
        row.kept = Some(done.kept);
        done.sync.clone_into(&mut row.sync);
        self.write_layer_record(&row)
    }

    /// Writes the record of an image, in the folder that holds its documents.
    pub(crate) fn write_image_record(&self, image: &ImageRow, layers: &[LayerId]) -> Result<()> {
        let folder = self.image_folder(&image.id);
        write(&folder.explain(OPERATION, image.id)?, "image.json", &ImageRecord::of(image, layers))
    }

    /// Writes down the names that an image is about to get.
    pub(crate) fn write_first_names(&self, id: &Digest, names: &[layerstore_image::ImageName]) -> Result<()> {
        let folder = self.folders().images.open_dir(id.hex().as_bytes()).explain(OPERATION, id)?;
        let names = names.iter().map(ToString::to_string).collect();
        write(&folder, "names.json", &NamesRecord { version: VERSION, names })
    }

    /// Writes down which names these images have now, or leaves it to somebody who is about to. Who removes an image
    /// removes its folder, so there is nothing to write then.
    pub(crate) fn write_names(&self, of: &[Digest]) -> Result<()> {
        for id in of {
            let open = |name: &[u8]| self.folders().images.open_dir(id.hex().as_bytes())?.open_file(name);
            let folder = match open(b".") {
                Err(error) if error.is_not_found() => continue,
                opened => opened.explain(OPERATION, id)?,
            };
            // Who is next has not looked yet and will see this change, too: in a crowd all but two need not wait. Its
            // lock is on a file that is never replaced while the image is sound; without it everybody waits.
            let next = match open(b"config.json") {
                Err(_) => None,
                Ok(file) => match Lock::attempt(file, Mode::Exclusive).explain(OPERATION, id)? {
                    Ok(next) => Some(next),
                    Err(_) => continue,
                },
            };
            // One after the other, each with what is true then: the last one to write has seen the last change.
            let _turn = Lock::wait(folder, Mode::Exclusive).explain(OPERATION, id)?;
            drop(next);
            let names = self.database().read(OPERATION, |connection| images::names(connection, id))?;
            let names = names.iter().map(ToString::to_string).collect();
            let folder = match self.folders().images.open_dir(id.hex().as_bytes()) {
                Err(error) if error.is_not_found() => continue,
                opened => opened.explain(OPERATION, id)?,
            };
            match write(&folder, "names.json", &NamesRecord { version: VERSION, names }) {
                // The image was removed meanwhile.
                Err(_)
                    if self
                        .folders()
                        .images
                        .try_stat(id.hex().as_bytes())
                        .is_ok_and(|stat| stat.is_none()) => {}
                written => written?,
            }
        }
        Ok(())
    }

    /// Writes down names after a transaction that gave or took them, which is through: what fails here is told and
    /// made good by the next check.
    pub(crate) fn follow_names(&self, of: &[Digest]) {
        if let Err(error) = self.write_names(of) {
            tracing::warn!(%error, "the records of names are behind the database; `check --repair` writes them");
        }
    }

    /// Writes the record of a container that is about to be.
    pub(crate) fn write_container_record(
        &self,
        container: &Container,
        parent: Option<&LayerId>,
    ) -> Result<()> {
        let record = ContainerRecord::of(container, parent);
        write(&self.folders().containers, &file_name(&container.layer), &record)
    }
}
