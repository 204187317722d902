//! Something else lies where a file of the store has to be, or records cannot be read: told, repaired, never followed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use layerstore::{Check, CheckOptions, ContainerOptions, Context, Kind, MountOptions, Store, StoreOptions};
use rstest::rstest;

fn check(store: &Store, repair: bool) -> Check {
    store.check(CheckOptions { repair, ..CheckOptions::default() }, &Context::new()).unwrap()
}

fn options(scratch: &Scratch) -> StoreOptions {
    StoreOptions { config: scratch.config("overlay2"), registry: registry() }
}

fn kinds(check: &Check) -> Vec<&str> {
    check.findings.iter().map(|finding| finding.kind).collect()
}

/// A store with an image and a container that changed something.
fn filled(scratch: &Scratch) -> (Memory, layerstore::Container) {
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

/// Copies of this process's descriptors of a file, such as a program that another thread is just starting holds
/// between fork and exec.
fn copies_of(file: &Path) -> Vec<std::os::fd::OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let own = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let number = path.file_name()?.to_str()?.parse().ok()?;
        (std::fs::read_link(&path).ok()? == file).then_some(number)
    });
    // One that was closed meanwhile is no more.
    own.filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()).collect()
}

#[test]
fn a_store_that_was_closed_is_nobodys_also_while_a_program_is_started() {
    let scratch = Scratch::new();
    drop(filled(&scratch));
    let store = scratch.open("overlay2");
    let copies = copies_of(&scratch.root().join("store.lock"));
    assert_eq!(copies.len(), 1);
    std::fs::remove_file(scratch.root().join("layerstore.db")).unwrap();
    let error = Store::repair_database(&options(&scratch)).unwrap_err();
    assert!(error.message().contains("other programs have the store open"), "{error}");
    drop(store);
    assert!(Store::repair_database(&options(&scratch)).unwrap().is_some());
    drop(copies);
}

#[test]
fn a_database_is_repaired_while_programs_are_started() {
    let scratch = Scratch::new();
    drop(filled(&scratch));
    let (lock, ended) = (scratch.root().join("store.lock"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                held.extend(copies_of(&lock));
                held.drain(..held.len().saturating_sub(20));
            }
        });
        for _ in 0..10 {
            std::fs::remove_file(scratch.root().join("layerstore.db")).unwrap();
            let repaired = Store::repair_database(&options(&scratch));
            assert!(repaired.inspect_err(|_| ended.store(true, Ordering::Relaxed)).unwrap().is_some());
        }
        ended.store(true, Ordering::Relaxed);
    });
}

fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|stat| stat.is_dir()) {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        let _ = std::fs::remove_file(path);
    }
}

fn directory(path: &Path, _: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("inside"), "x").unwrap();
}

fn symlink(path: &Path, victim: &Path) {
    std::os::unix::fs::symlink(victim, path).unwrap();
}

