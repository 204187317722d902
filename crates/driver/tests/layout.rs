//! The on-disk kit through its public door: what one process makes while another recovers, names that the kit keeps
//! for itself, locks in one order, memos. The states that a crash leaves are tested where a driver fills layers.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use layerstore_driver::layout::{Format, Hooks, Layer, Layers, Layout, Memo, Scratch, random_name};
use layerstore_driver::{
    Base, DriverOptions, Error, Kind, LayerId, LayerState, Look, OpenOptions, Recovered, Result, Usage,
};
use layerstore_sys::{self as sys, Dir};
use rstest::rstest;
use tempfile::TempDir;

const FORMAT: Format = Format { driver: "toy", version: 3, reserved: &["shelf"] };

fn open(base: &Path) -> Result<Layers> {
    let options =
        OpenOptions { root: base.join("root"), runroot: base.join("run"), options: DriverOptions::default() };
    Layers::open(&options, FORMAT, &[("colour", "red".to_owned())])
}

fn fixture() -> (TempDir, Layers) {
    let base = TempDir::new().unwrap();
    let layers = open(base.path()).unwrap();
    (base, layers)
}

fn id(id: &str) -> LayerId {
    LayerId::new(id).unwrap()
}

fn create(layers: &Layers, name: &str, parent: Option<&str>) -> Result<()> {
    layers.create(&id(name), parent.map(id).as_ref(), layers.operation("create"), |_| Ok(()))
}

fn seal(layers: &Layers, name: &str) -> Result<Usage> {
    let usage = Usage { bytes: 7, inodes: 2 };
    layers.seal(&id(name), None, layers.operation("seal"), |_| Ok(usage))
}

fn remove(layers: &Layers, name: &str) -> Result<()> {
    layers.remove(&id(name), layers.operation("remove"), |_| Ok(()))
}

fn recover(layers: &Layers) -> Vec<Recovered> {
    layers.recover(&|_| false, Look::Leftovers, &NoHooks, layers.operation("recover")).unwrap()
}

struct NoHooks;

impl Hooks for NoHooks {
    fn forget(&self, _: &Dir) -> sys::Result<()> {
        Ok(())
    }

    fn repair(&self, _: &Layer) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn token(&self, _: &str) -> sys::Result<Option<String>> {
        Ok(None)
    }

    fn sweep(&self) -> Result<Vec<Recovered>> {
        Ok(Vec::new())
    }
}

#[test]
fn a_layer_that_is_being_made_survives_recovery_and_holds_its_parent() {
    let (base, layers) = fixture();
    create(&layers, "base", None).unwrap();
    seal(&layers, "base").unwrap();
    layers
        .create(&id("child"), Some(&id("base")), layers.operation("create"), |staged| {
            staged.dir().make_dir(b"content", 0o700).unwrap();
            // Another handle, as another process has it.
            let other = open(base.path()).unwrap();
            assert_eq!(recover(&other), []);
            assert!(!other.layout().exists(&id("child"), other.operation("look")).unwrap());
            Ok(())
        })
        .unwrap();
    assert!(base.path().join("root/child/content").is_dir());
    let error = remove(&layers, "base").unwrap_err();
    assert_eq!(error.kind(), Kind::InUse);
    assert!(error.message().contains("child"), "{error}");
}

#[test]
fn a_layer_that_is_being_removed_is_there_or_not_and_never_damaged() {
    let (_base, layers) = fixture();
    let done = AtomicBool::new(false);
    let look = || {
        let mut damaged = Vec::new();
        while !done.load(Ordering::Relaxed) {
            match layers.layout().load(&id("passing"), layers.operation("load")) {
                Err(error) if error.kind() != Kind::NotFound => damaged.push(error.to_string()),
                _ => {}
            }
        }
        damaged
    };
    std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
        for _ in 0..1000 {
            create(&layers, "passing", None).unwrap();
            remove(&layers, "passing").unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let damaged: Vec<_> = lookers.into_iter().flat_map(|looker| looker.join().unwrap()).collect();
        assert!(damaged.is_empty(), "{} times: {:?}", damaged.len(), damaged.first());
    });
}

