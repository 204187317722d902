//! A disk that is full: what fails leaves nothing, what is there can be removed, and the space comes back.
//! And a process that runs out of descriptors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::path::Path;

use common::*;
use layerstore::{CheckOptions, CommitOptions, Config, ContainerOptions, Context, Kind, MountOptions, Store};
use layerstore_testkit::scratch::{FileSystem, Scratch as Disk};
use rstest::rstest;

/// Writes until nothing fits any more, to the last byte.
fn fill(path: &Path) {
    // Not even an inode fits: as full as can be.
    let Ok(mut file) = std::fs::File::create(path) else { return };
    for size in [1 << 20, 64 << 10, 4096, 512, 1] {
        while file.write(&vec![1; size]).is_ok_and(|count| count > 0) {}
    }
    let _ = file.sync_all();
}

/// An image of 24 MiB that does not compress to nothing.
fn large() -> Memory {
    let noise = |seed: u32| -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut step = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        (0..8 << 20).map(|_| step()).collect()
    };
    let tar = |seed: u32| Tar::new().file(&format!("large-{seed}"), noise(seed)).bytes();
    Memory::new([tar(1), tar(2), tar(3)], "large")
}

/// What the other process runs: checks with ever more descriptors to spare, and one with all of them.
#[test]
fn child_that_checks() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(path) = std::env::var_os("LAYERSTORE_TEST_CHILD") else { return };
    let driver = std::env::var("LAYERSTORE_TEST_DRIVER").unwrap();
    let store = open(config_at(Path::new(&path), &driver)).unwrap();
    let usual = getrlimit(Resource::Nofile);
    let mut failed = 0;
    for spare in 0..40 {
        let most = listing("/proc/self/fd").len() as u64 + spare;
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: usual.maximum }).unwrap();
        let check = store.check(CheckOptions::default(), &Context::new());
        failed += u32::from(!check.is_ok_and(|check| check.findings.is_empty()));
        setrlimit(Resource::Nofile, usual).unwrap();
    }
    assert!(failed > 5, "only {failed} checks lacked a descriptor");
    let check = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
}

/// A healthy layer that cannot be read for a moment is not refused from then on.
#[rstest]
#[case("overlay2")]
#[case("vfs")]
fn a_check_that_lacks_descriptors_marks_no_healthy_layer(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_checks", "--nocapture", "--test-threads=1"])
        .env("LAYERSTORE_TEST_CHILD", scratch.path())
        .env("LAYERSTORE_TEST_DRIVER", driver)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

#[rstest]
#[case::ext4(FileSystem::Ext4 { commit: 5 }, "overlay2")]
#[case::tmpfs(FileSystem::Tmpfs, "overlay2")]
#[case::tmpfs_vfs(FileSystem::Tmpfs, "vfs")]
#[case::xfs(FileSystem::Xfs, "overlay2")]
fn everything_can_be_removed_from_a_full_disk(#[case] file_system: FileSystem, #[case] driver: &str) {
    // xfs has a smallest size, vfs copies what lies below.
    let size = match file_system {
        FileSystem::Xfs => 320 << 20,
        _ if driver == "vfs" => 96 << 20,
        _ => 48 << 20,
    };
    let disk = Disk::new(file_system, size).unwrap();
    let run = tempfile::tempdir_in("/dev/shm").unwrap();
    let config = || Config::at(disk.path().join("root"), run.path()).with_driver(driver);
    let reopen = || -> Store { open(config()).unwrap() };
    let store = reopen();
    small().pull(&store, &["small"]).unwrap();
    let make = || store.create_container("small", &ContainerOptions::default(), &Context::new());
    let (filler, other) = (make().unwrap(), make().unwrap());
    let place = store.mount(&filler.id, &MountOptions::default()).unwrap();
    fill(&place.join("filler"));
    let error = large().pull(&store, &["large"]).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    // What it left went, so fill the disk again; creating may still fit, or fail cleanly.
    fill(&disk.path().join("more"));
    if let Ok(made) = make() {
        store.remove_container(&made.id, true).unwrap();
    }
    assert!(
        store
            .check(CheckOptions { quick: true, repair: false }, &Context::new())
            .unwrap()
            .findings
            .is_empty()
    );
    fill(&disk.path().join("and-more"));
    drop(store);
    // Opening again and again does not eat what removing needs.
    for _ in 0..20 {
        reopen();
    }
    let store = reopen();
    assert_eq!(store.containers().unwrap().len(), 2);
    store.remove_container(&other.id, false).unwrap();
    store.remove_container(&filler.id, true).unwrap();
    store.remove_image("small", false).unwrap();
    for name in ["more", "and-more"] {
        let _ = std::fs::remove_file(disk.path().join(name));
    }
    assert!(store.gc(false).unwrap().freed.is_empty());
    assert!(store.layers().unwrap().is_empty() && store.driver().layers().unwrap().is_empty());
    for folder in ["records", "blobs", "images", "containers", "staging"] {
        assert!(listing(disk.path().join("root").join(folder)).is_empty(), "{folder}");
    }
    drop(store);
    let store = reopen();
    assert_eq!(
        std::fs::metadata(disk.path().join("root/reserve")).unwrap().len(),
        1 << 20,
        "for the next time"
    );
    let image = large();
    image.pull(&store, &["large"]).unwrap();
    assert_eq!(exported(&store, "large"), image.tars());
    assert!(store.check(CheckOptions::default(), &Context::new()).unwrap().findings.is_empty());
}

/// As `/var/log/lastlog` is where a user has a large ID: the tar of a layer has it in full.
#[rstest]
#[case("overlay2")]
#[case("vfs")]
fn a_sparse_file_larger_than_the_disk_is_committed(#[case] driver: &str) {
    use std::os::unix::fs::FileExt as _;
    const SIZE: u64 = 128 << 20;
    let disk = Disk::new(FileSystem::Ext4 { commit: 5 }, 48 << 20).unwrap();
    let run = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = open(Config::at(disk.path().join("root"), run.path()).with_driver(driver)).unwrap();
    small().pull(&store, &["small"]).unwrap();
    let options =
        |name: &str| ContainerOptions { name: Some(name.to_owned()), ..ContainerOptions::default() };
    store.create_container("small", &options("one"), &Context::new()).unwrap();
    let place = store.mount("one", &MountOptions::default()).unwrap();
    let file = std::fs::File::create(place.join("lastlog")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"root", SIZE / 2 + 1).unwrap();
    drop(file);
    store.unmount("one", None).unwrap();
    let commit = CommitOptions { name: Some("made".to_owned()), ..CommitOptions::default() };
    store.commit("one", &commit, &Context::new()).unwrap();
    store.create_container("made", &options("two"), &Context::new()).unwrap();
    let place = store.mount("two", &MountOptions::default()).unwrap();
    let file = std::fs::File::open(place.join("lastlog")).unwrap();
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, SIZE / 2).unwrap();
    assert_eq!((file.metadata().unwrap().len(), &bytes), (SIZE, b"\0root\0"));
    drop(file);
    store.unmount("two", None).unwrap();
    let found = store.check(CheckOptions::default(), &Context::new()).unwrap().findings;
    assert!(found.is_empty(), "{found:?}");
}
