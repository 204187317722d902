//! A store with many layers works as one with few: the same system calls, so the same queries.
//!
//! `LAYERSTORE_SCALE=50000` is the store's promise; without it, a few thousand.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use layerstore::{ContainerOptions, Context, MountOptions};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{self, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

fn scale() -> usize {
    std::env::var("LAYERSTORE_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

/// What the traced process runs: the life of a container, looks at one image, or a list of containers.
#[test]
fn child() {
    let Some(path) = std::env::var_os("LAYERSTORE_TEST_CHILD") else { return };
    let path = PathBuf::from(path);
    let statements = Statements::listen();
    let store = open(config_at(&path, "overlay2")).unwrap();
    if std::env::var_os("LAYERSTORE_TEST_LIST").is_some() {
        store.containers().unwrap();
        return;
    }
    if std::env::var_os("LAYERSTORE_TEST_LOOK").is_some() {
        store.tree(Some("small")).unwrap();
        store.history("small").unwrap();
        store.inspect("small").unwrap();
    } else {
        let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
        store.mount(&made.id, &MountOptions::default()).unwrap();
        store.unmount(&made.id, None).unwrap();
        store.remove_container(&made.id, false).unwrap();
    }
    if let Some(output) = std::env::var_os("LAYERSTORE_TEST_STATEMENTS") {
        std::fs::write(output, serde_json::to_vec(&*statements.0.lock().unwrap()).unwrap()).unwrap();
    }
}

/// A statement's text, how often it ended, and the steps that all of it took.
type Counts = BTreeMap<String, (u64, u64)>;

/// Every statement that the store's database runs in this process.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Counts>>);

impl Statements {
    fn listen() -> Self {
        let statements = Self::default();
        let filter = Targets::new().with_target("layerstore::sql", Level::TRACE);
        tracing_subscriber::registry().with(statements.clone().with_filter(filter)).init();
        statements
    }
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        #[derive(Default)]
        struct Read(String, u64);
        impl Visit for Read {
            fn record_i64(&mut self, field: &Field, value: i64) {
                if field.name() == "steps" {
                    self.1 = value.unsigned_abs();
                }
            }
            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "sql" {
                    value.clone_into(&mut self.0);
                }
            }
            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        }
        let mut read = Read::default();
        event.record(&mut read);
        let mut statements = self.0.lock().unwrap();
        let (count, steps) = statements.entry(read.0).or_default();
        *count += 1;
        *steps += read.1;
    }
}

/// The statements of a container's life, or of looks at an image.
fn statements(scratch: &Scratch, looks: bool) -> Counts {
    let output = scratch.path().join("statements");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("LAYERSTORE_TEST_CHILD", scratch.path())
        .env("LAYERSTORE_TEST_STATEMENTS", &output)
        .envs(looks.then_some(("LAYERSTORE_TEST_LOOK", "1")))
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap()
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

/// How often the traced process makes each call, where the database's log is short: a long one is folded into it now
/// and then, whatever the number of layers.
fn calls(scratch: &Scratch, lists: bool) -> BTreeMap<String, i64> {
    fold_log(scratch);
    let output = scratch.path().join("calls");
    let traced = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&output)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("LAYERSTORE_TEST_CHILD", scratch.path())
        .envs(lists.then_some(("LAYERSTORE_TEST_LIST", "1")))
        .output()
        .expect("install strace");
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let text = std::fs::read_to_string(&output).unwrap();
    // What threads and memory need varies from run to run.
    let noise = ["futex", "brk", "mmap", "munmap", "mprotect", "madvise", "sched_yield", "total"];
    text.lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .filter_map(|(name, calls)| Some((name.to_owned(), calls.trim().parse().ok()?)))
        .filter(|(name, _)| !noise.contains(&name.as_str()))
        .collect()
}

fn fold_log(scratch: &Scratch) {
    rusqlite::Connection::open(scratch.root().join("layerstore.db"))
        .unwrap()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
}

fn fastest(mut work: impl FnMut()) -> Duration {
    let timed = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..5).map(|_| timed(&mut work)).min().unwrap()
}

/// Asserts that the same statements take the same steps, whatever the number of layers.
fn same_work(few: &Counts, many: &Counts) {
    for (sql, (count, steps)) in many {
        let (before, steps_before) = few.get(sql).copied().unwrap_or_default();
        assert_eq!(*count, before, "with few layers {before} times, with many {count}: {sql}");
        // The depth of an index, not the number of rows.
        assert!(
            *steps <= 2 * steps_before + 20,
            "{steps_before} steps with few layers, {steps} with many: {sql}"
        );
    }
    assert_eq!(many.len(), few.len());
}

#[test]
fn a_store_with_many_layers_costs_what_one_with_few_does() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    drop(store);
    grow(&scratch, 10);
    calls(&scratch, false);
    let (few, few_statements) = (calls(&scratch, false), statements(&scratch, false));
    let few_looks = statements(&scratch, true);
    assert!(few_statements.len() > 10, "nobody heard the statements: {few_statements:?}");
    {
        let mut connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
        let transaction = connection.transaction().unwrap();
        transaction
            .execute_batch("DELETE FROM images WHERE stored < 10; DELETE FROM layers WHERE created < 10")
            .unwrap();
        transaction.commit().unwrap();
    }
    grow(&scratch, scale());
    calls(&scratch, false);
    let (many, many_statements) = (calls(&scratch, false), statements(&scratch, false));
    let many_looks = statements(&scratch, true);
    for name in many.keys().chain(few.keys()) {
        let [before, count] = [&few, &many].map(|calls| calls.get(name).copied().unwrap_or(0));
        // Pages of the database on the way to a row: the depth of a tree, not the number of rows.
        let deeper = if name == "pread64" { 20 } else { 0 };
        assert!(
            (0..=deeper).contains(&(count - before)),
            "{name}: {before} calls with few layers, {count} with many"
        );
    }
    let (all, steps) = many_statements.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    println!(
        "the life of a container: {} calls, {all} statements in {steps} steps; with 10 layers {} calls, {} steps",
        many.values().sum::<i64>(),
        few.values().sum::<i64>(),
        few_statements.values().map(|it| it.1).sum::<u64>()
    );
    same_work(&few_statements, &many_statements);
    same_work(&few_looks, &many_looks);
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

/// A list looks at all mounts at once: a container that is not mounted costs no call, one that is a handful.
#[test]
fn a_list_of_containers_costs_calls_for_those_that_are_mounted_only() {
    const CONTAINERS: usize = 100;
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let make = || store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap().id;
    let total = |lists: BTreeMap<String, i64>| lists.values().sum::<i64>();
    let made: Vec<String> = (0..CONTAINERS).map(|_| make()).collect();
    calls(&scratch, true);
    let few = total(calls(&scratch, true));
    let more: Vec<String> = (0..CONTAINERS).map(|_| make()).collect();
    let many = total(calls(&scratch, true));
    assert!(many - few < CONTAINERS as i64 / 2, "{few} calls, with {CONTAINERS} containers more {many}");
    for id in &made {
        store.mount(id, &MountOptions::default()).unwrap();
    }
    let mounted = total(calls(&scratch, true));
    let each = (mounted - many) as f64 / CONTAINERS as f64;
    println!("it takes {:?}", fastest(|| drop(store.containers().unwrap())));
    println!(
        "a list of {} containers: {many} calls, and {each:.1} for each of those that are mounted",
        2 * CONTAINERS
    );
    assert!(each < 14.0, "{each:.1} calls for each mounted container");
    for id in made.iter().chain(&more) {
        store.remove_container(id, true).unwrap();
    }
}
