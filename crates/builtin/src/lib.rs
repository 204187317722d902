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

#[cfg(test)]
mod tests {
    #[test]
    fn drivers_that_copy_whole_trees_come_last_and_names_are_unique() {
        let registry = super::registry();
        let last: Vec<_> = registry.factories().map(|factory| factory.last_resort()).collect();
        assert!(last.is_sorted(), "{last:?}");
        for factory in registry.factories() {
            assert_eq!(registry.factories().filter(|other| other.name() == factory.name()).count(), 1);
            assert_eq!(registry.get(factory.name()).unwrap().description(), factory.description());
        }
    }
}
