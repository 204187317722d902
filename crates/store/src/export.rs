//! Writing images, containers and layers out.
//!
//! A layer's tar is put together from its record and the files of its view, mounted where nobody sees it, or
//! comes from the blob that was kept. Its diff ID is compared before the destination makes it visible.

use std::collections::HashMap;
use std::io::{BufReader, Write};

use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::{Code, Context, Digest, Limits, RelPath, record};
use layerstore_driver::mount::DetachedMount;
use layerstore_driver::{Base, DriverExt as _, LayerId, PlanOptions};
use layerstore_image::{CreateOptions, Descriptor, ImageDestination, LayerWriter, Manifest, Reference};
use layerstore_sys::{self as sys, Dir, File};

use crate::db::images;
use crate::db::layers::{Kept, LayerRow};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::files;
use crate::images::PULL_AGAIN;
use crate::lookup;
use crate::model::{LayerProgress, LayerStage, PushOptions};
use crate::session::Session;
use crate::store::Store;
use crate::way::Way;

const OPERATION: &str = "push";

impl Store {
    /// Writes an image to a transport, each layer verified against its diff ID before the destination commits.
    /// Returns the digest of the manifest written.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Kind::Corrupt) when a layer no longer gives its diff ID.
    pub fn push(
        &self,
        image: &str,
        destination: &str,
        options: &PushOptions,
        context: &Context,
    ) -> Result<Digest> {
        let reference = destination.parse::<Reference>().explain(OPERATION, destination)?;
        let mut create = CreateOptions::default();
        create.compression = options.compression;
        let (row, _) = self.find_image_layers(OPERATION, image)?;
        let destination = layerstore_image::create(&reference, &create).explain(OPERATION, destination)?;
        self.push_to(&row.id.to_string(), destination, options, context)
    }

    /// Writes an image to a destination that is open: as [`Store::push`], to a transport of the caller's own.
    ///
    /// # Errors
    /// As [`Store::push`].
    pub fn push_to(
        &self,
        image: &str,
        mut destination: Box<dyn ImageDestination>,
        options: &PushOptions,
        context: &Context,
    ) -> Result<Digest> {
        let (row, layers) = self.find_image_layers(OPERATION, image)?;
        let holds = layers.iter().map(|row| row.layer.id.to_string());
        let holds: Vec<String> = holds.chain([row.id.to_string()]).collect();
        let session = Session::begin(self, OPERATION, &holds)?;
        let names = self.database().read(OPERATION, |connection| images::names(connection, &row.id))?;
        let config = self.read_config(OPERATION, &row.id)?;
        let count = layers.len();
        let mut descriptors = Vec::with_capacity(count);
        for (index, layer) in layers.iter().enumerate() {
            let progress = LayerProgress {
                index,
                count,
                diff_id: diff_id(OPERATION, layer)?,
                stage: LayerStage::Moving,
                bytes: 0,
                total: layer.layer.tar_size,
            };
            descriptors.push(self.push_layer(&mut *destination, layer, progress, options, context)?);
        }
        let format = destination.format();
        let described = Descriptor::of(format.config(), config.raw());
        let manifest = match self.read_manifest(&row)? {
            Some(bytes) => Manifest::parse(bytes)
                .and_then(|manifest| manifest.with_blobs(format, described, descriptors))
                .explain(OPERATION, row.id)
                .map_err(|error| error.with_hint(PULL_AGAIN))?,
            None => Manifest::new(format, described, descriptors).explain(OPERATION, row.id)?,
        };
        context.check().explain(OPERATION, row.id)?;
        let digest = destination.finish(&manifest, &config, &names).explain(OPERATION, row.id)?;
        drop(session);
        Ok(digest)
    }

