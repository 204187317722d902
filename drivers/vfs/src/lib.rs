//! The `vfs` storage driver: every layer is a whole copy of its view in a plain directory.
//!
//! It needs nothing of the kernel and works on every file system that has owners and modes. It costs a copy per
//! layer (shared extents where the file system has them), so it is a driver of last resort, and the one that
//! shows most plainly what a driver promises. On disk (see `layout` and the kit of `layerstore_driver::layout`):
//!
//! ```text
//! ROOT/ID/tree/     the layer's view
//! ```

mod config;
mod driver;
mod layout;
mod probe;

use std::sync::Arc;

use layerstore_driver::layout::Layout;
use layerstore_driver::{Driver, DriverFactory, OpenOptions, OptionSpec, Probe, Result};

/// The driver's name.
pub(crate) const NAME: &str = "vfs";

/// Makes `vfs` drivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vfs;

impl DriverFactory for Vfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    fn description(&self) -> &'static str {
        "a full copy of the file system per layer, on any file system"
    }

    fn last_resort(&self) -> bool {
        true
    }

    fn options(&self) -> &'static [OptionSpec] {
        config::OPTIONS
    }

    fn probe(&self, open: &OpenOptions) -> Result<Probe> {
        probe::probe(open)
    }

    fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        Ok(Arc::new(driver::VfsDriver::open(open)?))
    }

    fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>> {
        // Nothing was settled.
        Layout::repair_root(&open.root, layout::FORMAT, &|| Ok(Vec::new()))
    }
}
