//! What the tests of the store share: scratch stores on every driver, and images that lie in memory and count
//! how often they are read.
#![allow(dead_code, clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

pub(crate) mod harm;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use layerstore::{Config, Context, Digest, PullOptions, Registry, Store, StoreOptions};
use layerstore_changeset::compress::{Compression, Compressor};
use layerstore_image::{self as image, ImageName, ImageSource, Layer, Manifest, Verify};

/// The drivers that the store is tested on.
pub(crate) fn registry() -> Registry {
    Registry::new().with(layerstore_overlay2::Overlay2).with(layerstore_vfs::Vfs)
}

/// A directory for one test's store, on tmpfs where there is one.
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let base = Path::new("/dev/shm");
        let directory = if base.is_dir() { tempfile::tempdir_in(base) } else { tempfile::tempdir() };
        Self { directory: directory.unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn config(&self, driver: &str) -> Config {
        config_at(self.path(), driver)
    }

    pub(crate) fn open(&self, driver: &str) -> Store {
        open(self.config(driver)).unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("root")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed may have left mounts; they would keep the directory.
        let table =
            String::from_utf8_lossy(&std::fs::read("/proc/self/mounts").unwrap_or_default()).into_owned();
        let own = self.path().to_string_lossy().into_owned();
        for target in table.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if target.starts_with(&own) {
                let _ = std::process::Command::new("umount").args(["-l", target]).status();
            }
        }
    }
}

pub(crate) fn config_at(path: &Path, driver: &str) -> Config {
    Config::at(path.join("root"), path.join("run")).with_driver(driver)
}

pub(crate) fn open(config: Config) -> layerstore::Result<Store> {
    Store::open(StoreOptions { config, registry: registry() })
}

/// A tar with these entries.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header
    }

    pub(crate) fn file(mut self, path: &str, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        let mut header = Self::header(tar::EntryType::Regular, 0o644, data.len() as u64);
        self.0.append_data(&mut header, path, data).unwrap();
        self
    }

    pub(crate) fn dir(mut self, path: &str) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, 0o755, 0);
        self.0.append_data(&mut header, path, std::io::empty()).unwrap();
        self
    }

    pub(crate) fn symlink(mut self, path: &str, target: &str) -> Self {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    pub(crate) fn hard_link(mut self, path: &str, target: &str) -> Self {
        let mut header = Self::header(tar::EntryType::Link, 0o644, 0);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = Compressor::new(Vec::new(), compression, None).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An image in memory.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    config: image::Config,
    layers: Vec<Layer>,
    blobs: Vec<Vec<u8>>,
    tars: Vec<Vec<u8>>,
    manifest: Option<Manifest>,
    /// What the source itself calls it.
    pub(crate) names: Vec<ImageName>,
    /// What was to be verified of each layer that was opened.
    pub(crate) opened: Arc<Mutex<Vec<Verify>>>,
    /// Milliseconds of sleep before each read.
    pub(crate) slow: u64,
    /// A layer that comes to no end for two minutes.
    pub(crate) stuck: Option<usize>,
}

impl Memory {
    /// An image of these tars, compressed with gzip. `salt` makes images of the same layers differ.
    pub(crate) fn new(tars: impl IntoIterator<Item = Vec<u8>>, salt: &str) -> Self {
        let tars: Vec<_> = tars.into_iter().collect();
        let blobs: Vec<_> = tars.iter().map(|tar| compress(tar, Compression::Gzip)).collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let history: Vec<_> = diff_ids
            .iter()
            .map(|id| serde_json::json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("make {id}")}))
            .collect();
        let config = serde_json::json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "author": salt,
            "config": {"Cmd": ["sh"], "Labels": {"salt": salt}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = image::Config::parse(serde_json::to_vec(&config).unwrap()).unwrap();
        let layers = diff_ids.iter().zip(&blobs).map(|(diff_id, blob)| Layer {
            diff_id: *diff_id,
            digest: Some(Digest::of(blob)),
            size: blob.len() as u64,
            media_type: image::MediaType::ImageLayerGzip,
            compression: image::Compression::Gzip,
            annotations: image::Annotations::new(),
        });
        let layers = layers.collect();
        Self {
            config,
            layers,
            blobs,
            tars,
            manifest: None,
            names: Vec::new(),
            opened: Arc::default(),
            slow: 0,
            stuck: None,
        }
    }

    /// The same with a manifest.
    pub(crate) fn with_manifest(mut self) -> Self {
        let config = image::Descriptor::of(image::MediaType::ImageConfig, self.config.raw());
        let blob = |blob: &Vec<u8>| image::Descriptor::of(image::MediaType::ImageLayerGzip, blob);
        let layers = self.blobs.iter().map(blob).collect();
        self.manifest = Some(Manifest::new(image::Format::Oci, config, layers).unwrap());
        self
    }

    /// The digest of its manifest.
    pub(crate) fn digest(&self) -> Digest {
        self.manifest.as_ref().unwrap().digest()
    }

    pub(crate) fn id(&self) -> String {
        self.config.image_id().to_string()
    }

    pub(crate) fn tars(&self) -> &[Vec<u8>] {
        &self.tars
    }

    /// Replaces a blob by something that is not what was promised.
    pub(crate) fn damage(&mut self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.blobs[index]);
    }

    /// Promises another diff ID's tar: the blob is sound, but not the layer's.
    pub(crate) fn swap_tar(&mut self, index: usize, tar: &[u8]) {
        self.blobs[index] = compress(tar, Compression::Gzip);
        self.layers[index].digest = Some(Digest::of(&self.blobs[index]));
        self.layers[index].size = self.blobs[index].len() as u64;
    }

    /// The same tars in gzip of another level than usual.
    pub(crate) fn recompress(&mut self, level: u32) {
        use std::io::Write as _;
        for index in 0..self.tars.len() {
            let mut out =
                Compressor::new(Vec::new(), Compression::Gzip, Some(level.try_into().unwrap())).unwrap();
            out.write_all(&self.tars[index]).unwrap();
            self.blobs[index] = out.finish().unwrap();
            self.layers[index].digest = Some(Digest::of(&self.blobs[index]));
            self.layers[index].size = self.blobs[index].len() as u64;
        }
    }

    /// The digests of its blobs, without the name of the algorithm.
    pub(crate) fn blob_digests(&self) -> Vec<String> {
        self.blobs.iter().map(|blob| Digest::of(blob).hex()).collect()
    }

    /// The tars as they are.
    pub(crate) fn uncompress(&mut self) {
        self.blobs.clone_from(&self.tars);
        for (layer, tar) in self.layers.iter_mut().zip(&self.tars) {
            layer.digest = Some(layer.diff_id);
            layer.size = tar.len() as u64;
            layer.media_type = image::MediaType::ImageLayer;
            layer.compression = image::Compression::None;
        }
    }

    pub(crate) fn reads(&self) -> usize {
        self.opened.lock().unwrap().len()
    }

    pub(crate) fn pull(&self, store: &Store, names: &[&str]) -> layerstore::Result<layerstore::Pulled> {
        let options =
            PullOptions { names: names.iter().map(ToString::to_string).collect(), ..PullOptions::default() };
        store.pull_from(self, &options, &Context::new())
    }
}

