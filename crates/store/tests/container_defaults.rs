//! What the configuration says of every container, through the public door: its size, on btrfs with quotas and where
//! there are none, and the flags of its mount.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore::{ContainerOptions, Context, Kind, MountFlags, MountOptions, Origin, Setting};
use layerstore_testkit::scratch::FileSystem;
use rstest::rstest;

const LIMIT: u64 = 16 << 20;

/// A configuration that says how large containers may get.
fn sized(path: &std::path::Path, driver: &str) -> layerstore::Config {
    with_option(path, driver, "size", "16m")
}

fn with_option(path: &std::path::Path, driver: &str, key: &str, value: &str) -> layerstore::Config {
    let mut config = config_at(path, driver);
    let setting = Setting { value: value.to_owned(), origin: Origin::Flag("--driver-opt") };
    config.options.entry(driver.to_owned()).or_default().insert(key.to_owned(), setting);
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

#[rstest]
fn a_mount_has_the_flags_in_the_configuration_or_its_own(#[values("overlay2", "vfs")] driver: &str) {
    let scratch = Scratch::new();
    let store = open(with_option(scratch.path(), driver, "mountopt", "nodev,noexec")).unwrap();
    small().pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let own = MountFlags { nosuid: true, ..MountFlags::default() };
    for (flags, runs) in [(None, false), (Some(own), true), (None, false)] {
        let place = store.mount(&made.id, &MountOptions { flags, ..MountOptions::default() }).unwrap();
        let program = place.join("program");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let ran = std::process::Command::new(&program).status();
        assert_eq!(ran.is_ok(), runs, "{flags:?}: {ran:?}");
        store.unmount(&made.id, None).unwrap();
    }
}

#[test]
fn what_is_no_flag_of_a_mount_is_refused_when_it_was_typed() {
    let scratch = Scratch::new();
    let error = open(with_option(scratch.path(), "overlay2", "mountopt", "nodve")).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.to_string().contains("mountopt: \"nodve\" is no flag of a mount"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("nodev")), "{:?}", error.hint());
}
