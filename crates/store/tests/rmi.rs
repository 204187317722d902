//! Docker's rules for removing images: who may go, in what words, and what is printed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore::{
    CheckOptions, CommitOptions, Container, ContainerOptions, Context, CreateOptions, Kind, Layer,
    MountOptions, Removal, Store,
};
use rstest::rstest;

struct Fixture {
    scratch: Scratch,
    store: Store,
    image: Memory,
    container: Option<Container>,
}

impl Fixture {
    fn hex(&self) -> String {
        self.image.id().trim_start_matches("sha256:").to_owned()
    }
}

/// An image with these names (`@D` for its manifest's digest); a container of it, if wanted, and mounted, if wanted.
fn fixture(names: &[&str], container: Option<bool>) -> Fixture {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let image = small().with_manifest();
    let names: Vec<_> =
        names.iter().map(|name| name.replace("@D", &format!("@{}", image.digest()))).collect();
    image.pull(&store, &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let container = container.map(|mounted| {
        let made =
            store.create_container(&image.id(), &ContainerOptions::default(), &Context::new()).unwrap();
        if mounted {
            store.mount(&made.id, &MountOptions::default()).unwrap();
        }
        made
    });
    Fixture { scratch, store, image, container }
}

// NAMES by which the image is known; whether it has a container, and that is mounted; what is removed; forced.
// Then what is printed, or what is said. I, C and L stand for ids: image, container, layers from the top.
#[rstest]
#[case::by_name(&["a:1"], None, "a:1", false, Ok("Untagged: a:1|Deleted: I|Deleted: L1|Deleted: L0"))]
#[case::by_id(&["a:1"], None, "I", false, Ok("Untagged: a:1|Deleted: I|Deleted: L1|Deleted: L0"))]
#[case::one_of_two_names(&["a:1", "b:1"], None, "a:1", false, Ok("Untagged: a:1"))]
#[case::two_tags_by_id(&["a:1", "a:2"], None, "I", false,
    Err("conflict: unable to delete I12 (must be forced) - image is referenced in multiple repositories"))]
#[case::two_tags_by_id_forced(&["a:1", "b:2"], None, "I", true,
    Ok("Untagged: a:1|Untagged: b:2|Deleted: I|Deleted: L1|Deleted: L0"))]
#[case::tag_and_digest_by_id(&["a:1", "a@D"], None, "I", false,
    Ok("Untagged: a:1|Untagged: a@D|Deleted: I|Deleted: L1|Deleted: L0"))]
#[case::the_last_tag_takes_the_digest(&["a:1", "a@D"], None, "a:1", false,
    Ok("Untagged: a:1|Untagged: a@D|Deleted: I|Deleted: L1|Deleted: L0"))]
#[case::a_digest_of_another_repository_stays(&["a:1", "b@D"], None, "a:1", false, Ok("Untagged: a:1"))]
#[case::no_name_by_id(&[], None, "I", false, Ok("Deleted: I|Deleted: L1|Deleted: L0"))]
#[case::stopped_by_name(&["a:1"], Some(false), "a:1", false,
    Err("conflict: unable to remove repository reference \"a:1\" (must force) - container C12 is using its referenced image I12"))]
#[case::stopped_by_name_of_two(&["a:1", "b:1"], Some(false), "a:1", false, Ok("Untagged: a:1"))]
#[case::stopped_by_id(&["a:1"], Some(false), "I", false,
    Err("conflict: unable to delete I12 (must be forced) - image is being used by stopped container C12"))]
#[case::stopped_by_id_forced(&["a:1"], Some(false), "I", true, Ok("Untagged: a:1|Deleted: I"))]
#[case::stopped_by_name_forced(&["a:1"], Some(false), "a:1", true, Ok("Untagged: a:1|Deleted: I"))]
#[case::running_by_name(&["a:1"], Some(true), "a:1", false,
    Err("conflict: unable to remove repository reference \"a:1\" (must force) - container C12 is using its referenced image I12"))]
#[case::running_by_id(&["a:1"], Some(true), "I", false,
    Err("conflict: unable to delete I12 (cannot be forced) - image is being used by running container C12"))]
#[case::running_by_id_forced(&["a:1"], Some(true), "I", true,
    Err("conflict: unable to delete I12 (cannot be forced) - image is being used by running container C12"))]
#[case::running_by_name_forced(&["a:1"], Some(true), "a:1", true, Ok("Untagged: a:1"))]
#[case::running_with_two_names_by_id(&["a:1", "b:1"], Some(true), "I", false,
    Err("conflict: unable to delete I12 (cannot be forced) - image is being used by running container C12"))]