impl ImageSource for Memory {
    fn config(&self) -> &image::Config {
        &self.config
    }

    fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn names(&self) -> &[ImageName] {
        &self.names
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    fn open_layer(&self, index: usize, verify: Verify) -> image::Result<Box<dyn Read + Send>> {
        self.opened.lock().unwrap().push(verify);
        if self.stuck == Some(index) {
            return Ok(Box::new(Stuck));
        }
        Ok(Box::new(Slow { bytes: std::io::Cursor::new(self.blobs[index].clone()), slow: self.slow }))
    }
}

struct Stuck;

impl Read for Stuck {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(std::time::Duration::from_secs(120));
        Err(std::io::Error::other("nobody came"))
    }
}

struct Slow {
    bytes: std::io::Cursor<Vec<u8>>,
    slow: u64,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.slow == 0 {
            return self.bytes.read(buffer);
        }
        std::thread::sleep(std::time::Duration::from_millis(self.slow));
        let count = buffer.len().min(512);
        self.bytes.read(&mut buffer[..count])
    }
}

/// Two layers: a few files, then a change, a removal and a new file.
pub(crate) fn small() -> Memory {
    Memory::new([base_tar(), second_tar()], "small")
}

pub(crate) fn base_tar() -> Vec<u8> {
    Tar::new()
        .dir("etc/")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .file("etc/hosts", "127.0.0.1 localhost\n")
        .dir("usr/")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("usr/lib/big", vec![7; 300_000])
        .hard_link("usr/lib/same", "usr/lib/big")
        .bytes()
}

pub(crate) fn second_tar() -> Vec<u8> {
    Tar::new()
        .dir("etc/")
        .file("etc/hosts", "127.0.0.1 localhost other\n")
        .file("etc/.wh.passwd", "")
        // Lands in usr/lib, because lib is a symlink below.
        .file("lib/new", "through a symlink\n")
        .bytes()
}

/// Every layer of an image as it is exported, verified by the store.
pub(crate) fn exported(store: &Store, image: &str) -> Vec<Vec<u8>> {
    let image = store.image(image).unwrap();
    image
        .layers
        .iter()
        .map(|layer| {
            let mut tar = Vec::new();
            store.layer_tar(layer.id.as_str(), &mut tar, &Context::new()).unwrap();
            tar
        })
        .collect()
}

/// Names of everything that lies in a directory of the store's root.
pub(crate) fn listing(path: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
