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
    let base = Tar::new()
        .dir("d")
        .file("d/lower", "lower")
        .file("d/kept", "kept")
        .dir("opaque")
        .file("opaque/old", "old")
        .dir("again")
        .file("again/old", "old");
    let top = Tar::new()
        .dir("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "new")
        .file(".wh.again", "")
        .dir("again")
        .file("again/new", "new")
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

fn an_added_file(layer: &Path) {
    std::fs::write(layer.join("d/added"), "x").unwrap();
}

fn an_added_directory(layer: &Path) {
    std::fs::create_dir(layer.join("added")).unwrap();
    std::fs::write(layer.join("added/file"), "x").unwrap();
}

/// Of overlay2 a file over that of the layer below, of vfs the copy of it.
fn another_file_of_the_layer_below(layer: &Path) {
    std::fs::write(layer.join("d/kept"), "KEPT").unwrap();
}

fn is_overlay(layer: &Path) -> bool {
    layer.ends_with("diff")
}

fn an_added_whiteout(layer: &Path) {
    let name = layer.join("d/kept");
    if is_overlay(layer) {
        let made = std::process::Command::new("mknod").arg(name).args(["c", "0", "0"]).status();
        assert!(made.unwrap().success());
    } else {
        std::fs::remove_file(name).unwrap();
    }
}

fn opaque(directory: &Path, how: &[&str]) {
    let set = std::process::Command::new("setfattr").args(how).arg(directory).status();
    assert!(set.unwrap().success());
}

fn an_added_opaque_mark(layer: &Path) {
    if is_overlay(layer) {
        opaque(&layer.join("d"), &["-n", "trusted.overlay.opaque", "-v", "y"]);
    } else {
        std::fs::remove_file(layer.join("d/kept")).unwrap();
    }
}

fn no_opaque_mark(layer: &Path) {
    if is_overlay(layer) {
        opaque(&layer.join("opaque"), &["-x", "trusted.overlay.opaque"]);
    } else {
        std::fs::write(layer.join("opaque/old"), "old").unwrap();
    }
}

fn no_opaque_mark_of_a_new_directory(layer: &Path) {
    if is_overlay(layer) {
        opaque(&layer.join("again"), &["-x", "trusted.overlay.opaque"]);
    } else {
        std::fs::write(layer.join("again/old"), "old").unwrap();
    }
}

#[rstest]
#[case("d/added is there, and the layer came without it", an_added_file)]
#[case("added is there, and the layer came without it, and another entry differs", an_added_directory)]
#[case("d/kept is not what the layer below has there", another_file_of_the_layer_below)]
#[case("d/kept is hidden, and the layer came with nothing that hides it", an_added_whiteout)]
#[case("d/kept is hidden, and the layer came with nothing that hides it", an_added_opaque_mark)]
#[case("opaque/old was removed by the layer and is there", no_opaque_mark)]
#[case("again/old was removed by the layer and is there", no_opaque_mark_of_a_new_directory)]
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
    let touched = ["", "d", "opaque", "again"].map(|name| layer.join(name));
    let before = touched.each_ref().map(|path| time(path));
    alter(&layer);
    touched.iter().zip(before).for_each(|(path, time)| set_time(path, time));
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
    let base = Tar::new()
        .dir("d")
        .file("d/x", "x")
        .dir("gone")
        .file("gone/y", "y")
        .symlink("lib", "d")
        .dir("where")
        .file("where/old", "old")
        .symlink("to", "where")
        .dir("linked")
        .file("linked/one", "1")
        .hard_link("linked/two", "linked/one")
        .hard_link("linked/three", "linked/one");
    let top = Tar::new()
        .file("lib/.wh..wh..opq", "")
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
        .file("d/z", "not through it")
        // What leads elsewhere below, and is a directory now.
        .file("to/.wh..wh..opq", "")
        .file("to/one", "1")
        .dir("to")
        .file("to/two", "2")
        // Names of one file below, of which the tar tells something.
        .hard_link("linked/more", "linked/one")
        .file("linked/three", "is another one now");
    Memory::new([base.bytes(), top.bytes()], "image").pull(&store, &["image"]).unwrap();
    let found = check(&store);
    assert!(found.findings.is_empty() && found.verified == 2, "{found:?}");
}

/// A layer of vfs holds all that the one below has, so it differs from that one when that one is damaged.
#[rstest]
fn damage_is_told_of_the_layer_that_has_it(#[values("overlay2", "vfs")] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    image().pull(&store, &["image"]).unwrap();
    let base = store.image("image").unwrap().layers[0].id.to_string();
    let tree = if driver == "vfs" { "tree" } else { "diff" };
    let tree = scratch.root().join(driver).join(&base).join(tree);
    std::fs::write(tree.join("d/kept"), "KEPT").unwrap();
    std::fs::write(tree.join("added"), "x").unwrap();
    let found = check(&store);
    let [finding] = found.findings.as_slice() else { panic!("{:?}", found.findings) };
    assert_eq!((finding.kind, &finding.name), ("layer-damaged", &base));
}
