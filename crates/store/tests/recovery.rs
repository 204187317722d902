//! Damage, lost databases, dead processes: what opening finds, what a pull repairs, what is refused until then.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::*;
use layerstore::{
    CheckOptions, CommitOptions, ContainerOptions, Context, CreateOptions, Kind, MountOptions, Store,
    StoreOptions,
};
use rstest::rstest;

/// Where a file of a layer lies on disk, whatever the driver.
fn on_disk(scratch: &Scratch, driver: &str, layer: &str, path: &str) -> PathBuf {
    let layer = scratch.root().join(driver).join(layer);
    let found =
        listing(&layer).into_iter().map(|name| layer.join(name).join(path)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{path} is not in {}", layer.display()))
}

fn layer_of(store: &Store, image: &str, index: usize) -> String {
    store.image(image).unwrap().layers[index].id.to_string()
}

fn mark_damage(store: &Store) {
    let options = CheckOptions { repair: true, ..CheckOptions::default() };
    store.check(options, &Context::new()).unwrap();
}

/// The next boot, as far as the store can tell.
fn reboot(scratch: &Scratch) {
    std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_damaged_layer_is_refused_and_a_pull_repairs_it_under_what_stands_on_it(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let place = store.mount(&made.id, &MountOptions::default()).unwrap();
    std::fs::write(place.join("own"), "mine").unwrap();
    let child = CommitOptions { name: Some("child".to_owned()), ..CommitOptions::default() };
    store.commit(&made.id, &child, &Context::new()).unwrap();
    store.unmount(&made.id, None).unwrap();
    for index in [0, 1] {
        std::fs::write(on_disk(&scratch, driver, &layer_of(&store, "small", index), "etc/hosts"), "evil")
            .unwrap();
    }
    mark_damage(&store);
    let refused = [
        store.create_container("small", &ContainerOptions::default(), &Context::new()).map(drop),
        store.mount(&made.id, &MountOptions::default()).map(drop),
        store.commit(&made.id, &CommitOptions::default(), &Context::new()).map(drop),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.message().contains("is damaged"), "{error}");
        assert!(error.hint().unwrap().contains("pull the image again"), "{error}");
    }
    let reads = image.reads();
    let pulled = image.pull(&store, &["small"]).unwrap();
    assert_eq!((pulled.layers_new, image.reads() - reads), (2, 2));
    assert_eq!(exported(&store, "small"), image.tars());
    let place = store.mount(&made.id, &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    if driver == "overlay2" {
        // vfs copied what was sound then.
        assert_eq!(std::fs::read_to_string(place.join("etc/hosts")).unwrap(), "127.0.0.1 localhost other\n");
    }
    store.unmount(&made.id, None).unwrap();
    let check = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    assert!(store.gc(false).unwrap().freed.is_empty(), "nothing is left of the repair");
    assert!(listing(scratch.root().join("staging")).is_empty());
    store.remove_container(&made.id, false).unwrap();
    store.remove_image("child", false).unwrap();
    store.remove_image("small", false).unwrap();
    assert!(store.layers().unwrap().is_empty(), "and all of it can go");
    assert!(store.driver().layers().unwrap().is_empty());
}

#[rstest]
fn a_damaged_layer_that_nothing_needs_goes_when_it_is_not_mounted(#[values("vfs", "overlay2")] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let top = layer_of(&store, "small", 1);
    let place = store.layer_mount(&top, &MountOptions::default()).unwrap();
    std::fs::write(on_disk(&scratch, driver, &top, "etc/hosts"), "evil").unwrap();
    mark_damage(&store);
    // The image is lost with its record, and nothing says any more that its layers are needed.
    let database = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    database.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM images").unwrap();
    for image in listing(scratch.root().join("images")) {
        std::fs::remove_dir_all(scratch.root().join("images").join(image)).unwrap();
    }
    mark_damage(&store);
    assert!(store.layer(&top).is_ok(), "no verb would find it to unmount it");
    assert!(place.join("etc/hosts").exists());
    store.layer_unmount(&top, None).unwrap();
    mark_damage(&store);
    assert_eq!(store.layer(&top).unwrap_err().kind(), Kind::NotFound);
    assert!(!scratch.root().join(driver).join(&top).exists());
}

#[rstest]
#[case::directory("vfs", |layer: PathBuf| std::fs::remove_dir_all(layer).unwrap())]
#[case::directory("overlay2", |layer: PathBuf| std::fs::remove_dir_all(layer).unwrap())]
#[case::record("overlay2", |layer: PathBuf| std::fs::write(layer.join("layer.json"), "").unwrap())]
#[case::seal("overlay2", |layer: PathBuf| std::fs::write(layer.join("sealed.json"), "").unwrap())]
#[case::seal("vfs", |layer: PathBuf| std::fs::remove_file(layer.join("sealed.json")).unwrap())]
fn what_a_power_cut_tears_is_found_after_the_boot_and_repaired_by_a_pull(
    #[case] driver: &str,
    #[case] harm: fn(PathBuf),
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let base = layer_of(&store, "small", 0);
    drop(store);
    harm(scratch.root().join(driver).join(&base));
    reboot(&scratch);
    let store = scratch.open(driver);
    assert!(store.warnings().iter().any(|line| line.contains(&base)), "{:?}", store.warnings());
    assert_eq!(store.layers().unwrap().len(), 3, "nothing is removed");
    let error = store.mount(&made.id, &MountOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    let again = scratch.open(driver);
    assert!(again.warnings().is_empty(), "a second open has nothing to do: {:?}", again.warnings());
    image.pull(&store, &["small"]).unwrap();
    let place = store.mount(&made.id, &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("etc/hosts")).unwrap(), "127.0.0.1 localhost other\n");
    store.unmount(&made.id, None).unwrap();
    assert_eq!(exported(&store, "small"), image.tars());
    let check = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
}

#[test]
fn a_pull_notices_by_itself_that_a_layer_it_has_is_gone() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    std::fs::remove_dir_all(scratch.root().join("overlay2").join(layer_of(&store, "small", 1))).unwrap();
    let pulled = image.pull(&store, &["small"]).unwrap();
    assert_eq!((pulled.layers_held, pulled.layers_new), (1, 1));
    assert_eq!(exported(&store, "small"), image.tars());
}

#[test]
fn a_layer_that_a_container_shows_is_not_replaced() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    store.mount(&made.id, &MountOptions::default()).unwrap();
    std::fs::write(on_disk(&scratch, "overlay2", &layer_of(&store, "small", 0), "usr/lib/big"), "evil")
        .unwrap();
    mark_damage(&store);
    let error = image.pull(&store, &["small"]).unwrap_err();
    assert_eq!(error.kind(), Kind::InUse, "{error}");
    store.unmount(&made.id, None).unwrap();
    image.pull(&store, &["small"]).unwrap();
    assert_eq!(exported(&store, "small"), image.tars());
}