fn fifo(path: &Path, _: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Something that nobody may touch, with what it is now.
fn victim(scratch: &Scratch) -> (PathBuf, impl Fn()) {
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

#[rstest]
fn what_lies_in_the_place_of_a_database_is_put_aside(
    #[values("layerstore.db", "layerstore.db-wal", "layerstore.db-shm")] name: &str,
    #[values(directory, symlink, fifo)] put: fn(&Path, &Path),
) {
    let scratch = Scratch::new();
    let (image, _) = filled(&scratch);
    let (victim, untouched) = victim(&scratch);
    let path = scratch.root().join(name);
    remove(&path);
    put(&path, &victim);
    if name == "layerstore.db" {
        let error = open(scratch.config("overlay2")).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.hint().unwrap().contains("check --repair"), "{error}");
    }
    let rebuilt = Store::repair_database(&options(&scratch)).unwrap().unwrap();
    assert_eq!((rebuilt.images, rebuilt.containers, rebuilt.left_out.len()), (1, 1, 0));
    let store = scratch.open("overlay2");
    assert_eq!(exported(&store, "small"), image.tars());
    let after = check(&store, true);
    assert!(after.findings.is_empty(), "{:?}", after.findings);
    untouched();
}

#[rstest]
#[case::table("DROP TABLE names")]
#[case::table("DROP TABLE holds")]
#[case::driver("DELETE FROM meta")]
#[case::version("PRAGMA user_version = 0")]
fn a_database_that_lacks_what_every_one_has_is_made_again(#[case] statement: &str) {
    let scratch = Scratch::new();
    let (image, _) = filled(&scratch);
    let connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    connection.execute_batch(statement).unwrap();
    drop(connection);
    let error = open(scratch.config("overlay2")).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.hint().unwrap().contains("check --repair"), "{error}");
    let rebuilt = Store::repair_database(&options(&scratch)).unwrap().unwrap();
    assert_eq!((rebuilt.images, rebuilt.names, rebuilt.containers), (1, 1, 1));
    assert_eq!(exported(&scratch.open("overlay2"), "small"), image.tars());
}

#[rstest]
#[case::diff_id("UPDATE layers SET diff_id = 'junk'")]
#[case::layer("UPDATE layers SET id = '../../x' WHERE parent IS NULL")]
#[case::parent("UPDATE layers SET parent = '../../x' WHERE parent IS NOT NULL")]
#[case::blob("UPDATE layers SET blob_digest = ''")]
#[case::text("UPDATE layers SET labels = CAST(x'ff' AS TEXT)")]
#[case::of_container("UPDATE containers SET image = 'sha256:00'")]
#[case::layer_of_container("UPDATE containers SET layer = '/'")]
#[case::image("UPDATE images SET id = 'sha256:zz'")]
#[case::manifest("UPDATE images SET manifest_digest = 'md5:00'")]
#[case::name("UPDATE names SET image = ''")]
#[case::link("UPDATE image_layers SET layer = 'a/b'")]
fn a_database_with_values_that_cannot_be_read_is_made_again(#[case] statement: &str) {
    let scratch = Scratch::new();
    let (image, made) = filled(&scratch);
    let connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {statement}")).unwrap();
    drop(connection);
    // Whoever comes across it says what to do.
    let looks: [fn(&Store) -> layerstore::Result<()>; 5] = [
        |store| store.layers().map(drop),
        |store| store.images().map(drop),
        |store| store.containers().map(drop),
        |store| store.check(CheckOptions::default(), &Context::new()).map(drop),
        |store| store.tree(None).map(drop),
    ];
    let opened = open(scratch.config("overlay2"));
    let failed = match &opened {
        Ok(store) => looks.iter().filter_map(|look| look(store).err()).collect(),
        Err(_) => Vec::new(),
    };
    for error in opened.err().iter().chain(&failed) {
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.hint().unwrap().contains("check --repair"), "{error}");
    }
    let rebuilt = Store::repair_database(&options(&scratch)).unwrap().unwrap();
    assert_eq!((rebuilt.images, rebuilt.names, rebuilt.containers), (1, 1, 1));
    assert_eq!(rebuilt.left_out, Vec::<String>::new());
    let store = scratch.open("overlay2");
    let found = check(&store, true);
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    assert_eq!(exported(&store, "small"), image.tars());
    assert_eq!(store.container("box").unwrap(), made);
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
}

