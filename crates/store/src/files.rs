//! The store's own files beside the database: records, blobs and images' documents.
//!
//! Invariant: a file of a layer is written after the layer's row is there and goes before the row goes, and an
//! image's files are written under a hold; so a file without either is a leftover, whoever looks.

use layerstore_changeset::{Digest, RelPath};
use layerstore_driver::LayerId;
use layerstore_sys::{self as sys, Dir, File};

use crate::error::{Error, Explain as _, ExplainOwn as _, Kind, Result};
use crate::mirror;
use crate::store::Store;

/// Largest file of names that lie elsewhere: two paths for each of a hundred thousand entries would fit.
const LARGEST_PLACES: usize = 1 << 30;

/// The directories of the root, open.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) records: Dir,
    pub(crate) blobs: Dir,
    pub(crate) images: Dir,
    pub(crate) containers: Dir,
    pub(crate) staging: Dir,
}

impl Folders {
    /// Opens them, making what is missing.
    pub(crate) fn open(root: &Dir) -> sys::Result<Self> {
        let open = |name: &str| root.ensure_dir(name.as_bytes(), 0o700);
        Ok(Self {
            records: open("records")?,
            blobs: open("blobs")?,
            images: open("images")?,
            containers: open("containers")?,
            staging: open("staging")?,
        })
    }
}

/// The name of a layer's record.
pub(crate) fn record_name(id: &LayerId) -> String {
    format!("{id}.tar-split.gz")
}

/// The name of the list of a layer's entries that lie elsewhere than they are called.
pub(crate) fn places_name(id: &LayerId) -> String {
    format!("{id}.places")
}

/// The layer that a file of `records/` belongs to.
pub(crate) fn record_owner(name: &str) -> Option<&str> {
    [".tar-split.gz", ".places", ".json"].into_iter().find_map(|suffix| name.strip_suffix(suffix))
}

/// A file of a folder, made anew.
pub(crate) fn create(folder: &Dir, name: &str) -> sys::Result<File> {
    unlink(folder, name)?;
    folder.create_file(name.as_bytes(), 0o600)
}