#[test]
fn a_root_is_used_with_one_runroot_only() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let mut other = scratch.config("overlay2");
    other.runroot.value = scratch.path().join("other");
    let error = open(other.clone()).unwrap_err();
    assert_eq!(error.kind(), Kind::InUse, "{error}");
    assert!(error.message().contains(&*scratch.path().join("run").to_string_lossy()), "{error}");
    assert!(error.hint().unwrap().contains("--runroot"));
    // The same one by another name is the same one.
    std::os::unix::fs::symlink("run", scratch.path().join("link")).unwrap();
    let mut link = scratch.config("overlay2");
    link.runroot.value = scratch.path().join("link");
    drop(open(link).unwrap());
    // Gone, but somebody has the store open who locked things in it.
    std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    assert_eq!(open(other.clone()).unwrap_err().kind(), Kind::InUse);
    drop(store);
    let moved = open(other).unwrap();
    assert!(moved.warnings().iter().any(|line| line.contains("takes its place")), "{:?}", moved.warnings());
}

fn lose(scratch: &Scratch) {
    for name in listing(scratch.root()).iter().filter(|name| name.starts_with("layerstore.db")) {
        std::fs::remove_file(scratch.root().join(name)).unwrap();
    }
}

fn damage(scratch: &Scratch) {
    let path = scratch.root().join("layerstore.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end / 2..].fill(b'x');
    std::fs::write(&path, bytes).unwrap();
}

#[rstest]
#[case::lost("vfs", lose)]
#[case::lost("overlay2", lose)]
#[case::damaged("overlay2", damage)]
fn a_lost_database_is_made_again_from_the_records(#[case] driver: &str, #[case] harm: fn(&Scratch)) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small", "other:1"]).unwrap();
    let options = ContainerOptions { name: Some("box".to_owned()), ..ContainerOptions::default() };
    let made = store.create_container("small", &options, &Context::new()).unwrap();
    let place = store.mount("box", &MountOptions::default()).unwrap();
    std::fs::write(place.join("own"), "mine").unwrap();
    store.unmount("box", None).unwrap();
    let commit = CommitOptions { name: Some("child".to_owned()), ..CommitOptions::default() };
    store.commit("box", &commit, &Context::new()).unwrap();
    store.tag("child", "another").unwrap();
    store.untag("other:1").unwrap();
    let base = store.layer_create(Some("base"), None, &CreateOptions::default(), &Context::new()).unwrap();
    store.layer_seal("base", &Context::new()).unwrap();
    store.layer_create(Some("top"), Some(base.as_str()), &CreateOptions::default(), &Context::new()).unwrap();
    let gone = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    store.remove_container(&gone.id, false).unwrap();
    let mut before = (store.images().unwrap(), store.layers().unwrap(), store.containers().unwrap());
    // As every other verb: what a file says and the driver does not have is a warning.
    let mut config = scratch.config(driver);
    let origin = layerstore::Origin::File { path: "/etc/layerstore/storage.conf".into(), line: 3 };
    let ignored = layerstore::Setting { value: "1000".to_owned(), origin };
    config.options.entry(driver.to_owned()).or_default().insert("inodes".to_owned(), ignored);
    let options = || StoreOptions { config: config.clone(), registry: registry() };
    assert!(Store::repair_database(&options()).unwrap().is_none(), "a sound one is left alone");
    drop(store);
    harm(&scratch);
    if !scratch.root().join("layerstore.db").exists() {
        let error = open(scratch.config(driver)).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.hint().unwrap().contains("check --repair"), "{error}");
    }
    let rebuilt = Store::repair_database(&options()).unwrap().unwrap();
    assert_eq!((rebuilt.images, rebuilt.names, rebuilt.containers, rebuilt.layers), (2, 3, 1, 6));
    assert!(rebuilt.left_out.is_empty(), "{:?}", rebuilt.left_out);
    let store = scratch.open(driver);
    let mut after = (store.images().unwrap(), store.layers().unwrap(), store.containers().unwrap());
    for (_, layers, _) in [&mut before, &mut after] {
        layers.sort_by(|one, other| one.id.cmp(&other.id));
        for layer in layers {
            // The kit measures a layer that was sealed; a container's row has no times of its own.
            layer.updated = 0;
            layer.created = 0;
        }
    }
    assert_eq!(before, after);
    assert_eq!(exported(&store, "small"), image.tars());
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
    assert_eq!(store.container("box").unwrap().id, made.id);
    let check = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    assert!(store.gc(true).unwrap().freed.is_empty(), "{:?}", store.gc(true).unwrap().freed);
}