    fn push_layer(
        &self,
        destination: &mut dyn ImageDestination,
        layer: &LayerRow,
        mut progress: LayerProgress,
        options: &PushOptions,
        context: &Context,
    ) -> Result<Descriptor> {
        let diff_id = progress.diff_id;
        options.watcher.tell(&progress);
        if let Some(there) = self.there_already(destination, layer)? {
            progress.stage = LayerStage::Exists;
            options.watcher.tell(&progress);
            return Ok(there);
        }
        if let Some(written) = self.push_blob(OPERATION, destination, layer, context)? {
            progress.stage = LayerStage::Done;
            options.watcher.tell(&progress);
            return Ok(written);
        }
        let mut writer = LayerWriter::new(destination, diff_id).explain(OPERATION, diff_id)?;
        let mut counted = Counted { out: &mut writer, progress: &mut progress, told: 0, options };
        self.write_layer(OPERATION, layer, &mut counted, context)?;
        let descriptor = writer.finish().map_err(|error| match error.code() {
            Some(Code::DigestMismatch) => damaged(OPERATION, layer, error.reason()),
            _ => Error::image(OPERATION, diff_id.to_string(), error),
        })?;
        progress.stage = LayerStage::Done;
        options.watcher.tell(&progress);
        Ok(descriptor)
    }

    /// The blob that the layer came in, where the destination has it and wants that compression.
    fn there_already(
        &self,
        destination: &mut dyn ImageDestination,
        layer: &LayerRow,
    ) -> Result<Option<Descriptor>> {
        let (Some(digest), Some(size), Some(media_type)) =
            (layer.layer.blob_digest, layer.layer.blob_size, &layer.layer.media_type)
        else {
            return Ok(None);
        };
        let came = Descriptor::new(media_type.as_str().into(), digest, size);
        let Ok(compression) = came.compression() else { return Ok(None) };
        if compression != destination.compression()
            || destination.blob_size(&digest).explain(OPERATION, digest)? != Some(size)
        {
            return Ok(None);
        }
        Ok(Some(Descriptor::new(destination.format().layer(compression), digest, size)))
    }

    /// Writes a layer's tar, byte for byte as it came. The caller compares the digest.
    pub(crate) fn write_layer(
        &self,
        operation: &'static str,
        layer: &LayerRow,
        out: &mut dyn Write,
        context: &Context,
    ) -> Result<()> {
        let id = &layer.layer.id;
        match layer.kept {
            Some(Kept::Record) => {
                let name = files::record_name(id);
                let record = self.folders().records.open_file(name.as_bytes()).map_err(|error| {
                    if error.is_not_found() {
                        damaged(operation, layer, "the record of its tar is missing")
                    } else {
                        Error::system(operation, id.as_str(), error)
                    }
                })?;
                let places = self.read_places(id)?;
                let (root, _mount) = self.open_view(operation, id)?;
                let mut tree = Tree { way: Way::new(root), places };
                let mut open = |name: &[u8]| {
                    context.check()?;
                    tree.open(name)
                };
                record::assemble(BufReader::with_capacity(128 << 10, record), &mut open, out)
                    .map_err(|error| unreadable(operation, layer, error))?;
                Ok(())
            }
            Some(Kept::Blob) => {
                let blob = self.folders().blobs.open_file(id.as_str().as_bytes()).map_err(|error| {
                    if error.is_not_found() {
                        damaged(operation, layer, "the blob that it came in is missing")
                    } else {
                        Error::system(operation, id.as_str(), error)
                    }
                })?;
                let blob = BufReader::with_capacity(256 << 10, blob);
                let mut tar = Decompressor::detect(blob, &Limits::default())
                    .map_err(|error| unreadable(operation, layer, error))?;
                std::io::copy(&mut tar, out)
                    .map_err(|error| layerstore_changeset::Error::stream("copying the layer's tar", error))
                    .map_err(|error| unreadable(operation, layer, error))?;
                Ok(())
            }
            None => Err(damaged(operation, layer, "nothing gives its tar back")),
        }
    }

