//! The one list of compiled-in storage drivers, each behind a cargo feature of its name.
//!
//! The order is the order of preference where nothing is configured: drivers that share what layers have in
//! common first, full copies last.

use layerstore_driver::Registry;

/// Every driver that is compiled in, in order of preference.
#[must_use]
pub fn registry() -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "overlay2")]
    let registry = registry.with(layerstore_overlay2::Overlay2);
    #[cfg(feature = "vfs")]
    let registry = registry.with(layerstore_vfs::Vfs);
    registry
}
