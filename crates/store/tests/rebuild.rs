//! A database, or a driver's own record, that is lost, damaged or something else: made again from the records beside the
//! data.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::harm::*;
use common::*;
use layerstore::{CheckOptions, Context, Kind, MountOptions, Store, StoreOptions};
use rstest::rstest;

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
    // Before there are copies, which are descriptors of this process, too.
    let own: Vec<_> = own.collect();
    // One that was closed meanwhile is no more.
    own.into_iter().filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()).collect()
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
    execute(&scratch, statement);
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
    execute(&scratch, statement);
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
