//! A program that embeds the store names everything it needs through this crate.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use layerstore::image::{self, Layer, Manifest, Verify};
use layerstore::{
    Config, Context, Driver, ImageName, ImageSource, PullOptions, Registry, Store, StoreOptions,
};

/// A transport of the program's own: it counts what is read.
#[derive(Debug)]
struct Counting {
    inner: Box<dyn ImageSource>,
    opened: Arc<AtomicUsize>,
}

impl ImageSource for Counting {
    fn config(&self) -> &image::Config {
        self.inner.config()
    }

    fn manifest(&self) -> Option<&Manifest> {
        self.inner.manifest()
    }

    fn layers(&self) -> &[Layer] {
        self.inner.layers()
    }

    fn names(&self) -> &[ImageName] {
        self.inner.names()
    }

    fn warnings(&self) -> &[String] {
        self.inner.warnings()
    }

    fn open_layer(&self, index: usize, verify: Verify) -> image::Result<Box<dyn Read + Send>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.inner.open_layer(index, verify)
    }
}

#[test]
fn an_image_comes_in_through_a_transport_of_the_program() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("tree")).unwrap();
    std::fs::write(scratch.path().join("tree/file"), "data").unwrap();
    let config = Config::at(scratch.path().join("root"), scratch.path().join("run")).with_driver("vfs");
    let registry = Registry::new().with(layerstore_vfs::Vfs);
    let store = Store::open(StoreOptions { config, registry }).unwrap();
    let driver: &Arc<dyn Driver> = store.driver();
    assert_eq!(driver.name(), "vfs");

    let reference = format!("rootfs:{}", scratch.path().join("tree").display()).parse().unwrap();
    let inner = image::open(&reference, &image::OpenOptions::default()).unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let source = Counting { inner, opened: Arc::clone(&opened) };
    let options = PullOptions { names: vec!["mine:1".to_owned()], ..PullOptions::default() };
    let pulled = store.pull_from(&source, &options, &Context::new()).unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    assert_eq!(store.image("mine:1").unwrap().id, pulled.id);
}
