//! Containers through the public door: create, mount, write, diff, commit, export, remove; on every driver.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore::{ChangeKind, CommitOptions, ContainerOptions, Context, Kind, MountOptions, Store};
use rstest::rstest;

fn create(store: &Store, image: &str, name: Option<&str>) -> layerstore::Container {
    let options = ContainerOptions { name: name.map(ToOwned::to_owned), ..ContainerOptions::default() };
    store.create_container(image, &options, &Context::new()).unwrap()
}

fn diff(store: &Store, what: &str) -> Vec<(ChangeKind, String)> {
    let changes = store.diff(what, &Context::new()).unwrap();
    changes.into_iter().map(|change| (change.kind, change.path.to_string())).collect()
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_container_is_written_diffed_committed_and_removed(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let container = create(&store, "small", Some("box"));
    assert_eq!(container.id.len(), 64);
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(place, scratch.path().join("run/mnt").join(&container.id));
    assert_eq!(store.mount(&container.id[..12], &MountOptions::default()).unwrap(), place, "a second call");
    assert_eq!(std::fs::read_to_string(place.join("lib/new")).unwrap(), "through a symlink\n");
    assert!(!place.join("etc/passwd").exists());
    std::fs::write(place.join("etc/hosts"), "mine\n").unwrap();
    std::fs::write(place.join("fresh"), "fresh\n").unwrap();
    std::fs::remove_file(place.join("usr/lib/new")).unwrap();
    let listed = store.containers().unwrap();
    assert_eq!((listed[0].mounted, listed[0].mounts.as_slice()), (true, [place.clone()].as_slice()));
    let id = store
        .commit(
            "box",
            &CommitOptions {
                author: Some("me".to_owned()),
                message: Some("why".to_owned()),
                changes: vec!["ENV A=B".to_owned(), "CMD [\"run\"]".to_owned()],
                name: Some("new:1".to_owned()),
            },
            &Context::new(),
        )
        .unwrap();
    // The container goes on, mounted as it was.
    std::fs::write(place.join("later"), "later\n").unwrap();
    let changes = diff(&store, "box");
    let expected = [
        (ChangeKind::Modified, "etc"),
        (ChangeKind::Modified, "etc/hosts"),
        (ChangeKind::Added, "fresh"),
        (ChangeKind::Added, "later"),
        (ChangeKind::Modified, "usr/lib"),
        (ChangeKind::Deleted, "usr/lib/new"),
    ];
    // A directory whose own metadata did not change is a change to some people and not to others.
    let files = |list: &[(ChangeKind, String)]| {
        list.iter()
            .filter(|(_, path)| path != "etc" && path != "usr/lib" && path != "usr" && path != ".")
            .cloned()
            .collect::<Vec<_>>()
    };
    let expected: Vec<_> = expected.into_iter().map(|(kind, path)| (kind, path.to_owned())).collect();
    assert_eq!(files(&changes), files(&expected));
    let made = store.image("new:1").unwrap();
    assert_eq!(made.id, id);
    assert_eq!(made.parent.unwrap().to_string(), image.id());
    assert_eq!(made.layers.len(), 3);
    assert_eq!(made.config["config"]["Env"], serde_json::json!(["A=B"]));
    assert_eq!(made.config["config"]["Cmd"], serde_json::json!(["run"]));
    assert_eq!(made.config["author"], "me");
    let history = store.history("new:1").unwrap();
    assert_eq!((history.len(), history[0].comment.as_deref()), (3, Some("why")));
    // A container of the new image shows what was committed.
    let other = create(&store, "new:1", None);
    let other_place = store.mount(&other.id, &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(other_place.join("etc/hosts")).unwrap(), "mine\n");
    assert!(!other_place.join("lib/new").exists() && !other_place.join("later").exists());
    let mut tar = Vec::new();
    store.export(&other.id, &mut tar, &Context::new()).unwrap();
    let names: Vec<_> = tar::Archive::new(&tar[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().trim_end_matches('/').to_owned())
        .collect();
    assert!(names.contains(&"fresh".to_owned()) && names.contains(&"usr/lib/big".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains(".wh.") || name.ends_with("passwd")), "{names:?}");
    let check = store.check(layerstore::CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    assert_eq!(check.verified, 3, "the committed layer gives its diff ID back");
    let error = store.remove_container("box", false).unwrap_err();
    assert_eq!(error.kind(), Kind::InUse);
    assert!(error.message().contains(place.to_str().unwrap()), "{error}");
    store.remove_container("box", true).unwrap();
    assert!(!place.exists());
    assert_eq!(store.unmount(&other.id, None).unwrap(), std::slice::from_ref(&other_place));
    assert!(store.unmount(&other.id, None).unwrap().is_empty(), "a second call");
    assert!(!other_place.exists());
    store.remove_container(&other.id, false).unwrap();
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(store.driver().layers().unwrap().len(), 3);
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_read_only_mount_refuses_writing(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let container = create(&store, "small", None);
    let target = scratch.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let options = MountOptions { read_only: true, target: Some(target.clone()), ..MountOptions::default() };
    assert_eq!(store.mount(&container.id, &options).unwrap(), target);
    assert_eq!(
        std::fs::write(target.join("x"), "x").unwrap_err().kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
    store.unmount(&container.id, Some(&target)).unwrap();
    assert!(target.exists(), "the caller's directory stays");
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn the_same_changes_committed_twice_share_a_layer(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let container = create(&store, "small", None);
    let commit = |name: &str| {
        let options = CommitOptions { name: Some(name.to_owned()), ..CommitOptions::default() };
        store.commit(&container.id, &options, &Context::new()).unwrap()
    };
    let place = store.mount(&container.id, &MountOptions::default()).unwrap();
    std::fs::write(place.join("x"), "x").unwrap();
    store.unmount(&container.id, None).unwrap();
    assert_ne!(commit("one"), commit("two"), "the time of the commit differs");
    let layers = |name: &str| store.image(name).unwrap().layers.into_iter().map(|l| l.id).collect::<Vec<_>>();
    assert_eq!(layers("one"), layers("two"));
    assert_eq!(store.driver().layers().unwrap().len(), 4);
}

#[test]
fn names_of_containers_are_unique_and_clean() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    small().pull(&store, &["small"]).unwrap();
    create(&store, "small", Some("one"));
    let make = |name: &str| {
        let options = ContainerOptions { name: Some(name.to_owned()), ..ContainerOptions::default() };
        store.create_container("small", &options, &Context::new())
    };
    let error = make("one").unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::AlreadyExists, "the name \"one\" is taken"));
    for name in ["", "/x", "-x", "a b", &"0".repeat(64)] {
        assert_eq!(make(name).unwrap_err().kind(), Kind::InvalidInput, "{name:?}");
    }
    assert_eq!(store.driver().layers().unwrap().len(), 3, "a refused container leaves no layer");
    let error = store.create_container("missing", &ContainerOptions::default(), &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let error = store.container("missing").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}
