//! A database that is older than the data, or lost rows: what records tell of is told, kept and brought back.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use common::harm::{check, execute, kinds};
use common::*;
use layerstore::{CommitOptions, Container, ContainerOptions, Context, CreateOptions, MountOptions, Store};
use rstest::rstest;

const FILES: [&str; 3] = ["layerstore.db", "layerstore.db-wal", "layerstore.db-shm"];

/// A container with a change that nobody wants to lose, and an image made of it.
fn precious(store: &Store, image: &str) -> Container {
    let options = ContainerOptions { name: Some("box".to_owned()), ..ContainerOptions::default() };
    let made = store.create_container(image, &options, &Context::new()).unwrap();
    let place = store.mount("box", &MountOptions::default()).unwrap();
    std::fs::write(place.join("own"), "mine").unwrap();
    store.unmount("box", None).unwrap();
    let commit = CommitOptions { name: Some("child".to_owned()), ..CommitOptions::default() };
    store.commit("box", &commit, &Context::new()).unwrap();
    store.container(&made.id).unwrap()
}

/// Copies the database's files away, or back.
fn copy(scratch: &Scratch, back: bool) {
    let (root, aside) = (scratch.root(), scratch.path().join("aside"));
    std::fs::create_dir_all(&aside).unwrap();
    for name in FILES {
        let (from, to) = if back { (&aside, &root) } else { (&root, &aside) };
        let _ = std::fs::remove_file(to.join(name));
        let _ = std::fs::copy(from.join(name), to.join(name));
    }
}

fn older(scratch: &Scratch) {
    copy(scratch, true);
}

fn without_its_log(scratch: &Scratch) {
    for name in &FILES[1..] {
        std::fs::remove_file(scratch.root().join(name)).unwrap();
    }
}

fn emptied(scratch: &Scratch) {
    execute(
        scratch,
        "DELETE FROM names; DELETE FROM image_layers; DELETE FROM images; DELETE FROM containers; DELETE FROM layers;",
    );
}

fn without_layers(scratch: &Scratch) {
    execute(scratch, "DELETE FROM layers;");
}

fn without_images(scratch: &Scratch) {
    execute(scratch, "DELETE FROM images;");
}

fn without_containers(scratch: &Scratch) {
    execute(scratch, "DELETE FROM containers; DELETE FROM image_layers;");
}

#[rstest]
#[case::older("overlay2", older)]
#[case::older("vfs", older)]
#[case::log("overlay2", without_its_log)]
#[case::emptied("overlay2", emptied)]
#[case::layers("overlay2", without_layers)]
#[case::images("overlay2", without_images)]
#[case::containers("overlay2", without_containers)]
fn what_the_database_lost_is_told_and_kept_and_brought_back(
    #[case] driver: &str,
    #[case] harm: fn(&Scratch),
    #[values(false, true)] boot: bool,
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    // All of it into the file: the log holds only what comes now.
    let connection = rusqlite::Connection::open(scratch.root().join(FILES[0])).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    copy(&scratch, false);
    let made = precious(&store, "small");
    drop(store);
    harm(&scratch);
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let store = scratch.open(driver);
    let found = check(&store, false);
    assert!(kinds(&found).contains(&"row-lost"), "{:?}", found.findings);
    assert!(!kinds(&found).contains(&"layer-unknown"), "{:?}", found.findings);
    // A removal of something else, and gc, leave it alone.
    let other = store.layer_create(Some("other"), None, &CreateOptions::default(), &Context::new()).unwrap();
    store.layer_remove(other.as_str()).unwrap();
    assert!(store.gc(false).unwrap().freed.is_empty());
    let repaired = check(&store, true);
    assert!(repaired.findings.iter().any(|finding| finding.kind == "row-lost" && finding.repaired));
    let after = check(&store, true);
    assert!(after.findings.is_empty(), "{:?}", after.findings);
    assert_eq!(store.container("box").unwrap(), made);
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
    assert_eq!(exported(&store, "small"), image.tars());
    assert_eq!(exported(&store, "child").len(), 3);
    // And all of it can go, for good.
    store.remove_container("box", false).unwrap();
    store.remove_image("child", false).unwrap();
    store.remove_image("small", false).unwrap();
    assert!(check(&store, true).findings.is_empty());
    assert!(store.layers().unwrap().is_empty() && store.images().unwrap().is_empty());
    assert!(store.driver().layers().unwrap().is_empty());
}

#[test]
fn what_lies_under_something_lost_cannot_be_removed() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    copy(&scratch, false);
    let made = precious(&store, "small");
    drop(store);
    older(&scratch);
    let store = scratch.open("overlay2");
    let _ = store.remove_image("small", true);
    store.gc(false).unwrap();
    assert!(store.driver().exists(&made.layer).unwrap());
    drop(store);
    let store = scratch.open("overlay2");
    check(&store, true);
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    assert!(place.join("etc/hosts").exists());
    store.unmount("box", None).unwrap();
    let after = check(&store, true);
    assert!(after.findings.is_empty(), "{:?}", after.findings);
}

/// What a power cut takes back of a removal is not taken for a lost row.
#[rstest]
#[case::same_boot(false)]
#[case::next_boot(true)]
fn records_of_what_was_removed_are_leftovers(#[case] boot: bool) {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let made = precious(&store, "small");
    let kept = scratch.path().join("kept");
    let copied = std::process::Command::new("cp").arg("-a").arg(scratch.root()).arg(&kept).status().unwrap();
    assert!(copied.success());
    store.remove_container("box", false).unwrap();
    // Its layers stay, for the container's image is over them, too.
    store.tag("child", "other").unwrap();
    store.create_container("child", &ContainerOptions::default(), &Context::new()).unwrap();
    store.remove_image("child", true).unwrap();
    store.remove_image("other", true).unwrap();
    assert!(check(&store, false).findings.is_empty(), "an image that left its documents to a container");
    drop(store);
    for folder in ["containers", "records", "overlay2", "images"] {
        let from = kept.join(folder).join(".");
        let to = scratch.root().join(folder);
        assert!(std::process::Command::new("cp").arg("-an").args([from, to]).status().is_ok());
    }
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let store = scratch.open("overlay2");
    let found = check(&store, false);
    assert!(!kinds(&found).contains(&"row-lost"), "{:?}", found.findings);
    store.gc(false).unwrap();
    assert!(!store.driver().exists(&made.layer).unwrap(), "it goes with gc");
    assert!(check(&store, false).findings.is_empty());
    assert_eq!((store.images().unwrap().len(), store.containers().unwrap().len()), (1, 1));
}

/// Somebody removes it right now: its row says so before its record goes.
#[rstest]
fn a_layer_on_its_way_out_is_not_lost(#[values(false, true)] repair: bool) {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    store.layer_create(Some("own"), None, &CreateOptions::default(), &Context::new()).unwrap();
    execute(&scratch, "UPDATE layers SET state = 'deleting'");
    let found = check(&store, repair);
    assert!(!kinds(&found).contains(&"row-lost"), "{:?}", found.findings);
    drop(store);
    let store = scratch.open("overlay2");
    assert!(store.layers().unwrap().is_empty() && store.driver().layers().unwrap().is_empty());
}
