//! The full check sees everything that a layer's tar says: it is compared with the view, entry by entry.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::*;
use layerstore::{Check, CheckOptions, Context, Store};
use rstest::rstest;

fn check(store: &Store) -> Check {
    store.check(CheckOptions::default(), &Context::new()).unwrap()
}

fn image() -> Memory {
    let base = Tar::new().dir("d").file("d/lower", "lower").file("d/kept", "kept");
    let top = Tar::new()
        .dir("d")
        .file("d/a", "content")
        .hard_link("d/b", "d/a")
        .symlink("d/link", "a")
        .file("d/.wh.lower", "");
    Memory::new([base.bytes(), top.bytes()], "image")
}

/// Where the topmost layer of the image lies on disk.
fn layer(scratch: &Scratch, store: &Store, driver: &str) -> PathBuf {
    let top = store.image("image").unwrap().layers.last().unwrap().id.to_string();
    let tree = if driver == "vfs" { "tree" } else { "diff" };
    scratch.root().join(driver).join(top).join(tree)
}

fn time(path: &Path) -> SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

fn set_time(path: &Path, time: SystemTime) {
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

fn another_mode(layer: &Path) {
    std::fs::set_permissions(layer.join("d/a"), std::fs::Permissions::from_mode(0o4777)).unwrap();
}

fn another_mode_of_a_directory(layer: &Path) {
    std::fs::set_permissions(layer.join("d"), std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn another_owner(layer: &Path) {
    std::os::unix::fs::lchown(layer.join("d/link"), Some(1), Some(2)).unwrap();
}

fn another_time(layer: &Path) {
    set_time(&layer.join("d/a"), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
}

fn another_attribute(layer: &Path) {
    let file = layer.join("d/a");
    let set = std::process::Command::new("setfattr").args(["-n", "user.x", "-v", "y"]).arg(file).status();
    assert!(set.unwrap().success());
}

fn another_target(layer: &Path) {
    std::fs::remove_file(layer.join("d/link")).unwrap();
    symlink("/etc/passwd", layer.join("d/link")).unwrap();
}

fn another_type(layer: &Path) {
    std::fs::remove_file(layer.join("d/link")).unwrap();
    std::fs::write(layer.join("d/link"), "").unwrap();
}

fn no_link(layer: &Path) {
    std::fs::remove_file(layer.join("d/link")).unwrap();
}

fn a_broken_hard_link(layer: &Path) {
    let time = time(&layer.join("d/b"));
    std::fs::rename(layer.join("d/b"), layer.join("d/old")).unwrap();
    std::fs::copy(layer.join("d/old"), layer.join("d/b")).unwrap();
    std::fs::remove_file(layer.join("d/old")).unwrap();
    set_time(&layer.join("d/b"), time);
}

fn no_whiteout(layer: &Path) {
    let whiteout = layer.join("d/lower");
    if whiteout.symlink_metadata().is_ok() {
        std::fs::remove_file(whiteout).unwrap();
    } else {
        std::fs::write(whiteout, "lower").unwrap();
    }
}

#[rstest]
#[case("d/a has the mode 4777, not ", another_mode)]
#[case("d has the mode 0700, not ", another_mode_of_a_directory)]
#[case("d/link belongs to 1:2, not to ", another_owner)]
#[case("d/a was modified at another time", another_time)]
#[case("d/a has the attribute user.x, which it had not", another_attribute)]
#[case("d/link leads somewhere else", another_target)]
#[case("d/link is of another type", another_type)]
#[case("d/link is missing", no_link)]
#[case("d/b is not the same file as d/a any more", a_broken_hard_link)]
#[case("d/lower was removed by the layer and is there", no_whiteout)]
fn what_is_not_as_the_tar_says_is_found_and_made_good_by_a_pull(
    #[case] message: &str,
    #[case] alter: fn(&Path),
    #[values("overlay2", "vfs")] driver: &str,
    #[values(false, true)] keep_blobs: bool,
) {
    let scratch = Scratch::new();
    let mut config = scratch.config(driver);
    config.keep_blobs.value = keep_blobs;
    let store = open(config).unwrap();
    image().pull(&store, &["image"]).unwrap();
    assert!(check(&store).findings.is_empty());
    let layer = layer(&scratch, &store, driver);
    // Where a directory is changed inside, its time changes, too: put it back, as damage would not touch it.
    let before = time(&layer.join("d"));
    alter(&layer);
    set_time(&layer.join("d"), before);
    let found = check(&store);
    let [finding] = found.findings.as_slice() else { panic!("{:?}", found.findings) };
    assert_eq!(finding.kind, "layer-damaged");
    assert!(finding.message.contains(message), "{}", finding.message);
    image().pull(&store, &["image"]).unwrap();
    assert!(check(&store).findings.is_empty());
}

/// A tar that has a name twice cannot be put together from what is there.
#[test]
fn the_files_of_a_layer_are_read_where_only_its_blob_gives_the_tar_back() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let twice = Tar::new().file("twice", "once").file("twice", "content").bytes();
    Memory::new([twice], "image").pull(&store, &["image"]).unwrap();
    assert!(check(&store).findings.is_empty());
    let file = layer(&scratch, &store, "overlay2").join("twice");
    let before = time(&file);
    std::fs::write(&file, "CONTENT").unwrap();
    set_time(&file, before);
    let found = check(&store);
    assert!(found.findings.iter().any(|one| one.message.contains("twice has another content")), "{found:?}");
}

/// What a tar says of a name that it says something else of later is no damage.
#[rstest]
fn entries_that_take_each_others_place_are_no_damage(#[values("overlay2", "vfs")] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let base = Tar::new().dir("d").file("d/x", "x").dir("gone").file("gone/y", "y").symlink("lib", "d");
    let top = Tar::new()
        .file("twice", "once")
        .file("twice", "again, and longer")
        .file("other", "o")
        .hard_link("link", "other")
        .file("other", "another file now")
        .dir("over")
        .file("over/target", "t")
        .hard_link("over", "over/target")
        .dir("was")
        .file("was/inside", "i")
        .file("was", "a file now")
        .file(".wh.gone", "")
        .dir("gone")
        .file("gone/new", "n")
        .file("d/.wh.x", "")
        .file("lib/x", "through the link")
        .file("lib/z", "z")
        .hard_link("z", "lib/z")
        .file("d/z", "not through it");
    Memory::new([base.bytes(), top.bytes()], "image").pull(&store, &["image"]).unwrap();
    let found = check(&store);
    assert!(found.findings.is_empty() && found.verified == 2, "{found:?}");
}
