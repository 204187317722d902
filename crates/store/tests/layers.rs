//! The verbs for driver authors, `df`, and images that go out through a transport.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::io::Write as _;

use common::*;
use layerstore::{
    ChangeKind, CheckOptions, Compression, ContainerOptions, Context, CreateOptions, Kind, LayerKind,
    MountOptions, PullOptions, PushOptions,
};
use layerstore_changeset::compress;
use rstest::rstest;

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_layer_is_made_applied_sealed_diffed_and_removed(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let context = Context::new();
    let options = layerstore::CreateOptions::default();
    let base = store.layer_create(Some("base"), None, &options, &context).unwrap();
    assert_eq!(base.as_str(), "base");
    let error = store.layer_create(Some("base"), None, &options, &context).unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
    let blob = compress(&base_tar(), compress::Compression::Zstd);
    store.layer_apply("base", &mut &blob[..], &context).unwrap();
    let error = store.layer_create(None, Some("base"), &options, &context).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "the parent is not sealed: {error}");
    assert!(store.layer_seal("base", &context).unwrap().inodes > 5);
    assert_eq!(store.layer("base").unwrap().kind, LayerKind::Committed);
    let top = store.layer_create(None, Some("base"), &options, &context).unwrap();
    store.layer_apply(top.as_str(), &mut &second_tar()[..], &context).unwrap();
    let changes = store.layer_changes(&top.as_str()[..10], None, &context).unwrap();
    let named = |kind, path: &str| changes.iter().any(|c| c.kind == kind && c.path.to_string() == path);
    assert!(
        named(ChangeKind::Deleted, "etc/passwd") && named(ChangeKind::Added, "usr/lib/new"),
        "{changes:?}"
    );
    let mut tar = Vec::new();
    store.layer_diff(top.as_str(), Some("base"), &mut tar, &context).unwrap();
    let copy = store.layer_create(Some("copy"), Some("base"), &options, &context).unwrap();
    store.layer_apply("copy", &mut &tar[..], &context).unwrap();
    let mut again = Vec::new();
    store.layer_diff("copy", None, &mut again, &context).unwrap();
    assert_eq!(tar, again, "applying a diff gives the same diff");
    let plan = store.layer_plan("copy", &layerstore::PlanOptions::default()).unwrap();
    assert!(serde_json::to_value(&plan).unwrap()["type"].is_string());
    let place = store.layer_mount("copy", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("usr/lib/new")).unwrap(), "through a symlink\n");
    assert_eq!(store.layer_remove("copy").unwrap_err().kind(), Kind::InUse);
    store.layer_unmount("copy", None).unwrap();
    assert!(store.gc(false).unwrap().freed.is_empty(), "such layers stay");
    let check = store.check(layerstore::CheckOptions::default(), &context).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    let error = store.layer_remove("base").unwrap_err();
    assert_eq!(error.kind(), Kind::InUse);
    assert!(error.message().contains("layer "), "{error}");
    for id in [copy.as_str(), top.as_str(), "base"] {
        store.layer_remove(id).unwrap();
    }
    assert!(store.layers().unwrap().is_empty() && store.driver().layers().unwrap().is_empty());
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn an_image_goes_out_and_comes_back_the_same(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small:1"]).unwrap();
    for (index, compression) in
        [Compression::Gzip, Compression::Zstd, Compression::None].into_iter().enumerate()
    {
        let layout = format!("oci:{}:1", scratch.path().join(format!("layout-{index}")).display());
        let options = PushOptions { compression: Some(compression), ..PushOptions::default() };
        let first = store.push("small:1", &layout, &options, &Context::new()).unwrap();
        assert_eq!(
            store.push("small:1", &layout, &options, &Context::new()).unwrap(),
            first,
            "deterministic"
        );
        let other = Scratch::new();
        let back = other.open(driver);
        let options = PullOptions { names: vec!["back".to_owned()], ..PullOptions::default() };
        let pulled = back.pull(&layout, &options, &Context::new()).unwrap();
        assert_eq!(pulled.id.to_string(), image.id());
        assert_eq!(exported(&back, "back"), image.tars());
    }
    let archive = format!("docker-archive:{}", scratch.path().join("image.tar").display());
    store.push("small:1", &archive, &PushOptions::default(), &Context::new()).unwrap();
    let other = Scratch::new();
    let back = other.open(driver);
    let pulled = back.pull(&archive, &PullOptions::default(), &Context::new()).unwrap();
    assert_eq!(pulled.id.to_string(), image.id());
    assert_eq!(back.images().unwrap()[0].names[0].to_string(), "small:1", "the archive knows the name");
}

#[test]
fn a_damaged_layer_is_not_pushed() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    small().pull(&store, &["small"]).unwrap();
    let top = store.image("small").unwrap().layers[1].id.clone();
    let record = scratch.root().join("records").join(format!("{top}.tar-split.gz"));
    let other = scratch.root().join("records");
    let base = store.image("small").unwrap().layers[0].id.clone();
    std::fs::copy(other.join(format!("{base}.tar-split.gz")), record).unwrap();
    let layout = scratch.path().join("layout");
    let target = format!("oci:{}:1", layout.display());
    let error = store.push("small", &target, &PushOptions::default(), &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap_or_default();
    assert!(!index.contains("sha256"), "nothing is visible there: {index}");
}