#[case::missing(&["a:1"], None, "b", false, Err("No such image: b:latest"))]
#[case::blank(&["a:1"], None, "", false, Err("image name cannot be blank"))]
fn docker_s_rules(
    #[case] names: &[&str],
    #[case] container: Option<bool>,
    #[case] removed: &str,
    #[case] force: bool,
    #[case] expected: Result<&str, &str>,
) {
    let fixture = fixture(names, container);
    let (id, hex) = (fixture.image.id(), fixture.hex());
    let chain: Vec<_> =
        fixture.store.image(&id).unwrap().layers.iter().map(|l| l.chain_id.unwrap()).collect();
    let place = |text: &str| {
        let container = fixture.container.as_ref().map_or("", |container| &container.id[..12]);
        text.replace("I12", &hex[..12]).replace("C12", container)
    };
    let removed = if removed == "I" { &hex[..20] } else { removed };
    let result = fixture.store.remove_image(removed, force);
    match expected {
        Ok(lines) => {
            let lines: Vec<_> = lines
                .split('|')
                .map(|line| {
                    line.replace("@D", &format!("@{}", fixture.image.digest()))
                        .replace("Deleted: I", &format!("Deleted: {id}"))
                        .replace("L1", &chain[1].to_string())
                        .replace("L0", &chain[0].to_string())
                })
                .collect();
            let found: Vec<_> = result.unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(found, lines);
        }
        Err(message) => {
            let before = fixture.store.images().unwrap();
            assert_eq!(result.unwrap_err().message(), place(message));
            assert_eq!(fixture.store.images().unwrap(), before, "a refused removal changes nothing");
            assert_eq!(before[0].names.len(), names.len());
        }
    }
    drop(fixture.scratch);
}

#[test]
fn layers_of_a_removed_image_stay_for_its_containers_and_go_with_the_last_of_them() {
    let fixture = fixture(&["a:1"], Some(false));
    let (store, container) = (&fixture.store, fixture.container.as_ref().unwrap());
    let second = store.create_container("a:1", &ContainerOptions::default(), &Context::new()).unwrap();
    store.remove_image("a:1", true).unwrap();
    assert!(store.gc(false).unwrap().freed.is_empty());
    let place = store.mount(&container.id, &MountOptions::default()).unwrap();
    assert!(place.join("etc/hosts").exists());
    store.remove_container(&container.id, true).unwrap();
    assert_eq!(store.driver().layers().unwrap().len(), 3, "the second one needs them still");
    store.remove_container(&second.id, false).unwrap();
    assert!(store.driver().layers().unwrap().is_empty() && store.layers().unwrap().is_empty());
    for folder in ["records", "images", "containers"] {
        assert!(listing(fixture.scratch.root().join(folder)).is_empty(), "{folder}");
    }
    assert!(store.gc(true).unwrap().freed.is_empty(), "nothing is left for gc");
    assert!(store.check(CheckOptions::default(), &Context::new()).unwrap().findings.is_empty());
}

/// What else may keep a layer of a removed image when its container goes.
#[rstest]
#[case::another_image("image")]
#[case::an_image_that_was_committed("commit")]
#[case::a_layer_made_by_hand("layer")]
fn layers_of_a_removed_image_that_something_else_needs_stay(#[case] keeper: &str) {
    let fixture = fixture(&["a:1"], Some(false));
    let (store, container) = (&fixture.store, fixture.container.as_ref().unwrap());
    let layers = store.image("a:1").unwrap().layers;
    let other = Memory::new([base_tar(), Tar::new().file("x", "x").bytes()], "other");
    let committed = match keeper {
        "image" => {
            other.pull(store, &["b:1"]).unwrap();
            None
        }
        "layer" => {
            let parent = Some(layers[1].id.as_str());
            store.layer_create(Some("mine"), parent, &CreateOptions::default(), &Context::new()).unwrap();
            None
        }
        _ => Some(()),
    };
    store.remove_image("a:1", true).unwrap();
    let committed = committed.map(|()| child(&fixture, "child:1", "me"));
    store.remove_container(&container.id, false).unwrap();
    let stay = store.layers().unwrap();
    let stays = |layer: &Layer| stay.iter().any(|other| other.id == layer.id);
    assert_eq!(layers.iter().map(stays).collect::<Vec<_>>(), [true, keeper != "image"]);
    match keeper {
        "image" => assert_eq!(exported(store, "b:1"), other.tars()),
        "layer" => assert_eq!(store.layer_remove("mine").unwrap().as_str(), "mine"),
        _ => assert_eq!(exported(store, &committed.unwrap()).len(), 3),
    }
    assert!(store.check(CheckOptions::default(), &Context::new()).unwrap().findings.is_empty());
}

