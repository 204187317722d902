//! Locks on layers, and the files that uses of layers are written down in.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Kernel, Plain, id, nothing_is_left, read_only, scratch, writable};
use layerstore_driver::{DriverExt as _, Kind};
use rstest::rstest;

#[test]
fn a_mount_waits_for_who_works_on_the_layer() {
    Kernel::This.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let layer = id("layer");
        let locked = driver.leases.lock(&layer).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(driver.mount_detached(&layer, &read_only()).unwrap());
                done.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!done.load(std::sync::atomic::Ordering::SeqCst));
            drop(locked);
        });
        // Who only reads the layer is not in the way of a reader.
        let shared = driver.leases.lock_shared(&layer).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(driver.mount_detached(&layer, &read_only()).unwrap())).join().unwrap();
            scope.spawn(|| assert!(driver.leases.try_lock(&layer).unwrap().is_none())).join().unwrap();
        });
        drop(shared);
        nothing_is_left(&driver);
    });
}

#[test]
fn readers_that_want_one_target_at_once_share_one_mount() {
    Kernel::This.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let (layer, target) = (id("layer"), driver.target("mnt"));
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| driver.mount(&layer, &read_only(), &target).unwrap());
                }
            });
            assert_eq!(driver.leases.in_use(&layer).unwrap().read_only, 1);
            driver.unmount(&layer, &target).unwrap();
            assert!(!target.join("from-base").exists());
        }
        nothing_is_left(&driver);
    });
}

#[test]
fn a_thread_may_lock_again_what_it_has_but_not_more() {
    let top = scratch();
    let driver = Plain::open(top.path());
    let layer = id("layer");
    let once = driver.leases.lock(&layer).unwrap();
    let twice = driver.leases.lock(&layer).unwrap();
    drop(once);
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(driver.leases.try_lock(&layer).unwrap().is_none())).join().unwrap();
    });
    // Locks of other layers are free all the time.
    drop(driver.leases.lock(&id("other")).unwrap());
    drop(twice);
    let shared = driver.leases.lock_shared(&layer).unwrap();
    assert_eq!(driver.leases.lock(&layer).unwrap_err().kind(), Kind::InUse);
    drop(shared);
    drop(driver.leases.lock(&layer).unwrap());
    nothing_is_left(&driver);
}

#[test]
fn locks_exclude_each_other_while_their_files_come_and_go() {
    let top = scratch();
    let driver = Plain::open(top.path());
    // Two books, as in two processes.
    let other = Plain::open(top.path());
    let (inside, turns) = (std::sync::atomic::AtomicI32::new(0), std::sync::atomic::AtomicI32::new(0));
    std::thread::scope(|scope| {
        for leases in [&driver.leases, &other.leases, &driver.leases, &other.leases] {
            scope.spawn(|| {
                for turn in 0..300 {
                    if turn % 3 == 0 {
                        let _shared = leases.lock_shared(&id("layer")).unwrap();
                        assert_eq!(inside.load(std::sync::atomic::Ordering::SeqCst), 0);
                        continue;
                    }
                    let _alone = leases.lock(&id("layer")).unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    turns.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_micros(20));
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(turns.into_inner(), 800);
    nothing_is_left(&driver);
}

/// Changes the text of the only use of the layer.
fn edit(driver: &Plain, change: impl Fn(&str) -> String) {
    let uses = driver.root.join("run/uses/layer");
    let file = uses.read_dir().unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, change(&text)).unwrap();
}

#[test]
fn a_reboot_ends_every_use() {
    let top = scratch();
    let driver = Plain::open(top.path());
    driver.mount_strings(&id("layer"), &writable()).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(driver.leases.in_use(&id("layer")).unwrap().writable);
    edit(&driver, |text| text.replace(boot.trim(), "another"));
    assert!(!driver.leases.in_use(&id("layer")).unwrap().any());
    nothing_is_left(&driver);
}

#[rstest]
#[case::nonsense(|_: &str| "nonsense".to_owned())]
#[case::version(|text: &str| text.replace("\"version\":1", "\"version\":99"))]
fn a_use_that_cannot_be_read_is_not_guessed_at(#[case] change: fn(&str) -> String) {
    let top = scratch();
    let driver = Plain::open(top.path());
    driver.mount_strings(&id("layer"), &writable()).unwrap();
    edit(&driver, change);
    let error = driver.mount_detached(&id("layer"), &writable()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn what_a_dead_writer_left_unfinished_is_cleared() {
    let top = scratch();
    let driver = Plain::open(top.path());
    let uses = top.path().join("run/uses/layer");
    std::fs::create_dir_all(&uses).unwrap();
    std::fs::write(uses.join(".0123"), "{\"vers").unwrap();
    assert!(!driver.leases.in_use(&id("layer")).unwrap().any());
    nothing_is_left(&driver);
}