#[test]
fn a_database_is_not_made_again_under_somebody_s_feet() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    small().pull(&store, &["small"]).unwrap();
    lose(&scratch);
    let options = StoreOptions { config: scratch.config("vfs"), registry: registry() };
    let error = Store::repair_database(&options).unwrap_err();
    assert_eq!(error.kind(), Kind::InUse, "{error}");
    assert!(store.images().unwrap().len() == 1, "whoever has it open still has it");
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn what_dies_between_the_driver_and_the_row_is_settled_when_the_store_is_opened(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let context = Context::new();
    let sealed = store.layer_create(Some("sealed"), None, &CreateOptions::default(), &context).unwrap();
    store.driver().seal(&sealed, None, &context).unwrap();
    let orphan = "orphan".parse().unwrap();
    store.driver().create(&orphan, None, &CreateOptions::default(), &context).unwrap();
    for name in ["sealed", "orphan"] {
        std::fs::write(scratch.root().join(format!("staging/{name}.lease")), "").unwrap();
    }
    let again = scratch.open(driver);
    assert_eq!(again.warnings().len(), 2, "{:?}", again.warnings());
    assert_eq!(again.layer("sealed").unwrap().kind, layerstore::LayerKind::Committed);
    assert!(!again.driver().exists(&orphan).unwrap());
    assert!(again.check(CheckOptions::default(), &context).unwrap().findings.is_empty());
    assert!(scratch.open(driver).warnings().is_empty());
}

