//! Mounting containers through the public door: once, in one way, whoever else mounts at the same moment.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::os::fd::AsRawFd as _;

use common::*;
use layerstore::{ContainerOptions, Context, CreateOptions, Kind, MountFlags, MountOptions};
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

/// The turn to write is held, so that the one who removes stands between his look at the mounts and the row that says
/// that the layer goes.
#[rstest]
#[case::a_container(true)]
#[case::a_bare_layer(false)]
fn what_is_being_removed_is_not_mounted_any_more(#[case] container: bool) {
    use layerstore_sys::turn::Turn;
    use std::time::Duration;
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let id = if container {
        store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap().id
    } else {
        store.layer_create(None, None, &CreateOptions::default(), &Context::new()).unwrap().to_string()
    };
    let gate = layerstore_sys::Dir::open(scratch.root()).unwrap();
    let turn = Turn::wait(gate.open_or_create_file(b"gate.lock", 0o600).unwrap()).unwrap();
    let options = MountOptions::default();
    let (removed, mounted) = std::thread::scope(|scope| {
        let remover = scope.spawn(|| match container {
            true => store.remove_container(&id, false).map(drop),
            false => store.layer_remove(&id).map(drop),
        });
        std::thread::sleep(Duration::from_millis(300));
        let mounter = scope.spawn(|| match container {
            true => store.mount(&id, &options),
            false => store.layer_mount(&id, &options),
        });
        std::thread::sleep(Duration::from_millis(300));
        drop(turn);
        (remover.join().unwrap(), mounter.join().unwrap())
    });
    removed.unwrap();
    assert_eq!(mounted.unwrap_err().kind(), Kind::NotFound);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*scratch.path().to_string_lossy()), "{mounts}");
    assert!(store.gc(false).unwrap().freed.is_empty());
    assert!(listing(scratch.path().join("run/mnt")).is_empty());
}

/// A transaction of the test stands where that of `rmi`, `rm` or `gc` would, which has looked at the mounts before.
#[rstest]
fn a_layer_that_goes_while_it_is_mounted_is_unmounted_again(
    #[values(true, false)] goes: bool,
    #[values(true, false)] at_a_target: bool,
) {
    use layerstore_sys::turn::Turn;
    use std::time::{Duration, Instant};
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let id = store.layers().unwrap()[0].id.to_string();
    let target = at_a_target.then(|| scratch.path().join("target"));
    target.iter().for_each(|target| std::fs::create_dir(target).unwrap());
    let options = MountOptions { target, ..MountOptions::default() };
    let own_mounts = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.matches(&*scratch.path().to_string_lossy()).count()
    };
    let gate = layerstore_sys::Dir::open(scratch.root()).unwrap();
    let turn = Turn::wait(gate.open_or_create_file(b"gate.lock", 0o600).unwrap()).unwrap();
    let database = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mounted = std::thread::scope(|scope| {
        let mounter = scope.spawn(|| store.layer_mount(&id, &options));
        let start = Instant::now();
        while own_mounts() == 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "it is not mounted");
            std::thread::sleep(Duration::from_millis(5));
        }
        if goes {
            database.execute("UPDATE layers SET state = 'deleting' WHERE id = ?", [&id]).unwrap();
        }
        database.execute_batch("COMMIT").unwrap();
        drop(turn);
        mounter.join().unwrap()
    });
    if goes {
        assert_eq!(mounted.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(own_mounts(), 0, "no verb would find it");
        assert!(listing(scratch.path().join("run/mnt")).is_empty());
    } else {
        assert_eq!(store.layer_unmount(&id, None).unwrap(), [mounted.unwrap()]);
    }
}

#[rstest]
#[case::of_an_image_that_is_removed("rmi")]
#[case::under_the_last_container_of_a_removed_image("rm")]
#[case::that_nothing_needs("gc")]
fn a_mounted_layer_stays_until_it_is_unmounted(#[case] verb: &str) {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let count = store.layers().unwrap().len();
    let id = store.layers().unwrap()[0].id.to_string();
    let place = store.layer_mount(&id, &MountOptions::default()).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    if verb == "rmi" {
        store.remove_container(&made.id, false).unwrap();
        store.remove_image("small", false).unwrap();
    } else {
        store.remove_image("small", true).unwrap();
        store.remove_container(&made.id, false).unwrap();
    }
    if verb == "gc" {
        assert!(store.gc(false).unwrap().freed.is_empty());
    }
    assert!(store.layers().unwrap().len() < count, "those over it are gone");
    let store = scratch.open("overlay2");
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    assert_eq!(store.layer_unmount(&id, None).unwrap(), [place]);
    assert_eq!(store.gc(false).unwrap().freed.len(), 1);
    assert!(store.layers().unwrap().is_empty());
}

#[rstest]
fn a_detached_mount_is_the_containers_until_its_last_descriptor_is_closed(
    #[values("overlay2", "vfs")] driver: &str,
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    // Others may mount at the same moment.
    let own_mounts = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = scratch.path().file_name().unwrap().to_str().unwrap();
        mounts.lines().filter(|line| line.contains(own)).map(str::to_owned).collect::<Vec<_>>()
    };
    let within = |root: &std::os::fd::OwnedFd, name: &str| {
        std::path::PathBuf::from(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
    };

    let root = store.mount_detached(&made.id, &MountOptions::default()).unwrap();
    std::fs::write(within(root.fd(), "new"), "written").unwrap();
    assert!(own_mounts().is_empty(), "nothing is to be seen of it: {:?}", own_mounts());
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
