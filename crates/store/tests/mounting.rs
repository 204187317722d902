//! Mounting containers through the public door: once, in one way, whoever else mounts at the same moment.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::os::fd::AsRawFd as _;

use common::*;
use layerstore::{ContainerOptions, Context, Kind, MountFlags, MountOptions};
use rstest::rstest;

fn read_only() -> MountOptions {
    MountOptions { read_only: true, ..MountOptions::default() }
}

#[rstest]
fn what_is_mounted_in_one_way_is_not_given_for_another(
    #[values("overlay2", "vfs")] driver: &str,
    #[values(true, false)] at_a_target: bool,
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let target = at_a_target.then(|| scratch.path().join("target"));
    target.iter().for_each(|target| std::fs::create_dir(target).unwrap());
    let at = |options: MountOptions| MountOptions { target: target.clone(), ..options };
    let flags = Some(MountFlags { nodev: true, ..MountFlags::default() });
    let flagged = || MountOptions { flags, ..MountOptions::default() };
    for (first, second) in [
        (MountOptions::default(), read_only()),
        (read_only(), MountOptions::default()),
        (read_only(), flagged()),
    ] {
        let place = store.mount(&made.id, &at(first.clone())).unwrap();
        let error = store.mount(&made.id, &at(second.clone())).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse, "{error}");
        assert!(error.to_string().contains(place.to_str().unwrap()), "{error}");
        assert_eq!(store.mount(&made.id, &at(first.clone())).unwrap(), place, "again the same way");
        assert_eq!(std::fs::write(place.join("new"), "").is_ok(), !first.read_only);
        assert_eq!(store.unmount(&made.id, None).unwrap(), [place]);
        store.mount(&made.id, &at(second)).unwrap();
        store.unmount(&made.id, None).unwrap();
    }
}

#[test]
fn mounting_and_unmounting_at_the_same_moment_never_fails() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    store.mount(&made.id, &MountOptions::default()).unwrap();
                    store.unmount(&made.id, None).unwrap();
                }
            });
        }
    });
    assert!(store.unmount(&made.id, None).unwrap().is_empty());
    assert!(!store.container(&made.id).unwrap().mounted);
}

#[rstest]
fn a_detached_mount_is_the_containers_until_its_last_descriptor_is_closed(
    #[values("overlay2", "vfs")] driver: &str,
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let before = std::fs::read("/proc/self/mountinfo").unwrap();
    let within = |root: &std::os::fd::OwnedFd, name: &str| {
        std::path::PathBuf::from(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
    };

    let root = store.mount_detached(&made.id, &MountOptions::default()).unwrap();
    std::fs::write(within(root.fd(), "new"), "written").unwrap();
    assert_eq!(std::fs::read("/proc/self/mountinfo").unwrap(), before, "nothing is to be seen of it");
    assert!(store.container(&made.id).unwrap().mounted);
    assert_eq!(store.mount(&made.id, &MountOptions::default()).unwrap_err().kind(), Kind::InUse);
    assert_eq!(store.mount_detached(&made.id, &MountOptions::default()).unwrap_err().kind(), Kind::InUse);
    assert_eq!(store.remove_container(&made.id, true).unwrap_err().kind(), Kind::InUse);
    root.close().unwrap();
    assert!(!store.container(&made.id).unwrap().mounted);

    let root = store.mount_detached(&made.id, &read_only()).unwrap();
    assert_eq!(std::fs::read(within(root.fd(), "new")).unwrap(), b"written");
    assert!(std::fs::write(within(root.fd(), "newer"), "").is_err());
    let (root, lease) = root.into_descriptors();
    drop(root);
    assert!(store.container(&made.id).unwrap().mounted);
    drop(lease);
    let target = MountOptions { target: Some("/mnt".into()), ..MountOptions::default() };
    assert_eq!(store.mount_detached(&made.id, &target).unwrap_err().kind(), Kind::InvalidInput);
    store.remove_container(&made.id, false).unwrap();
}
