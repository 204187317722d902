//! What is done to a store from outside, a store to do it to, and how it is looked at afterwards.

use std::path::{Path, PathBuf};

use layerstore::{Check, CheckOptions, ContainerOptions, Context, MountOptions, Store, StoreOptions};

use super::{Memory, Scratch, listing, registry, small};

pub(crate) fn check(store: &Store, repair: bool) -> Check {
    store.check(CheckOptions { repair, ..CheckOptions::default() }, &Context::new()).unwrap()
}

pub(crate) fn options(scratch: &Scratch) -> StoreOptions {
    StoreOptions { config: scratch.config("overlay2"), registry: registry() }
}

pub(crate) fn kinds(check: &Check) -> Vec<&str> {
    check.findings.iter().map(|finding| finding.kind).collect()
}

/// Changes the database by hand.
pub(crate) fn execute(scratch: &Scratch, statements: &str) {
    let connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {statements}")).unwrap();
}

/// A store with an image and a container that changed something.
pub(crate) fn filled(scratch: &Scratch) -> (Memory, layerstore::Container) {
    let store = scratch.open("overlay2");
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let options = ContainerOptions { name: Some("box".to_owned()), ..ContainerOptions::default() };
    let made = store.create_container("small", &options, &Context::new()).unwrap();
    let place = store.mount("box", &MountOptions::default()).unwrap();
    std::fs::write(place.join("own"), "mine").unwrap();
    store.unmount("box", None).unwrap();
    (image, made)
}

pub(crate) fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|stat| stat.is_dir()) {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        let _ = std::fs::remove_file(path);
    }
}

pub(crate) fn directory(path: &Path, _: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("inside"), "x").unwrap();
}

pub(crate) fn symlink(path: &Path, victim: &Path) {
    std::os::unix::fs::symlink(victim, path).unwrap();
}

pub(crate) fn fifo(path: &Path, _: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Something that nobody may touch, with what it is now.
pub(crate) fn victim(scratch: &Scratch) -> (PathBuf, impl Fn()) {
    let victim = scratch.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "not yours").unwrap();
    let inside = victim.clone();
    let look = move || {
        assert_eq!(listing(&inside), ["file"]);
        assert_eq!(std::fs::read_to_string(inside.join("file")).unwrap(), "not yours");
    };
    (victim, look)
}