    /// Writes the tar that a layer of an image came in, byte for byte, and compares its digest at the end.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Kind::Corrupt) when the layer no longer gives its diff ID: what was written is not it.
    pub fn layer_tar(&self, layer: &str, out: &mut dyn Write, context: &Context) -> Result<()> {
        const OPERATION: &str = "layer tar";
        let row =
            self.database().read(OPERATION, |connection| lookup::layer(connection, OPERATION, layer))?;
        self.write_verified(OPERATION, &row, out, context)
    }

    /// A layer's view, mounted where nobody sees it.
    pub(crate) fn open_view(&self, operation: &'static str, id: &LayerId) -> Result<(Dir, DetachedMount)> {
        let mount = self.driver().mount_detached(id, &PlanOptions::default()).explain(operation, id)?;
        let fd = mount.fd().try_clone().map_err(|error| {
            Error::new(Kind::System, operation, id.as_str(), error.to_string()).with_source(error)
        })?;
        Ok((Dir::from_fd(fd, id.as_str()).open_dir(b".").explain(operation, id)?, mount))
    }

    /// Writes a container's merged tree as one tar; returns its size in bytes.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound), those of the writer.
    pub fn export(&self, container: &str, out: &mut dyn Write, context: &Context) -> Result<u64> {
        const OPERATION: &str = "export";
        let found = self.find_container(OPERATION, container)?;
        let mut counting = Counting { out, bytes: 0 };
        self.write_diff(OPERATION, &found.layer, Base::Empty, &mut counting, context)?;
        Ok(counting.bytes)
    }
}

fn diff_id(operation: &'static str, layer: &LayerRow) -> Result<Digest> {
    layer.layer.diff_id.ok_or_else(|| damaged(operation, layer, "its diff ID is not known"))
}

pub(crate) fn damaged(operation: &'static str, layer: &LayerRow, message: &str) -> Error {
    let what = layer.layer.diff_id.map_or_else(|| layer.layer.id.to_string(), |id| id.to_string());
    Error::new(Kind::Corrupt, operation, what, message).with_layer(&layer.layer.id).with_hint(
        "files of the layer were modified or lost; `layerstore check` says which, then pull it again",
    )
}

/// A tree that is not what the record says is damage, anything else what it is.
fn unreadable(operation: &'static str, layer: &LayerRow, error: layerstore_changeset::Error) -> Error {
    use layerstore_changeset::Error as E;
    match &error {
        // Everything that the store keeps was accepted when it came in.
        E::Refused { .. } => damaged(operation, layer, &error.to_string()),
        E::System(cause)
            if matches!(cause.errno(), sys::Errno::NOENT | sys::Errno::NOTDIR | sys::Errno::LOOP) =>
        {
            damaged(operation, layer, &error.to_string())
        }
        _ => Error::changeset(operation, layer.layer.id.as_str(), error),
    }
}

/// Opens files of a view by the names that a record has for them. Nothing is followed: where a name leads
/// through a symlink, the list of places says where the entry lies.
struct Tree {
    way: Way,
    places: HashMap<RelPath, RelPath>,
}

impl Tree {
    fn open(&mut self, name: &[u8]) -> layerstore_changeset::Result<File> {
        let name = RelPath::clean(name)?;
        let place = self.places.get(&name).unwrap_or(&name).clone();
        let mut parts: Vec<&[u8]> = place.components().collect();
        let Some(file) = parts.pop() else {
            return Err(sys::Error::new("openat", "\"/\"", sys::Errno::ISDIR).into());
        };
        self.way.enter(&parts)?;
        Ok(self.way.here().open_file(file)?)
    }
}

/// Counts bytes and tells the watcher.
struct Counted<'a, 'b> {
    out: &'a mut LayerWriter<'b>,
    progress: &'a mut LayerProgress,
    told: u64,
    options: &'a PushOptions,
}

impl Write for Counted<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.progress.bytes += count as u64;
        if self.progress.bytes - self.told >= 1 << 20 {
            self.told = self.progress.bytes;
            self.options.watcher.tell(self.progress);
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Counts bytes.
struct Counting<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