/// What a process has made and not locked yet may be taken away: it makes another one. Nobody is told of it.
#[test]
fn an_empty_beginning_is_cleared_in_silence() {
    let (base, layers) = fixture();
    let staging = base.path().join("root/staging");
    std::fs::create_dir(staging.join("EMPTY")).unwrap();
    std::fs::create_dir_all(staging.join("BEGUN/diff")).unwrap();
    let told = recover(&layers);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);
}

#[test]
fn a_layer_that_cannot_be_filled_is_not_there() {
    let (base, layers) = fixture();
    create(&layers, "base", None).unwrap();
    seal(&layers, "base").unwrap();
    let full = || Error::new(Kind::NoSpace, "fill", "no space");
    let failed = layers.create(&id("child"), Some(&id("base")), layers.operation("create"), |staged| {
        staged.dir().make_dir(b"content", 0o700).unwrap();
        Err(full())
    });
    assert_eq!(failed.unwrap_err().kind(), Kind::NoSpace);
    for empty in ["staging", "trash", "base/children"] {
        assert_eq!(std::fs::read_dir(base.path().join("root").join(empty)).unwrap().count(), 0, "{empty}");
    }
    remove(&layers, "base").unwrap();
}

#[test]
fn an_apply_in_progress_survives_recovery() {
    let (base, layers) = fixture();
    create(&layers, "layer", None).unwrap();
    layers
        .write(&id("layer"), layers.operation("apply"), |_| {
            let other = open(base.path()).unwrap();
            // In a thread of its own, so that the lock of this one does not let it in.
            std::thread::scope(|scope| scope.spawn(|| assert_eq!(recover(&other), [])).join().unwrap());
            Ok(())
        })
        .unwrap();
    seal(&layers, "layer").unwrap();
    let error = layers.write(&id("layer"), layers.operation("apply"), |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
}

#[test]
fn a_circle_of_parents_waits_for_nobody() {
    let (_base, layers) = fixture();
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = [("a", "b"), ("b", "a"), ("a", "a")].map(|(child, parent)| {
            let (layers, start) = (&layers, &start);
            scope.spawn(move || {
                if child != parent {
                    start.wait();
                }
                for _ in 0..200 {
                    assert_eq!(create(layers, child, Some(parent)).unwrap_err().kind(), Kind::NotFound);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn what_is_read_is_neither_removed_nor_waited_for_by_other_readers() {
    let (_base, layers) = fixture();
    create(&layers, "base", None).unwrap();
    seal(&layers, "base").unwrap();
    create(&layers, "child", Some("base")).unwrap();
    layers
        .read(&id("child"), Base::Layer(&id("base")), layers.operation("diff"), |layer, base| {
            assert_eq!(base.unwrap().state(), LayerState::Sealed);
            assert_eq!(layer.record.parent, Some(id("base")));
            // A sealed layer gets children while it is read.
            std::thread::scope(|scope| {
                scope.spawn(|| create(&layers, "other", Some("base")).unwrap()).join().unwrap();
            });
            Ok(())
        })
        .unwrap();
    layers
        .read(&id("child"), Base::Parent, layers.operation("diff"), |_, base| {
            assert_eq!(base.unwrap().record.id, id("base"));
            Ok(())
        })
        .unwrap();
    layers
        .read(&id("child"), Base::Layer(&id("child")), layers.operation("diff"), |layer, base| {
            assert_eq!(base.unwrap().record, layer.record);
            Ok(())
        })
        .unwrap();
}

#[test]
fn chains_are_followed_to_the_base_and_never_in_circles() {
    let (base, layers) = fixture();
    create(&layers, "one", None).unwrap();
    for (child, parent) in [("two", "one"), ("three", "two")] {
        seal(&layers, parent).unwrap();
        create(&layers, child, Some(parent)).unwrap();
    }
    let chain = |name: &str| {
        let chain = layers.layout().chain(&id(name), layers.operation("walk"));
        chain.map(|chain| chain.into_iter().map(|record| record.id.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(chain("three").unwrap(), ["three", "two", "one"]);
    let record = base.path().join("root/one/layer.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"parent\":null", "\"parent\":\"gone\"")).unwrap();
    assert_eq!(chain("three").unwrap_err().kind(), Kind::Corrupt);
    std::fs::write(&record, text.replace("\"parent\":null", "\"parent\":\"two\"")).unwrap();
    assert_eq!(chain("three").unwrap_err().kind(), Kind::Corrupt);
}

#[rstest]
#[case("shelf", "_shelf")]
#[case("staging", "_staging")]
#[case("driver.json", "_driver.json")]
#[case("shelf2", "shelf2")]
fn every_id_has_a_directory_of_its_own(#[case] name: &str, #[case] on_disk: &str) {
    let (base, layers) = fixture();
    create(&layers, name, None).unwrap();
    assert!(base.path().join("root").join(on_disk).join("layer.json").is_file());
    assert_eq!(layers.layout().ids(layers.operation("list")).unwrap(), [id(name)]);
    assert_eq!(create(&layers, name, None).unwrap_err().kind(), Kind::AlreadyExists);
    remove(&layers, name).unwrap();
    assert_eq!(layers.list(layers.operation("list")).unwrap(), []);
}

#[test]
fn what_is_settled_when_a_root_is_made_holds_for_ever() {
    let (base, layers) = fixture();
    drop(layers);
    let root = base.path().join("root");
    let again = Layout::open(&root, FORMAT, &[("colour", "blue".to_owned())]).unwrap();
    assert_eq!(again.setting("colour"), Some("red"));
    assert_eq!(Layout::settings_of(&root, FORMAT).unwrap().unwrap()["colour"], "red");
    let other = Format { driver: "other", ..FORMAT };
    assert_eq!(Layout::settings_of(&root, other).unwrap(), None);
    assert_eq!(Layout::open(&root, other, &[]).unwrap_err().kind(), Kind::InvalidInput);
}

#[test]
fn many_may_make_a_root_at_once() {
    let base = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let base = base.path();
                scope.spawn(move || {
                    let layers = open(base).unwrap();
                    create(&layers, &format!("layer{number}"), None).unwrap();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let layers = open(base.path()).unwrap();
    assert_eq!(layers.list(layers.operation("list")).unwrap().len(), 8);
}

#[test]
fn a_memo_is_of_one_root_and_costs_only_time() {
    let (base, layers) = fixture();
    let run = base.path().join("run");
    layers.memo().put("fact", 42);
    assert_eq!(layers.memo().get::<u32>("fact"), Some(42));
    assert_eq!(layers.memo().get::<u32>("other"), None);
    // Of another root, or none.
    assert_eq!(Memo::new(base.path(), &run).get::<u32>("fact"), None);
    assert_eq!(Memo::new(&base.path().join("nothing"), &run).get::<u32>("fact"), None);
    // Of another type, or damaged.
    assert_eq!(layers.memo().get::<String>("fact"), None);
    std::fs::write(run.join("fact.memo"), "{").unwrap();
    assert_eq!(layers.memo().get::<u32>("fact"), None);
}

#[test]
fn random_names_have_one_case_and_differ() {
    let (one, other) = (random_name().unwrap(), random_name().unwrap());
    assert_ne!(one, other);
    assert!(one.len() == 26 && one.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7')), "{one}");
}

#[test]
fn a_directory_that_ignores_case_is_noticed() {
    let base = TempDir::new().unwrap();
    let scratch = Scratch::new(base.path()).unwrap();
    assert!(!scratch.ignores_case().unwrap());
    // As a directory with casefold would show it.
    let name = scratch.path().file_name().unwrap().to_str().unwrap().to_ascii_lowercase();
    std::fs::create_dir(base.path().join(name)).unwrap();
    assert!(scratch.ignores_case().unwrap());
}