/// Removes what lies where a file of the store lies or may lie, whatever it is; links are not followed.
pub(crate) fn unlink(folder: &Dir, name: &str) -> sys::Result<()> {
    match folder.unlink(name.as_bytes()) {
        Err(error) if error.errno() == sys::Errno::ISDIR => sys::remove::tree(folder, name.as_bytes()),
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory that lies where a file is to be put by a rename, which takes the place of anything else.
pub(crate) fn make_room(folder: &Dir, name: &str) -> sys::Result<()> {
    match folder.try_stat(name.as_bytes())? {
        Some(stat) if stat.kind == sys::FileType::Directory => sys::remove::tree(folder, name.as_bytes()),
        _ => Ok(()),
    }
}

impl Store {
    /// Removes the records, the list of places and the blob of a layer, and the record of its container.
    pub(crate) fn remove_layer_files(&self, id: &LayerId) -> sys::Result<()> {
        let folders = self.folders();
        unlink(&folders.records, &record_name(id))?;
        unlink(&folders.records, &places_name(id))?;
        unlink(&folders.records, &mirror::file_name(id))?;
        unlink(&folders.containers, &mirror::file_name(id))?;
        unlink(&folders.blobs, id.as_str())
    }

    /// Writes where the entries of a layer lie that do not lie where they are called.
    ///
    /// ```text
    /// NAME NUL PLACE NUL NAME NUL PLACE NUL …      clean relative paths, any bytes but NUL
    /// ```
    pub(crate) fn write_places(&self, id: &LayerId, places: &[(RelPath, RelPath)]) -> Result<()> {
        const OPERATION: &str = "write record";
        use std::io::Write as _;
        if places.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = places
            .iter()
            .flat_map(|(name, place)| [name.as_bytes(), b"\0", place.as_bytes(), b"\0"].concat())
            .collect();
        let name = places_name(id);
        let mut file = create(&self.folders().records, &name).explain(OPERATION, id)?;
        file.write_all(&bytes).map_err(|error| {
            let kind =
                if error.kind() == std::io::ErrorKind::StorageFull { Kind::NoSpace } else { Kind::System };
            Error::new(kind, OPERATION, id.as_str(), error.to_string()).with_source(error)
        })
    }

    /// Reads what [`Store::write_places`] wrote.
    pub(crate) fn read_places(&self, id: &LayerId) -> Result<std::collections::HashMap<RelPath, RelPath>> {
        Ok(self.read_moved(id)?.into_iter().collect())
    }

    /// As [`Store::read_places`], with every place of a name that had several.
    pub(crate) fn read_moved(&self, id: &LayerId) -> Result<Vec<(RelPath, RelPath)>> {
        const OPERATION: &str = "read record";
        let mut file = match self.folders().records.open_file(places_name(id).as_bytes()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            opened => opened.explain(OPERATION, id)?,
        };
        let bytes = file.read_to_end_limited(LARGEST_PLACES).explain(OPERATION, id)?;
        let mut parts = bytes.split(|&byte| byte == 0);
        let mut places = Vec::new();
        while let (Some(name), Some(place)) = (parts.next(), parts.next()) {
            let path = |bytes| RelPath::new(bytes).explain(OPERATION, id);
            places.push((path(name)?, path(place)?));
        }
        Ok(places)
    }

    /// Writes an image's configuration and manifest, not yet durable.
    pub(crate) fn write_image_files(
        &self,
        id: &Digest,
        config: &[u8],
        manifest: Option<&[u8]>,
    ) -> Result<()> {
        const OPERATION: &str = "write image files";
        use std::io::Write as _;
        let folder = self.image_folder(id).explain(OPERATION, id)?;
        let documents = [("config.json", Some(config)), ("manifest.json", manifest)];
        for (name, bytes) in documents.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))) {
            // What is there stays: it is durable, and a second pull waits for no disk.
            if self.read_image_file(id, name).is_ok_and(|found| found.as_deref() == Some(bytes)) {
                continue;
            }
            let temporary = format!(".{name}.{}", LayerId::random().explain(OPERATION, id)?);
            let mut file = folder.create_file(temporary.as_bytes(), 0o600).explain(OPERATION, id)?;
            file.write_all(bytes)
                .map_err(|error| Error::new(Kind::System, OPERATION, id.to_string(), error.to_string()))?;
            if folder.try_stat(name.as_bytes()).explain(OPERATION, id)?.is_some() {
                // A damaged one is replaced: no sync of an image may follow.
                file.sync().explain(OPERATION, id)?;
            }
            make_room(&folder, name).explain(OPERATION, id)?;
            // Two pulls of one image may write the same document at once: the name always holds a whole one.
            folder.rename(temporary.as_bytes(), &folder, name.as_bytes()).explain(OPERATION, id)?;
        }
        Ok(())
    }

    /// The folder of an image's documents, made if it is missing or something else lies in its place.
    pub(crate) fn image_folder(&self, id: &Digest) -> sys::Result<Dir> {
        let (images, hex) = (&self.folders().images, id.hex());
        match images.ensure_dir(hex.as_bytes(), 0o700) {
            Err(error) if error.errno() == sys::Errno::NOTDIR => {
                unlink(images, &hex)?;
                images.ensure_dir(hex.as_bytes(), 0o700)
            }
            made => made,
        }
    }

    /// An image's document (`config.json`, `manifest.json`); none where there is none.
    pub(crate) fn read_image_file(&self, id: &Digest, name: &str) -> Result<Option<Vec<u8>>> {
        const OPERATION: &str = "read image files";
        let open = || self.folders().images.open_dir(id.hex().as_bytes())?.open_file(name.as_bytes());
        match open() {
            Err(error) if error.is_not_found() => Ok(None),
            opened => {
                let mut file = opened.explain_own(OPERATION, id)?;
                file.read_to_end_limited(layerstore_image::MAX_DOCUMENT).explain_own(OPERATION, id).map(Some)
            }
        }
    }

    /// Removes the record of an image that has no row; its documents stay for a container.
    pub(crate) fn remove_image_record(&self, id: &Digest) -> sys::Result<()> {
        match self.folders().images.open_dir(id.hex().as_bytes()) {
            Err(error) if error.is_not_found() => Ok(()),
            opened => unlink(&opened?, mirror::IMAGE),
        }
    }

    /// Removes an image's documents.
    pub(crate) fn remove_image_files(&self, hex: &str) -> sys::Result<()> {
        sys::remove::tree(&self.folders().images, hex.as_bytes())
    }
}