#[rstest]
fn the_drivers_own_record_is_made_again(
    #[values("overlay2", "vfs")] driver: &str,
    #[values("missing", "empty", "half", "directory")] harm: &str,
    #[values(false, true)] boot: bool,
    #[values(false, true)] without_database: bool,
) {
    let scratch = Scratch::new();
    let options = || StoreOptions { config: scratch.config(driver), registry: registry() };
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    drop(store);
    let path = scratch.root().join(driver).join("driver.json");
    let sound = std::fs::read(&path).unwrap();
    match harm {
        "half" => std::fs::write(&path, &sound[..sound.len() / 2]).unwrap(),
        "empty" => std::fs::write(&path, "").unwrap(),
        _ => remove(&path),
    }
    if harm == "directory" {
        directory(&path, &path);
    }
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let error = open(scratch.config(driver)).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.hint().unwrap().contains("check --repair"), "{error}");
    if without_database {
        remove(&scratch.root().join("layerstore.db"));
    }
    let found = Store::repair_root(&options()).unwrap().unwrap();
    assert!(found.repaired && found.message.contains("driver.json"), "{found:?}");
    assert_eq!(std::fs::read(&path).unwrap(), sound);
    assert_eq!(Store::repair_root(&options()).unwrap(), None);
    assert_eq!(Store::repair_database(&options()).unwrap().is_some(), without_database);
    let store = scratch.open(driver);
    assert!(check(&store, true).findings.is_empty());
    assert_eq!(exported(&store, "small"), image.tars());
}

#[test]
fn a_driver_takes_no_root_that_is_not_its_own() {
    let scratch = Scratch::new();
    filled(&scratch);
    let folder = scratch.root().join("overlay2");
    // Layers of a later version.
    remove(&folder.join("driver.json"));
    for entry in std::fs::read_dir(&folder).unwrap() {
        let record = entry.unwrap().path().join("layer.json");
        if let Ok(text) = std::fs::read_to_string(&record) {
            std::fs::write(&record, text.replace("\"version\":1", "\"version\":2")).unwrap();
        }
    }
    let error = Store::repair_root(&options(&scratch)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(!folder.join("driver.json").exists());
    // Somebody else's data.
    remove(&folder);
    std::fs::create_dir_all(folder.join("photos")).unwrap();
    assert_eq!(Store::repair_root(&options(&scratch)).unwrap(), None);
    assert_eq!(open(scratch.config("overlay2")).unwrap_err().kind(), Kind::InvalidInput);
    // Another driver's, and what a later program wrote.
    for text in [r#"{"driver":"vfs","version":1}"#, r#"{"driver":"overlay2","version":2}"#] {
        std::fs::write(folder.join("driver.json"), text).unwrap();
        assert_eq!(Store::repair_root(&options(&scratch)).unwrap(), None);
        assert_eq!(std::fs::read_to_string(folder.join("driver.json")).unwrap(), text);
    }
}

#[rstest]
#[case::container(|_: &Scratch, layer: &str| format!("containers/{layer}.json"))]
#[case::layer(|scratch: &Scratch, _: &str| {
    let names = listing(scratch.root().join("records"));
    format!("records/{}", names.iter().find(|name| name.ends_with(".json")).unwrap())
})]
fn what_a_rebuilt_database_leaves_out_is_not_removed_by_the_repair(
    #[case] record: fn(&Scratch, &str) -> String,
) {
    let scratch = Scratch::new();
    let (_, made) = filled(&scratch);
    let record = scratch.root().join(record(&scratch, made.layer.as_str()));
    let sound = std::fs::read(&record).unwrap();
    std::fs::write(&record, "garbage").unwrap();
    for name in ["layerstore.db", "layerstore.db-wal", "layerstore.db-shm"] {
        let _ = std::fs::remove_file(scratch.root().join(name));
    }
    let rebuilt = Store::repair_database(&options(&scratch)).unwrap().unwrap();
    assert!(!rebuilt.left_out.is_empty());
    let store = scratch.open("overlay2");
    for _ in 0..2 {
        let found = check(&store, true);
        assert!(found.findings.iter().any(|finding| finding.kind == "layer-unknown" && !finding.repaired));
        assert!(store.driver().exists(&made.layer).unwrap(), "{:?}", found.findings);
    }
    // Whoever has the record somewhere gets all of it back.
    std::fs::write(&record, sound).unwrap();
    check(&store, true);
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
    assert!(check(&store, true).findings.is_empty());
}

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
