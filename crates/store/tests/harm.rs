//! Something else lies where a file of the store has to be, or records cannot be read: told, repaired, never followed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use common::harm::*;
use common::*;
use layerstore::{Check, Context, Kind, MountOptions};
use rstest::rstest;

#[rstest]
fn what_lies_in_the_place_of_a_file_of_the_store_is_replaced(
    #[values("record", "container", "config.json", "manifest.json", "image.json", "names.json", "image")]
    what: &str,
    #[values(directory, symlink, fifo)] put: fn(&Path, &Path),
    #[values(false, true)] boot: bool,
) {
    let scratch = Scratch::new();
    let (image, made) = filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let root = scratch.root();
    let folder = root.join("images").join(image.id().replace("sha256:", ""));
    let path = match what {
        "record" => {
            let names = listing(root.join("records"));
            root.join("records").join(names.iter().find(|name| name.ends_with(".tar-split.gz")).unwrap())
        }
        "container" => root.join("containers").join(format!("{}.json", made.layer)),
        "image" => folder,
        document => folder.join(document),
    };
    remove(&path);
    put(&path, &victim);
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let store = scratch.open("overlay2");
    check(&store, false);
    check(&store, true);
    image.pull(&store, &["small"]).unwrap();
    check(&store, true);
    let after = check(&store, true);
    assert!(after.findings.is_empty(), "{:?}", after.findings);
    assert_eq!(exported(&store, "small"), image.tars());
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
    untouched();
    store.remove_container("box", false).unwrap();
    store.remove_image("small", false).unwrap();
    assert!(store.gc(false).unwrap().freed.is_empty());
    assert!(store.layers().unwrap().is_empty());
    untouched();
}

#[rstest]
fn an_unknown_directory_stops_no_repair(#[values("records", "containers", "blobs", "images")] folder: &str) {
    let scratch = Scratch::new();
    filled(&scratch);
    let unknown = scratch.root().join(folder).join("unknown");
    directory(&unknown, &unknown);
    let store = scratch.open("overlay2");
    check(&store, true);
    assert!(!unknown.exists());
    directory(&unknown, &unknown);
    store.gc(false).unwrap();
    assert!(!unknown.exists());
}

#[rstest]
fn a_record_or_blob_that_is_cut_off_is_damage(
    #[values(false, true)] keep_blobs: bool,
    #[values("half", "empty", "garbage", "missing")] harm: &str,
) {
    let scratch = Scratch::new();
    let mut config = scratch.config("overlay2");
    config.keep_blobs.value = keep_blobs;
    let store = open(config).unwrap();
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let folder = scratch.root().join(if keep_blobs { "blobs" } else { "records" });
    let suffix = if keep_blobs { "" } else { ".tar-split.gz" };
    for name in listing(&folder).iter().filter(|name| name.ends_with(suffix)) {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).unwrap();
        match harm {
            "half" => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            "empty" => std::fs::write(&path, "").unwrap(),
            "garbage" => std::fs::write(&path, vec![b'x'; bytes.len()]).unwrap(),
            _ => std::fs::remove_file(&path).unwrap(),
        }
    }
    if keep_blobs {
        // It only saves work: the record gives the layer all the same.
        assert_eq!(exported(&store, "small"), image.tars());
        return;
    }
    let layer = store.image("small").unwrap().layers[0].id.to_string();
    let error = store.layer_tar(&layer, &mut std::io::sink(), &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.hint().unwrap().contains("pull it again"), "{error}");
    let found = check(&store, false);
    assert_eq!(found.findings.len(), 2, "{:?}", found.findings);
    image.pull(&store, &["small"]).unwrap();
    assert!(check(&store, true).findings.is_empty());
    assert_eq!(exported(&store, "small"), image.tars());
}

#[test]
fn a_container_whose_changes_are_gone_is_told() {
    let scratch = Scratch::new();
    let (_, made) = filled(&scratch);
    std::fs::remove_dir_all(scratch.root().join("overlay2").join(made.layer.as_str()).join("diff")).unwrap();
    let store = scratch.open("overlay2");
    let found = check(&store, false);
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert_eq!((found.findings[0].kind, &*found.findings[0].name), ("layer-damaged", made.layer.as_str()));
    store.remove_container("box", false).unwrap();
    assert!(check(&store, true).findings.is_empty());
}

#[rstest]
fn what_is_no_layer_stops_no_recovery(
    #[values("staging", "trash")] folder: &str,
    #[values("file", "link", "fifo")] what: &str,
) {
    let scratch = Scratch::new();
    filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let stray = scratch.root().join("overlay2").join(folder).join("stray");
    match what {
        "file" => std::fs::write(&stray, "x").unwrap(),
        "link" => symlink(&stray, &victim),
        _ => fifo(&stray, &victim),
    }
    let store = scratch.open("overlay2");
    store.gc(false).unwrap();
    assert!(stray.symlink_metadata().is_err());
    untouched();
}

