//! What a crash leaves behind is in nobody's way.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Scratch, config_at, listing, open, small};
use layerstore::{
    CheckOptions, ContainerOptions, Context, CreateOptions, LayerId, Registry, Store, StoreOptions,
};
use layerstore_conformance::saboteur::{Sabotage, broken, named};
use layerstore_driver::Driver;
use layerstore_testkit::scratch::{FileSystem, Scratch as Disk};
use layerstore_vfs::Vfs;

/// A store with an image on a file system that knows immutable directories.
fn on_disk() -> (Disk, Store) {
    let disk = Disk::new(FileSystem::Ext4 { commit: 5 }, 64 << 20).unwrap();
    let store = open(config_at(&disk.path(), "overlay2")).unwrap();
    small().pull(&store, &["small:1"]).unwrap();
    (disk, store)
}

/// Makes a directory immutable (`+i`), or ends that (`-i`).
fn chattr(flag: &str, directory: &Path) {
    run("chattr", &[flag], directory);
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    assert!(std::process::Command::new(program).args(arguments).arg(path).status().unwrap().success());
}

/// A process that dies between making a container's layer and its row leaves a layer that no row knows.
#[rstest::rstest]
#[case("overlay2")]
#[case("vfs")]
fn an_image_goes_although_a_layer_without_a_row_lies_on_it(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let id = small().pull(&store, &["small:1"]).unwrap().id;
    let top = store.image("small:1").unwrap().layers.pop().unwrap().id;
    let orphan = LayerId::new("orphan").unwrap();
    let options = CreateOptions::default();
    store.driver().create(&orphan, Some(&top), &options, &Context::new()).unwrap();
    store.remove_image(&id.to_string(), true).unwrap();
    assert!(store.layers().unwrap().is_empty());
    assert!(store.driver().layers().unwrap().is_empty(), "the layers and what lay on them are gone");
}

/// A driver that has each layer in use at the first look, as by a child that somebody else removes at this moment.
#[derive(Debug, Default)]
struct InUseAtFirst(Mutex<BTreeSet<LayerId>>);

impl Sabotage for InUseAtFirst {
    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> layerstore_driver::Result<()> {
        if self.0.lock().unwrap().insert(id.clone()) {
            let error = layerstore_driver::Error::new(
                layerstore_driver::Kind::InUse,
                "remove layer",
                "it has children",
            );
            return Err(error.with_layer(id));
        }
        driver.remove(id)
    }
}

#[rstest::rstest]
fn a_layer_goes_although_what_lay_on_it_went_only_between_two_looks() {
    let scratch = Scratch::new();
    let registry = Registry::new().with(named("vfs", broken::<InUseAtFirst>(Arc::new(Vfs))));
    let store = Store::open(StoreOptions { config: config_at(scratch.path(), "vfs"), registry }).unwrap();
    let id = small().pull(&store, &["small:1"]).unwrap().id;
    store.remove_image(&id.to_string(), false).unwrap();
    assert!(store.driver().layers().unwrap().is_empty(), "nothing waits for a gc");
    assert!(store.layers().unwrap().is_empty());
    assert!(store.check(CheckOptions::default(), &Context::new()).unwrap().findings.is_empty());
}

/// A power cut in a pull: the layer's directory reached the disk, what lies in it did not, and no row knows it.
#[rstest::rstest]
#[case("overlay2", true)]
#[case("overlay2", false)]
#[case("vfs", true)]
#[case("vfs", false)]
fn what_is_left_of_a_layer_without_a_record_is_freed_and_keeps_nobody(
    #[case] driver: &str,
    #[case] gc: bool,
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let id = small().pull(&store, &["small:1"]).unwrap().id;
    let top = store.image("small:1").unwrap().layers.pop().unwrap().id;
    let orphan = LayerId::new("orphan").unwrap();
    store.driver().create(&orphan, Some(&top), &CreateOptions::default(), &Context::new()).unwrap();
    std::fs::write(scratch.root().join(driver).join("orphan/layer.json"), "").unwrap();
    if gc {
        let freed = store.gc(false).unwrap().freed;
        assert!(freed.iter().any(|freed| freed.name == "orphan"), "{freed:?}");
        assert!(!store.driver().exists(&orphan).unwrap());
    }
    store.remove_image(&id.to_string(), true).unwrap();
    assert!(store.layers().unwrap().is_empty());
    assert!(store.driver().ids().unwrap().is_empty());
}

