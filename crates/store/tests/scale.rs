//! A store with many layers works as one with few: the same system calls, so the same queries.
//!
//! `LAYERSTORE_SCALE=50000` is the store's promise; without it, a few thousand.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::*;
use layerstore::{ContainerOptions, Context, MountOptions};

fn scale() -> usize {
    std::env::var("LAYERSTORE_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

/// What the traced process runs: the life of a container.
#[test]
fn child() {
    let Some(path) = std::env::var_os("LAYERSTORE_TEST_CHILD") else { return };
    let store = open(config_at(&PathBuf::from(path), "overlay2")).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    store.mount(&made.id, &MountOptions::default()).unwrap();
    store.unmount(&made.id, None).unwrap();
    store.remove_container(&made.id, false).unwrap();
}

/// Rows and directories of `count` layers, each of an image of its own.
fn grow(scratch: &Scratch, count: usize) {
    let mut connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    for number in 0..count {
        let (id, digest) = (format!("{number:064x}"), format!("sha256:{number:064x}"));
        transaction
            .prepare_cached(
                "INSERT INTO layers (id, chain_id, diff_id, state, kind, origin, created, updated, size, disk_bytes, \
                 inodes, tar_size, kept, sync) \
                 VALUES (?1, ?2, ?2, 'ready', 'committed', 'image', ?3, ?3, 1, 1, 1, 1, 'record', 'layer')",
            )
            .unwrap()
            .execute(rusqlite::params![id, digest, number as i64])
            .unwrap();
        transaction
            .prepare_cached("INSERT INTO images (id, stored, size) VALUES (?1, ?2, 1)")
            .unwrap()
            .execute(rusqlite::params![digest, number as i64])
            .unwrap();
        transaction
            .prepare_cached("INSERT INTO image_layers (image, position, layer) VALUES (?1, 0, ?2)")
            .unwrap()
            .execute([&digest, &id])
            .unwrap();
        let layer = scratch.root().join("overlay2").join(&id);
        std::fs::create_dir_all(layer.join("diff")).unwrap();
        let token = format!("{:A>26}", radix32(number));
        let record = format!(r#"{{"version":1,"id":"{id}","parent":null,"token":"{token}","created":1}}"#);
        std::fs::write(layer.join("layer.json"), record).unwrap();
        std::fs::write(layer.join("sealed.json"), r#"{"version":1,"bytes":1,"inodes":1,"sealed":1}"#)
            .unwrap();
    }
    transaction.commit().unwrap();
}

fn radix32(mut number: usize) -> String {
    let mut text = String::new();
    while number > 0 {
        text.insert(0, char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[number % 32]));
        number /= 32;
    }
    text
}

/// How often the traced process makes each call.
fn calls(scratch: &Scratch) -> BTreeMap<String, i64> {
    let output = scratch.path().join("calls");
    let traced = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&output)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("LAYERSTORE_TEST_CHILD", scratch.path())
        .output()
        .expect("install strace");
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let text = std::fs::read_to_string(&output).unwrap();
    // What threads and memory need varies from run to run.
    let noise = ["futex", "brk", "mmap", "munmap", "mprotect", "madvise", "sched_yield", "total", "pread64"];
    text.lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .filter_map(|(name, calls)| Some((name.to_owned(), calls.trim().parse().ok()?)))
        .filter(|(name, _)| !noise.contains(&name.as_str()))
        .collect()
}

fn fastest(mut work: impl FnMut()) -> Duration {
    let timed = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..5).map(|_| timed(&mut work)).min().unwrap()
}

#[test]
fn a_store_with_many_layers_costs_what_one_with_few_does() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    grow(&scratch, 10);
    calls(&scratch);
    let few = calls(&scratch);
    drop(store);
    {
        let mut connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
        let transaction = connection.transaction().unwrap();
        transaction
            .execute_batch("DELETE FROM images WHERE stored < 10; DELETE FROM layers WHERE created < 10")
            .unwrap();
        transaction.commit().unwrap();
    }
    grow(&scratch, scale());
    rusqlite::Connection::open(scratch.root().join("layerstore.db"))
        .unwrap()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    calls(&scratch);
    let many = calls(&scratch);
    for (name, count) in &many {
        let before = few.get(name).copied().unwrap_or(0);
        // A page more of the database here or there, and what the WAL happens to need.
        assert!((count - before).abs() <= 30, "{name}: {before} calls with few layers, {count} with many");
    }
    let slower = if cfg!(debug_assertions) { 20 } else { 1 };
    let open = fastest(|| drop(scratch.open("overlay2")));
    let store = scratch.open("overlay2");
    let layers = fastest(|| assert!(store.layers().unwrap().len() > scale()));
    let images = fastest(|| assert!(store.images().unwrap().len() > scale()));
    println!("{} layers: open {open:?}, list of layers {layers:?}, list of images {images:?}", scale());
    assert!(open < Duration::from_millis(50) * slower, "opening took {open:?}");
    assert!(layers < Duration::from_millis(200) * slower, "listing layers took {layers:?}");
    assert!(images < Duration::from_millis(200) * slower, "listing images took {images:?}");
}
