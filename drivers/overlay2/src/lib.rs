//! The `overlay2` storage driver: each layer is one directory, a view is one overlay mount of all of them.
//!
//! The kernel's overlay file system merges up to 500 directories. Layers lie as docker's driver of the same name
//! keeps them (see `layout`), so that whoever knows one knows the other; the marks of the kernel in them
//! (whiteouts, opaque directories, redirects) are read and written by `layerstore_changeset`, not here.
//!
//! Inside a user namespace the marks are `user.overlay.*` instead of `trusted.overlay.*` (mount option
//! `userxattr`, Linux 5.11). Which of both a root uses is settled when it is made.

mod config;
mod driver;
mod layout;
mod plan;
mod probe;
mod repair;

use std::sync::Arc;

use layerstore_driver::{Driver, DriverFactory, OpenOptions, OptionSpec, Probe, Result};

/// The driver's name.
pub(crate) const NAME: &str = "overlay2";

/// Makes `overlay2` drivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overlay2;

impl DriverFactory for Overlay2 {
    fn name(&self) -> &'static str {
        NAME
    }

    // The name that containers-storage, and so podman, has for it.
    fn aliases(&self) -> &'static [&'static str] {
        &["overlay"]
    }

    fn description(&self) -> &'static str {
        "one directory per layer, merged by the kernel's overlay file system"
    }

    fn last_resort(&self) -> bool {
        false
    }

    fn options(&self) -> &'static [OptionSpec] {
        config::OPTIONS
    }

    fn probe(&self, open: &OpenOptions) -> Result<Probe> {
        probe::probe(open)
    }

    fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        Ok(Arc::new(driver::OverlayDriver::open(open)?))
    }

    fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>> {
        probe::repair_root(open)
    }
}
