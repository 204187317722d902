//! Opening stores: drivers, versions, damage, two at once.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::*;
use layerstore::{Config, ContainerOptions, Context, Kind, MountOptions, Registry, Store, StoreOptions};
use rstest::rstest;

fn sql(scratch: &Scratch, statement: &str) {
    rusqlite::Connection::open(scratch.root().join("layerstore.db"))
        .unwrap()
        .execute_batch(statement)
        .unwrap();
}

#[test]
fn a_store_keeps_to_its_driver() {
    let scratch = Scratch::new();
    drop(scratch.open("vfs"));
    let error = open(scratch.config("overlay2")).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
    assert!(error.message().contains("made with the driver vfs"), "{error}");
    let mut config = scratch.config("vfs");
    config.driver.value = None;
    let store = open(config).unwrap();
    assert_eq!(store.driver().name(), "vfs");
    assert_eq!(store.info().unwrap().driver_reason, "the store holds its layers");
}

#[rstest]
#[case("PRAGMA user_version = 9", Kind::Unsupported, "the store has version 9, this program knows version 1")]
#[case("PRAGMA application_id = 5", Kind::Corrupt, "not a layerstore database (application id 0x5)")]
#[case(
    "UPDATE meta SET value = 'warp,drive' WHERE key = 'features'",
    Kind::Unsupported,
    "the store uses features that this program does not know: warp, drive"
)]
fn what_this_program_does_not_know_is_refused(
    #[case] statement: &str,
    #[case] kind: Kind,
    #[case] message: &str,
) {
    let scratch = Scratch::new();
    drop(scratch.open("vfs"));
    sql(&scratch, statement);
    let error = open(scratch.config("vfs")).unwrap_err();
    assert_eq!((error.kind(), error.message()), (kind, message));
}

#[test]
fn a_damaged_database_is_said_to_be_damaged() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    small().pull(&store, &["small"]).unwrap();
    drop(store);
    sql(&scratch, "PRAGMA wal_checkpoint(TRUNCATE)");
    let path = scratch.root().join("layerstore.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(b'x');
    std::fs::write(&path, bytes).unwrap();
    let error = open(scratch.config("vfs")).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn two_stores_in_one_process_do_not_disturb_each_other() {
    let (one, two) = (Scratch::new(), Scratch::new());
    let (first, second) = (one.open("vfs"), two.open("vfs"));
    small().pull(&first, &["small"]).unwrap();
    assert!(second.images().unwrap().is_empty());
    let other = Memory::new([Tar::new().file("a", "a").bytes()], "other");
    other.pull(&second, &["other"]).unwrap();
    assert_eq!((first.images().unwrap().len(), second.images().unwrap().len()), (1, 1));
    // And twice the same one.
    let again = one.open("vfs");
    assert_eq!(again.images().unwrap(), first.images().unwrap());
    other.pull(&again, &["other"]).unwrap();
    assert_eq!(first.images().unwrap().len(), 2);
}

#[test]
fn wrong_driver_options_name_their_place() {
    let scratch = Scratch::new();
    let mut config = scratch.config("vfs");
    let overrides = layerstore::Overrides {
        driver_options: vec!["no_such_key=1".to_owned()],
        ..layerstore::Overrides::default()
    };
    let flags = layerstore::Config::load(&overrides, &layerstore::Environment::default()).unwrap();
    config.selected_options = flags.selected_options;
    let error = open(config).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
    assert!(error.to_string().contains("no_such_key"), "{error}");
    let mut config = scratch.config("vfs");
    config.options.entry("overlay3".to_owned()).or_default();
    let store = open(config).unwrap();
    assert!(store.warnings()[0].contains("overlay3"), "{:?}", store.warnings());
}

#[test]
fn a_program_without_the_store_s_driver_says_which_one_it_needs() {
    let scratch = Scratch::new();
    drop(scratch.open("vfs"));
    let mut config = scratch.config("vfs");
    config.driver.value = None;
    let error = Store::open(StoreOptions { config, registry: Registry::new() }).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message().contains("vfs"), "{error}");
}

