//! What the tests of limited layers share, whatever the file system limits them with.
#![allow(dead_code, clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerstore_driver::{
    Context, CreateOptions, Driver, DriverFactory as _, DriverOptions, LayerId, OpenOptions,
};
use layerstore_overlay2::Overlay2;

pub(crate) const BYTES: u64 = 8 << 20;
pub(crate) const LIMIT: CreateOptions = CreateOptions { size_limit: Some(BYTES) };

pub(crate) fn id(name: &str) -> LayerId {
    LayerId::new(name).unwrap()
}

/// A driver on the root `base/root`.
pub(crate) fn open(base: &Path) -> Arc<dyn Driver> {
    let options = DriverOptions::check(Overlay2.options(), [("threads", "1")]).unwrap();
    Overlay2.open(&OpenOptions { root: base.join("root"), runroot: base.join("run"), options }).unwrap()
}

/// The same with a sealed layer `base`.
pub(crate) fn with_base(base: &Path) -> Arc<dyn Driver> {
    let driver = open(base);
    driver.create(&id("base"), None, &CreateOptions::default(), &Context::new()).unwrap();
    std::fs::write(base.join("root/base/diff/f"), "1").unwrap();
    driver.seal(&id("base"), None, &Context::new()).unwrap();
    driver
}

/// A limited layer over it, and where it lies.
pub(crate) fn limited(driver: &dyn Driver, base: &Path, name: &str) -> PathBuf {
    driver.create(&id(name), Some(&id("base")), &LIMIT, &Context::new()).unwrap();
    base.join("root").join(name)
}