#[test]
fn gc_tells_what_it_would_free_and_frees_it() {
    let fixture = fixture(&["a:1"], None);
    let store = &fixture.store;
    let top = store.image("a:1").unwrap().layers[1].id.to_string();
    store.layer_create(Some("mine"), Some(&top), &CreateOptions::default(), &Context::new()).unwrap();
    store.remove_image("a:1", false).unwrap();
    store.layer_remove("mine").unwrap();
    let dry = store.gc(true).unwrap();
    assert_eq!(store.driver().layers().unwrap().len(), 2, "a dry run frees nothing");
    let wet = store.gc(false).unwrap();
    assert_eq!((dry.freed.len(), &dry.freed, dry.bytes), (2, &wet.freed, wet.bytes));
    assert!(store.driver().layers().unwrap().is_empty());
}

/// Commits a container of the fixture's image under this name.
fn child(fixture: &Fixture, name: &str, author: &str) -> String {
    let container = fixture.container.as_ref().unwrap();
    let options = CommitOptions {
        name: Some(name.to_owned()),
        author: Some(author.to_owned()),
        ..CommitOptions::default()
    };
    fixture.store.commit(&container.id, &options, &Context::new()).unwrap().to_string()
}

fn lines(removals: &[Removal]) -> Vec<String> {
    removals.iter().map(ToString::to_string).collect()
}

#[rstest]
fn an_image_with_children_loses_its_name_and_goes_with_the_last_of_them(#[values(false, true)] force: bool) {
    let fixture = fixture(&["a:1"], Some(false));
    let store = &fixture.store;
    let child = child(&fixture, "child", "me");
    store.remove_container(&fixture.container.as_ref().unwrap().id, false).unwrap();
    let error = store.remove_image(&fixture.hex(), true).unwrap_err();
    assert_eq!(error.kind(), Kind::InUse);
    assert!(error.message().ends_with("(cannot be forced) - image has dependent child images"), "{error}");
    assert_eq!(store.image(&fixture.image.id()).unwrap().names.len(), 1, "what is refused changes nothing");

    assert_eq!(lines(&store.remove_image("a:1", force).unwrap()), ["Untagged: a:1"]);
    assert!(store.image(&fixture.image.id()).unwrap().names.is_empty());
    let lines = lines(&store.remove_image("child", false).unwrap());
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[0], "Untagged: child:latest");
    assert_eq!(lines[1], format!("Deleted: {child}"));
    assert_eq!(lines[3], format!("Deleted: {}", fixture.image.id()));
    assert!(store.images().unwrap().is_empty() && store.layers().unwrap().is_empty());
    assert!(listing(fixture.scratch.root().join("images")).is_empty());
}

#[test]
fn an_image_without_a_name_stays_for_its_other_child() {
    let fixture = fixture(&["a:1"], Some(false));
    let store = &fixture.store;
    let (one, two) = (child(&fixture, "one", "me"), child(&fixture, "two", "you"));
    store.remove_container(&fixture.container.as_ref().unwrap().id, false).unwrap();
    assert_eq!(lines(&store.remove_image("a:1", false).unwrap()), ["Untagged: a:1"]);
    let first = lines(&store.remove_image("one", false).unwrap());
    assert_eq!(first, ["Untagged: one:latest".to_owned(), format!("Deleted: {one}")]);
    assert_eq!(store.images().unwrap().len(), 2);
    let second = lines(&store.remove_image("two", false).unwrap());
    assert_eq!(second[1], format!("Deleted: {two}"));
    assert!(store.images().unwrap().is_empty() && store.layers().unwrap().is_empty());
}

#[test]
fn shared_layers_stay_for_the_other_image() {
    let fixture = fixture(&["a:1"], None);
    let other = Memory::new([base_tar(), Tar::new().file("x", "x").bytes()], "other");
    other.pull(&fixture.store, &["b:1"]).unwrap();
    let lines = fixture.store.remove_image("a:1", false).unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(fixture.store.layers().unwrap().len(), 2);
    assert_eq!(exported(&fixture.store, "b:1"), other.tars());
}
