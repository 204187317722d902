//! Containers of limited size through the public door, on btrfs with quotas and where there are none.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore::{ContainerOptions, Context, Kind, MountOptions, Origin, Setting};
use layerstore_testkit::scratch::FileSystem;
use rstest::rstest;

const LIMIT: u64 = 16 << 20;

/// A configuration that says how large containers may get.
fn sized(path: &std::path::Path, driver: &str) -> layerstore::Config {
    let mut config = config_at(path, driver);
    let size = Setting { value: "16m".to_owned(), origin: Origin::Default };
    config.options.entry(driver.to_owned()).or_default().insert("size".to_owned(), size);
    config
}

#[rstest]
#[case("overlay2")]
#[case("vfs")]
fn the_size_in_the_configuration_is_that_of_every_container(#[case] driver: &str) {
    let disk = layerstore_testkit::scratch::Scratch::new(FileSystem::BtrfsQuota, 512 << 20).unwrap();
    let store = open(sized(&disk.path(), driver)).unwrap();
    small().pull(&store, &["small"]).unwrap();
    let default = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    assert_eq!(default.size_limit, Some(LIMIT));
    let options = ContainerOptions { size_limit: Some(2 * LIMIT), ..ContainerOptions::default() };
    let own = store.create_container("small", &options, &Context::new()).unwrap();
    assert_eq!(own.size_limit, Some(2 * LIMIT));
    let piece = layerstore_testkit::noise(1, 1 << 20);
    for (container, most) in [(&default, 16), (&own, 32)] {
        let place = store.mount(&container.id, &MountOptions::default()).unwrap();
        let written =
            (0..64).take_while(|number| std::fs::write(place.join(format!("{number}")), &piece).is_ok());
        let written = written.count();
        assert!(written < most && written + 8 > most, "{written} MiB of {most} were written");
        store.unmount(&container.id, None).unwrap();
        store.remove_container(&container.id, false).unwrap();
    }
    // What is no container has no limit.
    assert!(store.containers().unwrap().is_empty());
}

#[test]
fn where_the_size_cannot_be_limited_the_container_is_not_made() {
    let scratch = Scratch::new();
    let store = open(sized(scratch.path(), "overlay2")).unwrap();
    small().pull(&store, &["small"]).unwrap();
    let error = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("btrfs with quotas"), "{error}");
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(store.driver().layers().unwrap().len(), store.info().unwrap().layers as usize);
}