#[test]
fn df_tells_shared_from_unique() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    small().pull(&store, &["a"]).unwrap();
    Memory::new([base_tar(), Tar::new().file("x", vec![1; 100_000]).bytes()], "b")
        .pull(&store, &["b"])
        .unwrap();
    store.create_container("a", &ContainerOptions::default(), &Context::new()).unwrap();
    let space = store.space().unwrap();
    assert_eq!((space.images.len(), space.containers.len(), space.layers.len()), (2, 1, 0));
    let base = store.image("a").unwrap().layers[0].disk_bytes.unwrap();
    assert!(base > 0);
    for line in &space.images {
        assert_eq!((line.shared, line.shared + line.unique), (base, line.size));
    }
    let containers: u64 = space.containers.iter().map(|line| line.size).sum();
    assert_eq!(space.total, space.images.iter().map(|line| line.unique).sum::<u64>() + base + containers);
    assert_eq!(space.reclaimable, 0);
    let used = |name: &str| space.images.iter().find(|l| l.names[0].starts_with(name)).unwrap().in_use;
    assert!(used("a:") && !used("b:"));
}

/// A tar that ends within its second file.
fn broken_off() -> Vec<u8> {
    let mut tar = Tar::new().file("first", "whole").file("second", vec![1; 200_000]).bytes();
    tar.truncate(100_000);
    tar
}

#[rstest]
fn a_layer_into_which_a_tar_broke_off_is_found(#[values("overlay2", "vfs")] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let context = Context::new();
    let quick = CheckOptions { quick: true, ..CheckOptions::default() };
    let options = layerstore::CreateOptions::default();
    store.layer_create(Some("l"), None, &options, &context).unwrap();
    assert!(store.check(quick, &context).unwrap().findings.is_empty());
    store.layer_apply("l", &mut broken_off().as_slice(), &context).unwrap_err();
    for options in [quick, CheckOptions::default()] {
        let findings = store.check(options, &context).unwrap().findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].kind, &*findings[0].name), ("layer-half-applied", "l"));
        assert!(findings[0].message.contains("layer remove l"), "{findings:?}");
    }
    assert!(store.driver().layers().unwrap()[0].half_applied);
    store.layer_remove("l").unwrap();
    assert!(store.check(quick, &context).unwrap().findings.is_empty());
}

#[rstest]
fn a_layer_into_which_somebody_writes_is_no_finding(#[values("overlay2", "vfs")] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let context = Context::new();
    store.layer_create(Some("l"), None, &layerstore::CreateOptions::default(), &context).unwrap();
    let tar = Tar::new().file("first", "whole").file("second", vec![1; 2_000_000]).bytes();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| store.layer_apply("l", &mut reader, &Context::new()));
        // More than a pipe holds: it is in the middle.
        writer.write_all(&tar[..1_000_000]).unwrap();
        let findings = store.check(CheckOptions::default(), &context).unwrap().findings;
        assert!(findings.is_empty(), "{findings:?}");
        writer.write_all(&tar[1_000_000..]).unwrap();
        drop(writer);
        applied.join().unwrap().unwrap();
    });
    assert!(store.check(CheckOptions::default(), &context).unwrap().findings.is_empty());
}

#[rstest]
#[case::junk(b"junk".repeat(1000))]
#[case::a_line(b"not a tar\n".to_vec())]
#[case::much_junk(b"junk".repeat(100_000))]
fn what_is_no_tar_does_not_spoil_a_layer(#[case] junk: Vec<u8>, #[values("overlay2", "vfs")] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let context = Context::new();
    store.layer_create(Some("l"), None, &layerstore::CreateOptions::default(), &context).unwrap();
    let error = store.layer_apply("l", &mut junk.as_slice(), &context).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
    assert!(error.code().is_some(), "{error}");
    assert!(store.check(CheckOptions::default(), &context).unwrap().findings.is_empty());
    store.layer_apply("l", &mut base_tar().as_slice(), &context).unwrap();
    store.layer_seal("l", &context).unwrap();
}

/// The turn to write is held, so that the parent goes after the child was made and before it has its row.
#[test]
fn a_layer_is_not_made_over_one_that_is_being_removed() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let (options, context) = (CreateOptions::default(), Context::new());
    let parent = store.layer_create(Some("parent"), None, &options, &context).unwrap();
    store.layer_seal("parent", &context).unwrap();
    let root = layerstore_sys::Dir::open(scratch.root()).unwrap();
    let file = root.open_or_create_file(b"gate.lock", 0o600).unwrap();
    let turn = layerstore_sys::turn::Turn::wait(file).unwrap();
    let made = std::thread::scope(|scope| {
        let maker = scope.spawn(|| store.layer_create(Some("child"), Some("parent"), &options, &context));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let database = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
        database.execute("UPDATE layers SET state = 'deleting'", []).unwrap();
        drop(turn);
        maker.join().unwrap()
    });
    let error = made.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("parent"), "{error}");
    assert!(scratch.open("overlay2").driver().layers().unwrap().is_empty(), "{parent} is gone, too");
}
