//! Several threads and processes on one store, and processes that die.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use rstest::rstest;

/// Three layers that take a while to read.
fn slow() -> Memory {
    let tar = |seed: u8| {
        let mut tar = Tar::new();
        for index in 0..20_u8 {
            let data: Vec<u8> =
                (0..600_u32).map(|n| (n.wrapping_mul(u32::from(seed) + 7919) >> 3) as u8 ^ index).collect();
            tar = tar.file(&format!("file-{seed}-{index}"), data);
        }
        tar.bytes()
    };
    let mut image = Memory::new([tar(1), tar(2), tar(3)], "slow");
    image.slow = 5;
    image
}

/// What the child processes of this file run: pulls the slow image into the store that the environment names, and
/// gets stuck at its third layer if it shall.
#[test]
fn child_that_pulls() {
    let Some(path) = std::env::var_os("LAYERSTORE_TEST_CHILD") else { return };
    let path = PathBuf::from(path);
    let driver = std::env::var("LAYERSTORE_TEST_DRIVER").unwrap();
    let store = open(config_at(&path, &driver)).unwrap();
    let mut image = slow();
    image.stuck = std::env::var_os("LAYERSTORE_TEST_STUCK").map(|_| 2);
    let pulled = image.pull(&store, &["slow"]).unwrap();
    std::fs::write(path.join(format!("child-{}", std::process::id())), pulled.layers_new.to_string())
        .unwrap();
}

fn child(scratch: &Scratch, driver: &str, stuck: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if stuck {
        command.env("LAYERSTORE_TEST_STUCK", "1");
    }
    command
        .args(["--exact", "child_that_pulls", "--nocapture"])
        .env("LAYERSTORE_TEST_CHILD", scratch.path())
        .env("LAYERSTORE_TEST_DRIVER", driver)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn two_threads_that_pull_one_image_unpack_it_once(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = slow();
    let new: usize = std::thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| image.pull(&store, &["slow"]).unwrap().layers_new)).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).sum()
    });
    assert_eq!((new, image.reads()), (3, 3));
    assert_eq!(exported(&store, "slow"), image.tars());
    assert_eq!(store.driver().layers().unwrap().len(), 3);
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn two_processes_that_pull_one_image_unpack_it_once(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let mut children = [child(&scratch, driver, false), child(&scratch, driver, false)];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let new: usize = children
        .iter()
        .map(|child| std::fs::read_to_string(scratch.path().join(format!("child-{}", child.id()))).unwrap())
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    assert_eq!(new, 3);
    assert_eq!(exported(&store, "slow"), slow().tars());
    assert!(listing(scratch.root().join("staging")).is_empty());
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_killed_pull_is_taken_over_by_the_one_that_waits(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let mut victim = child(&scratch, driver, true);
    wait_for("the child's second layer", || store.layers().unwrap().len() >= 2);
    let mut image = slow();
    image.slow = 0;
    let pulled = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| image.pull(&store, &["slow"]).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "the child is alive and has the layers");
        victim.kill().unwrap();
        victim.wait().unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(pulled.layers_new, 3, "what was not visible is done again");
    assert_eq!(exported(&store, "slow"), image.tars());
    assert_eq!(store.driver().layers().unwrap().len(), 3, "nothing of the dead one is left");
    // One that gives the tar back and one of the row, each.
    assert_eq!(listing(scratch.root().join("records")).len(), 6);
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn what_a_killed_pull_left_goes_when_the_store_is_opened(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let mut victim = child(&scratch, driver, true);
    wait_for("the child's second layer", || store.layers().unwrap().len() >= 2);
    // A living one is left alone, by opening and by gc.
    let before = store.layers().unwrap().len();
    assert!(scratch.open(driver).layers().unwrap().len() >= before);
    assert!(store.gc(false).unwrap().freed.is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let again = scratch.open(driver);
    assert!(!again.warnings().is_empty(), "recovery tells what it did");
    assert!(again.layers().unwrap().is_empty());
    assert!(again.driver().layers().unwrap().is_empty());
    assert!(listing(scratch.root().join("records")).is_empty());
    assert!(listing(scratch.root().join("staging")).is_empty());
    assert!(again.gc(false).unwrap().freed.is_empty(), "nothing is left for gc");
    assert!(scratch.open(driver).warnings().is_empty());
}

#[test]
fn many_make_one_store_at_the_same_moment() {
    for _ in 0..10 {
        let scratch = Scratch::new();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for index in 0..8 {
                let (scratch, start) = (&scratch, &start);
                scope.spawn(move || {
                    start.wait();
                    let store = scratch.open("vfs");
                    let image = Memory::new([Tar::new().file("a", "a").bytes()], &index.to_string());
                    image.pull(&store, &[]).unwrap();
                });
            }
        });
        let store = scratch.open("vfs");
        assert_eq!((store.images().unwrap().len(), store.layers().unwrap().len()), (8, 1));
    }
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn many_threads_make_and_remove_containers(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // A handle of its own, as another process would have.
                let store = scratch.open(driver);
                for _ in 0..10 {
                    let options = layerstore::ContainerOptions::default();
                    let made =
                        store.create_container("small", &options, &layerstore::Context::new()).unwrap();
                    let place = store.mount(&made.id, &layerstore::MountOptions::default()).unwrap();
                    std::fs::write(place.join("x"), &made.id).unwrap();
                    store.remove_container(&made.id, true).unwrap();
                }
            });
        }
    });
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(store.driver().layers().unwrap().len(), 2);
    let check = store.check(layerstore::CheckOptions::default(), &layerstore::Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    assert!(store.gc(false).unwrap().freed.is_empty());
    assert!(listing(scratch.path().join("run/mnt")).is_empty());
}