/// In the boot in which the store was made and looked at already.
#[rstest]
fn short_names_of_layers_are_made_again_by_a_repair(
    #[values("removed", "emptied", "elsewhere")] harm: &str,
    #[values(false, true)] told: bool,
) {
    let scratch = Scratch::new();
    let (image, _) = filled(&scratch);
    let links = scratch.root().join("overlay2/l");
    let names = listing(&links);
    remove(&links);
    if harm != "removed" {
        std::fs::create_dir(&links).unwrap();
    }
    if harm == "elsewhere" {
        for name in &names {
            symlink(&links.join(name), Path::new("../nowhere/diff"));
        }
    }
    let store = scratch.open("overlay2");
    if told {
        // Marked as damaged, which the repair takes back.
        assert!(!check(&store, false).findings.is_empty());
    }
    let repaired = check(&store, true);
    assert!(kinds(&repaired).contains(&"driver-repaired"), "{:?}", repaired.findings);
    assert!(repaired.findings.iter().all(|finding| finding.repaired), "{:?}", repaired.findings);
    assert_eq!(listing(&links), names);
    assert!(check(&store, true).findings.is_empty());
    assert_eq!(exported(&store, "small"), image.tars());
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
}

fn file(path: &Path, _: &Path) {
    std::fs::write(path, "x").unwrap();
}

/// Nothing can be done without them, so what is in the way is named, with what to do about it; then it is done.
#[rstest]
fn what_lies_in_the_place_of_a_folder_of_the_store_is_named(
    #[values(
        "blobs",
        "records",
        "images",
        "containers",
        "staging",
        "overlay2/staging",
        "overlay2/trash",
        "overlay2/applying",
        "overlay2/l"
    )]
    folder: &str,
    #[values(symlink, file, fifo)] put: fn(&Path, &Path),
    #[values(false, true)] boot: bool,
) {
    let scratch = Scratch::new();
    let (image, _) = filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let (path, aside) = (scratch.root().join(folder), scratch.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    put(&path, &victim);
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let said = |error: layerstore::Error| {
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.message().contains("something else lies in the place of"), "{error}");
        assert!(error.message().contains(&*path.to_string_lossy()), "{error}");
        assert!(error.hint().unwrap().contains("put it aside"), "{error}");
    };
    match open(scratch.config("overlay2")) {
        Err(error) => said(error),
        // Its short names are looked at where they are needed.
        Ok(store) => {
            assert_eq!(folder, "overlay2/l");
            said(store.mount("box", &MountOptions::default()).unwrap_err());
        }
    }
    untouched();
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let store = scratch.open("overlay2");
    check(&store, true);
    assert!(check(&store, true).findings.is_empty());
    assert_eq!(exported(&store, "small"), image.tars());
}

#[rstest]
fn what_lies_in_the_place_of_a_lock_or_binding_is_named(
    #[values("store.lock", "gate.lock", "runroot.json")] name: &str,
    #[values(directory, symlink)] put: fn(&Path, &Path),
) {
    let scratch = Scratch::new();
    filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let path = scratch.root().join(name);
    remove(&path);
    put(&path, &victim);
    let error = match open(scratch.config("overlay2")) {
        Err(error) => error,
        Ok(store) => store.tag("small", "other").unwrap_err(),
    };
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.hint().unwrap().contains("put it aside"), "{error}");
    untouched();
    remove(&path);
    assert!(check(&scratch.open("overlay2"), true).findings.is_empty());
}

/// One layer is damaged, and nothing else.
#[rstest]
fn what_lies_in_the_place_of_a_layer_or_of_its_files_damages_this_layer_only(
    #[values("", "layer.json", "sealed.json", "link", "lower", "diff")] name: &str,
    #[values(directory, symlink, fifo)] put: fn(&Path, &Path),
    #[values(false, true)] boot: bool,
) {
    let scratch = Scratch::new();
    let (image, _) = filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let store = scratch.open("overlay2");
    Memory::new([Tar::new().file("alone", "alone").bytes()], "alone").pull(&store, &["alone"]).unwrap();
    let top = store.image("small").unwrap().layers[1].id.to_string();
    drop(store);
    let layer = scratch.root().join("overlay2").join(&top);
    let path = if name.is_empty() { layer } else { layer.join(name) };
    remove(&path);
    put(&path, &victim);
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let store = scratch.open("overlay2");
    assert_eq!(store.images().unwrap().len(), 2);
    exported(&store, "alone");
    let found = check(&store, false);
    // These two are needed when something is built on the layer, and are made again by then.
    let mended = matches!(name, "link" | "lower") && found.findings.is_empty();
    assert_eq!(found.findings.is_empty(), mended, "{:?}", found.findings);
    let blamed = |check: &Check| check.findings.iter().all(|finding| finding.name != top);
    assert!(mended || !blamed(&found), "{:?}", found.findings);
    check(&store, true);
    image.pull(&store, &["small"]).unwrap();
    check(&store, true);
    let after = check(&store, true);
    assert!(after.findings.is_empty(), "{:?}", after.findings);
    assert_eq!(exported(&store, "small"), image.tars());
    untouched();
}

/// There is nothing in it that anybody would miss.
#[rstest]
fn the_work_directory_of_a_container_is_made_again(#[values("removed", "file", "link")] how: &str) {
    let scratch = Scratch::new();
    let (_, made) = filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let path = scratch.root().join("overlay2").join(made.layer.as_str()).join("work");
    std::fs::remove_dir_all(&path).unwrap();
    match how {
        "file" => file(&path, &victim),
        "link" => symlink(&path, &victim),
        _ => {}
    }
    let store = scratch.open("overlay2");
    assert!(check(&store, false).findings.is_empty());
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
    untouched();
}