#[test]
fn the_root_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    drop(scratch.open("vfs"));
    for directory in ["root", "run"] {
        let mode = std::fs::metadata(scratch.path().join(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{directory}");
    }
}

/// What the next command of a script would have to make again, and to wait for the disk for.
#[test]
fn closing_and_opening_rewrite_nothing() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    drop(store);
    let log = scratch.root().join("layerstore.db-wal");
    let memo = scratch.path().join("run/overlay2/found.memo");
    let state = || (std::fs::metadata(&log).unwrap(), std::fs::metadata(&memo).unwrap());
    let before = state();
    assert!(before.0.len() > 0, "the last connection folded the log into the database");
    drop(scratch.open("overlay2"));
    let after = state();
    assert_eq!((before.0.ino(), before.0.len()), (after.0.ino(), after.0.len()), "the log was made again");
    assert_eq!(before.1.ino(), after.1.ino(), "what was found about the root was written again");
}

/// Every command of a script opens the store anew and reads the whole log of the database.
#[test]
fn the_log_of_the_database_stays_short_however_often_the_store_is_opened() {
    let scratch = Scratch::new();
    small().pull(&scratch.open("vfs"), &["small"]).unwrap();
    let log = || std::fs::metadata(scratch.root().join("layerstore.db-wal")).unwrap().len();
    let lengths = (0..150).map(|number| {
        scratch.open("vfs").tag("small", &format!("name:{number}")).unwrap();
        log()
    });
    let longest = lengths.max().unwrap();
    assert!((1..512 << 10).contains(&longest), "{longest} bytes");
}

#[test]
fn a_store_may_lie_below_a_symlink_and_be_one() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("disk")).unwrap();
    std::os::unix::fs::symlink("disk", scratch.path().join("link")).unwrap();
    let below = scratch.path().join("link/store");
    small().pull(&open(config_at(&below, "overlay2")).unwrap(), &["small"]).unwrap();
    std::os::unix::fs::symlink("store/root", scratch.path().join("disk/root")).unwrap();
    let itself = Config::at(scratch.path().join("link/root"), below.join("run")).with_driver("overlay2");
    let store = open(itself).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    store.mount(&made.id, &MountOptions::default()).unwrap();
    store.remove_container(&made.id, true).unwrap();
}

#[test]
fn a_root_is_not_its_own_runroot() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("one")).unwrap();
    std::os::unix::fs::symlink("one", scratch.path().join("same")).unwrap();
    let config = Config::at(scratch.path().join("one"), scratch.path().join("same")).with_driver("vfs");
    let error = open(config).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
    assert_eq!(std::fs::read_dir(scratch.path().join("one")).unwrap().count(), 0, "nothing was made there");
}

/// Both hold layers of the same ids, by which locks and leases go.
#[test]
fn a_copy_of_a_root_does_not_share_the_runroot_of_its_original() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    small().pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let place = store.mount(&made.id, &MountOptions::default()).unwrap();
    let copied = scratch.path().join("copy");
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copy(&scratch.root(), &copied);
    let shared = || Config::at(copied.clone(), scratch.path().join("run")).with_driver("vfs");
    let error = open(shared()).unwrap_err();
    assert_eq!(error.kind(), Kind::InUse, "{error}");
    assert!(error.to_string().contains("it is a copy of") && error.hint().is_some(), "{error}");
    let own = Config::at(copied.clone(), scratch.path().join("run2")).with_driver("vfs");
    let other = open(own).unwrap();
    assert!(!other.container(&made.id).unwrap().mounted, "the original's mount is not the copy's");
    assert!(other.unmount(&made.id, None).unwrap().is_empty());
    assert!(std::fs::read_dir(&place).unwrap().count() > 0, "and stays");
    drop(other);
    // One that took the place of its original, as after copying it to a larger disk, goes on with its runroot.
    store.unmount(&made.id, None).unwrap();
    drop(store);
    std::fs::remove_dir_all(scratch.root()).unwrap();
    std::fs::remove_file(copied.join("runroot.json")).unwrap();
    copy(&copied, &scratch.root());
    scratch.open("vfs").mount(&made.id, &MountOptions::default()).unwrap();
}