#[test]
fn records_that_a_power_cut_tore_are_written_again_after_the_boot() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    let hex = image.id().replace("sha256:", "");
    let files = [
        format!("records/{}.json", layer_of(&store, "small", 0)),
        format!("images/{hex}/image.json"),
        format!("images/{hex}/names.json"),
        format!("containers/{}.json", made.layer),
    ];
    drop(store);
    let before: Vec<_> = files.iter().map(|file| std::fs::read(scratch.root().join(file)).unwrap()).collect();
    for file in &files {
        std::fs::write(scratch.root().join(file), "").unwrap();
    }
    reboot(&scratch);
    scratch.open("vfs");
    for (file, before) in files.iter().zip(before) {
        let parse = |bytes: &[u8]| {
            let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            // The row was completed after its record was written.
            value.as_object_mut().unwrap().remove("updated");
            value
        };
        let after = std::fs::read(scratch.root().join(file)).unwrap();
        assert_eq!(parse(&after), parse(&before), "{file}");
    }
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_container_of_a_removed_image_can_be_committed(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    store.remove_image("small", true).unwrap();
    assert!(store.gc(false).unwrap().freed.is_empty());
    let options = CommitOptions { name: Some("kept".to_owned()), ..CommitOptions::default() };
    store.commit(&made.id, &options, &Context::new()).unwrap();
    let kept = store.image("kept").unwrap();
    assert_eq!(kept.layers.len(), 3);
    assert_eq!(exported(&store, "kept")[..2], *image.tars());
    store.remove_container(&made.id, false).unwrap();
    assert_eq!(listing(scratch.root().join("images")).len(), 1, "its documents go with the last container");
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn every_way_to_sync_keeps_an_image(#[case] driver: &str, #[values("layer", "file", "none")] sync: &str) {
    use layerstore::SyncMode;
    let scratch = Scratch::new();
    let mut config = scratch.config(driver);
    config.sync.value = match sync {
        "layer" => SyncMode::Layer,
        "file" => SyncMode::File,
        _ => SyncMode::None,
    };
    let store = open(config).unwrap();
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let made = store.create_container("small", &ContainerOptions::default(), &Context::new()).unwrap();
    assert_eq!(exported(&store, "small"), image.tars());
    store.remove_container(&made.id, false).unwrap();
    assert!(store.check(CheckOptions::default(), &Context::new()).unwrap().findings.is_empty());
}

/// At the end of the statement that lists the sessions, ends one: as another process does between two looks.
struct EndsSession {
    database: PathBuf,
    lease: std::sync::Mutex<Option<(PathBuf, layerstore_sys::lock::Lock)>>,
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for EndsSession {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Lists(bool);
        impl tracing::field::Visit for Lists {
            fn record_str(&mut self, _: &tracing::field::Field, value: &str) {
                self.0 |= value.contains("FROM sessions WHERE persistent");
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
        }
        let mut lists = Lists(false);
        event.record(&mut lists);
        let lease = self.lease.lock().unwrap().take_if(|_| lists.0);
        if let Some((file, _lock)) = lease {
            let database = rusqlite::Connection::open(&self.database).unwrap();
            assert_eq!(database.execute("DELETE FROM sessions", []).unwrap(), 1);
            std::fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_session_that_ends_while_a_store_is_opened_is_not_taken_for_dead() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let scratch = Scratch::new();
    small().pull(&scratch.open("overlay2"), &["small"]).unwrap();
    let database = scratch.root().join("layerstore.db");
    let session = "0".repeat(64);
    let insert = "INSERT INTO sessions (id, purpose, persistent, started) VALUES (?, 'pull', 0, 1)";
    rusqlite::Connection::open(&database).unwrap().execute(insert, [&session]).unwrap();
    let staging = layerstore_sys::Dir::open(scratch.root().join("staging")).unwrap();
    let name = format!("{session}.lease");
    let file = staging.create_file(name.as_bytes(), 0o600).unwrap();
    let lock = layerstore_sys::lock::Lock::wait(file, layerstore_sys::lock::Mode::Exclusive).unwrap();
    // What the driver clears when a process died, and only then.
    let leftover = scratch.root().join("overlay2/staging/LEFT");
    std::fs::create_dir_all(leftover.join("diff")).unwrap();

    let lease = std::sync::Mutex::new(Some((scratch.root().join("staging").join(name), lock)));
    let subscriber = tracing_subscriber::registry().with(EndsSession { database, lease });
    let store = tracing::subscriber::with_default(subscriber, || scratch.open("overlay2"));
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    assert!(listing(scratch.root().join("staging")).is_empty(), "it has ended");
    assert!(leftover.exists(), "nobody died");
}

/// Rows that somebody changed by hand: what stands on these layers keeps them.
#[rstest]
fn a_layer_that_is_unfinished_without_a_writer_ends_no_pull_in_a_loop(
    #[values(
        "state = 'staging'",
        "state = 'deleting'",
        "state = 'staging' WHERE parent IS NULL",
        "state = 'deleting' WHERE parent IS NULL",
        "state = 'deleting' WHERE parent IS NOT NULL",
        "state = 'staging', session = 'gone'"
    )]
    change: &str,
    #[values(false, true)] open_before: bool,
    #[values(false, true)] pull: bool,
) {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let options = ContainerOptions { name: Some("box".to_owned()), ..ContainerOptions::default() };
    store.create_container("small", &options, &Context::new()).unwrap();
    let before = store.driver().layers().unwrap().len();
    let connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; UPDATE layers SET {change}")).unwrap();
    drop(connection);
    let store = if open_before { store } else { scratch.open("overlay2") };
    assert_eq!(store.driver().layers().unwrap().len(), before, "what something stands on stays");
    if pull {
        image.pull(&store, &["small"]).unwrap();
    }
    let repaired =
        store.check(CheckOptions { repair: true, ..CheckOptions::default() }, &Context::new()).unwrap();
    assert!(repaired.findings.iter().all(|finding| finding.repaired), "{:?}", repaired.findings);
    let found = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    assert_eq!(exported(&store, "small"), image.tars());
    store.mount("box", &MountOptions::default()).unwrap();
    store.unmount("box", None).unwrap();
}