#[test]
fn gc_frees_what_a_probe_and_a_binding_left_that_died() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    std::fs::create_dir_all(scratch.root().join(".layerstore-probe-DEAD/trial")).unwrap();
    std::fs::write(scratch.root().join(".runroot.json.1.0.tmp"), "half").unwrap();
    let freed = store.gc(false).unwrap().freed;
    assert_eq!(freed.len(), 2, "{freed:?}");
    assert!(!listing(scratch.root()).iter().any(|name| name.starts_with('.')));
}

/// What was asked for is done and durable: an error would make its caller try again, and find nothing.
#[test]
fn a_container_is_removed_although_its_space_cannot_be_freed_now() {
    let (disk, store) = on_disk();
    let container = store.create_container("small:1", &ContainerOptions::default(), &Context::new()).unwrap();
    let layer = disk.path().join("root/overlay2").join(container.layer.as_str());
    chattr("+i", &layer);
    assert_eq!(store.remove_container(&container.id, false).unwrap(), container.id);
    assert!(store.containers().unwrap().is_empty());
    assert!(layer.exists());
    chattr("-i", &layer);
    drop(store);
    let store = open(config_at(&disk.path(), "overlay2")).unwrap();
    assert!(!layer.exists(), "the next open frees it");
    assert_eq!(store.driver().layers().unwrap().len(), store.layers().unwrap().len());
}

/// A person mounted something there, or the file system is damaged: that costs space, and nothing else.
#[test]
fn what_cannot_be_freed_keeps_no_store_closed() {
    let (disk, store) = on_disk();
    drop(store);
    let stuck = disk.path().join("root/overlay2/trash/stuck/diff");
    std::fs::create_dir_all(&stuck).unwrap();
    run("mount", &["-t", "tmpfs", "none"], &stuck);
    // As after a reboot.
    std::fs::remove_dir_all(disk.path().join("run")).unwrap();
    let opened = open(config_at(&disk.path(), "overlay2"));
    let options = CheckOptions { repair: true, ..CheckOptions::default() };
    let looked = opened.map(|store| {
        let freed = store.gc(false).unwrap().freed;
        let found = store.check(options, &Context::new()).unwrap().findings;
        (store, freed, found, stuck.exists())
    });
    run("umount", &[], &stuck);
    let (store, freed, found, there) = looked.unwrap();
    assert!(there);
    assert!(freed.is_empty(), "{freed:?}");
    assert!(
        found.iter().any(|found| found.message.contains("could not free") && !found.repaired),
        "{found:?}"
    );
    store.gc(false).unwrap();
    assert!(!stuck.exists());
}

/// What the driver keeps of a layer beside its directory goes with it, if not at once then with gc.
#[test]
fn gc_frees_what_could_not_be_tidied_up_when_a_layer_was_removed() {
    let (disk, store) = on_disk();
    let links = disk.path().join("root/overlay2/l");
    let before = listing(&links);
    let container = store.create_container("small:1", &ContainerOptions::default(), &Context::new()).unwrap();
    chattr("+i", &links);
    store.remove_container(&container.id, false).unwrap();
    assert!(listing(&links).len() > before.len());
    chattr("-i", &links);
    store.gc(false).unwrap();
    assert_eq!(listing(&links), before);
    assert!(listing(disk.path().join("root/overlay2/trash")).is_empty());
}

/// A layer goes after those above it, whoever began to remove them and did not come to the end.
#[test]
fn an_image_goes_although_the_removal_of_what_lies_on_it_was_not_finished() {
    let (disk, store) = on_disk();
    let container = store.create_container("small:1", &ContainerOptions::default(), &Context::new()).unwrap();
    let layer = disk.path().join("root/overlay2").join(container.layer.as_str());
    chattr("+i", &layer);
    store.remove_container(&container.id, false).unwrap();
    assert!(layer.exists());
    chattr("-i", &layer);
    store.remove_image("small:1", false).unwrap();
    assert!(store.driver().layers().unwrap().is_empty());
    assert!(store.gc(true).unwrap().freed.is_empty(), "nothing is left for gc");
}

/// A process that is killed leaves the files of its locks, and the place where it was about to mount.
#[rstest::rstest]
#[case("overlay2")]
#[case("vfs")]
fn gc_clears_what_killed_processes_left_in_the_runroot(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small:1"]).unwrap();
    let made = store.create_container("small:1", &ContainerOptions::default(), &Context::new()).unwrap();
    store.mount(&made.id, &layerstore::MountOptions::default()).unwrap();
    let run = scratch.path().join("run");
    let [locks, uses, points] =
        [run.join(driver).join("locks"), run.join(driver).join("uses"), run.join("mnt")];
    std::fs::write(locks.join("dead"), "").unwrap();
    std::fs::write(locks.join("dead@uses"), "").unwrap();
    let held = LayerId::new("held").unwrap();
    let _held = store.driver().leases().lock(&held).unwrap();
    std::fs::create_dir(uses.join("dead")).unwrap();
    std::fs::create_dir(points.join("dead")).unwrap();

    assert!(store.gc(false).unwrap().freed.is_empty(), "nothing that a person has to know");
    assert_eq!(listing(&locks), ["held"]);
    assert_eq!(listing(&uses), [made.layer.as_str()]);
    assert_eq!(listing(&points), [made.id.as_str()]);
    assert!(store.container(&made.id).unwrap().mounted);
    store.unmount(&made.id, None).unwrap();
}

/// Another process is making a container, and the image goes before that has a row.
#[test]
fn a_layer_goes_once_what_is_being_made_on_it_is_taken_back() {
    use layerstore_sys::lock::{Lock, Mode};
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small:1"]).unwrap();
    let top = store.image("small:1").unwrap().layers.pop().unwrap().id;
    let made = LayerId::new("made").unwrap();
    store.driver().create(&made, Some(&top), &CreateOptions::default(), &Context::new()).unwrap();
    let staging = layerstore_sys::Dir::open(scratch.root().join("staging")).unwrap();
    let lease = Lock::wait(staging.create_file(b"made.lease", 0o600).unwrap(), Mode::Exclusive).unwrap();
    std::thread::scope(|scope| {
        let maker = scratch.open("overlay2");
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            maker.driver().remove(&made).unwrap();
            staging.unlink(b"made.lease").unwrap();
            drop(lease);
        });
        store.remove_image("small:1", false).unwrap();
        assert!(store.driver().layers().unwrap().is_empty(), "nothing is left to a later command");
    });
    assert!(scratch.open("overlay2").warnings().is_empty());
}

/// A process died between the row that says that layers go and their removal.
#[test]
fn layers_of_a_removal_that_broke_off_go_whatever_their_order() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let mut parent: Option<LayerId> = None;
    // Rows come in the order of their ids.
    for id in ["a", "b", "c", "d"] {
        let options = CreateOptions::default();
        let parent_id = parent.as_ref().map(LayerId::as_str);
        parent = Some(store.layer_create(Some(id), parent_id, &options, &Context::new()).unwrap());
        store.layer_seal(id, &Context::new()).unwrap();
    }
    drop(store);
    let database = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    database.execute("UPDATE layers SET state = 'deleting', parent = NULL", []).unwrap();
    let store = scratch.open("overlay2");
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    assert!(store.driver().layers().unwrap().is_empty());
}
