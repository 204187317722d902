//! What the conformance suite cannot see of this driver: its layout on disk and its answers about itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::change::{Change, Entry, Kind as EntryKind, Metadata};
use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::stream::{ChangeSource, Item};
use layerstore_changeset::tree::{LayerTree, measure};
use layerstore_changeset::{Error as ChangeError, RelPath};
use layerstore_driver::{
    Access, Context, CreateOptions, Driver, DriverExt as _, DriverFactory as _, DriverOptions, Kind, LayerId,
    OpenOptions, PlanOptions, Probe,
};
use layerstore_vfs::Vfs;
use rstest::rstest;
use tempfile::TempDir;

fn options(base: &Path) -> OpenOptions {
    OpenOptions {
        root: base.join("root"),
        runroot: base.join("run"),
        options: DriverOptions::check(Vfs.options(), [("threads", "2")]).unwrap(),
    }
}

fn fixture() -> (TempDir, Arc<dyn Driver>) {
    let base = TempDir::new().unwrap();
    let driver = Vfs.open(&options(base.path())).unwrap();
    (base, driver)
}

fn id(id: &str) -> LayerId {
    LayerId::new(id).unwrap()
}

#[test]
fn a_layer_is_a_directory_with_its_view_and_vanishes_with_everything() {
    let (base, driver) = fixture();
    let context = Context::new();
    driver.create(&id("base"), None, &CreateOptions::default(), &context).unwrap();
    let tree = base.path().join("root/base/tree");
    let stat = std::fs::metadata(&tree).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o755, 0, 0, 0));
    assert_eq!(std::fs::metadata(base.path().join("root")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(driver.metadata(&id("base")).unwrap(), [("Dir".to_owned(), tree.display().to_string())]);

    std::fs::write(tree.join("file"), "content").unwrap();
    driver.seal(&id("base"), None, &context).unwrap();
    driver.create(&id("child"), Some(&id("base")), &CreateOptions::default(), &context).unwrap();
    assert_eq!(std::fs::read(base.path().join("root/child/tree/file")).unwrap(), b"content");
    assert_eq!(driver.remove(&id("base")).unwrap_err().kind(), Kind::InUse);
    driver.remove(&id("child")).unwrap();
    driver.remove(&id("base")).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(base.path().join("root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["applying", "driver.json", "staging", "trash"]);
    for empty in ["applying", "staging", "trash"] {
        assert_eq!(std::fs::read_dir(base.path().join("root").join(empty)).unwrap().count(), 0, "{empty}");
    }
}

#[test]
fn an_interrupted_copy_leaves_nothing() {
    let (base, driver) = fixture();
    driver.create(&id("base"), None, &CreateOptions::default(), &Context::new()).unwrap();
    std::fs::write(base.path().join("root/base/tree/file"), "content").unwrap();
    driver.seal(&id("base"), None, &Context::new()).unwrap();
    let cancelled = Context::new();
    cancelled.cancel();
    let error =
        driver.create(&id("child"), Some(&id("base")), &CreateOptions::default(), &cancelled).unwrap_err();
    assert_eq!((error.kind(), error.layer()), (Kind::Cancelled, Some(&id("child"))));
    assert!(!driver.exists(&id("child")).unwrap());
    assert_eq!(std::fs::read_dir(base.path().join("root/staging")).unwrap().count(), 0);
    driver.remove(&id("base")).unwrap();
}

/// Ids that are names of the kit's own files lie under another name.
#[rstest]
#[case("staging", "_staging")]
#[case("trash", "_trash")]
#[case("applying", "_applying")]
#[case("driver.json", "_driver.json")]
#[case("l", "l")]
fn every_id_can_be_a_layer(#[case] name: &str, #[case] on_disk: &str) {
    let (base, driver) = fixture();
    driver.create(&id(name), None, &CreateOptions::default(), &Context::new()).unwrap();
    assert!(base.path().join("root").join(on_disk).join("tree").is_dir());
    assert_eq!(driver.layers().unwrap().iter().map(|layer| layer.id.as_str()).collect::<Vec<_>>(), [name]);
    driver.remove(&id(name)).unwrap();
    assert!(driver.layers().unwrap().is_empty());
}

#[rstest]
#[case::volatile(PlanOptions { volatile: true, ..PlanOptions::default() })]
#[case::label(PlanOptions { label: Some("system_u:object_r:t:s0".to_owned()), ..PlanOptions::default() })]
fn what_a_bind_mount_cannot_do_is_refused(#[case] plan: PlanOptions) {
    let (_base, driver) = fixture();
    driver.create(&id("base"), None, &CreateOptions::default(), &Context::new()).unwrap();
    assert_eq!(driver.plan(&id("base"), &plan).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn a_detached_mount_writes_into_the_tree() {
    let (base, driver) = fixture();
    driver.create(&id("base"), None, &CreateOptions::default(), &Context::new()).unwrap();
    let writable = PlanOptions { access: Access::ReadWrite, ..PlanOptions::default() };
    let mount = driver.mount_detached(&id("base"), &writable).unwrap();
    mount.root().unwrap().make_dir(b"made", 0o755).unwrap();
    assert!(base.path().join("root/base/tree/made").is_dir());
    assert_eq!(driver.seal(&id("base"), None, &Context::new()).unwrap_err().kind(), Kind::InUse);
    assert_eq!(driver.remove(&id("base")).unwrap_err().kind(), Kind::InUse);
    mount.close(&*driver, &id("base")).unwrap();
    driver.seal(&id("base"), None, &Context::new()).unwrap();
}

/// So many new directories.
struct Directories(u8);

impl ChangeSource for Directories {
    fn next(&mut self) -> Result<Option<Item<'_>>, ChangeError> {
        let Some(left) = self.0.checked_sub(1) else { return Ok(None) };
        self.0 = left;
        let path = RelPath::new(format!("dir{left}")).unwrap();
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        let change = Change::Put(Entry { path, kind: EntryKind::Directory, metadata });
        Ok(Some(Item { change, data: None, offset: None }))
    }
}

/// What a layer takes is counted while it is applied, and measured where that is not all of it.
#[rstest]
#[case::a_base("base", false)]
#[case::a_base_written_through_a_mount("base", true)]
#[case::over_another("child", false)]
fn sealing_records_what_a_walk_would_find(#[case] layer: &str, #[case] mounted: bool) {
    let (base, driver) = fixture();
    let (context, layer) = (Context::new(), id(layer));
    driver.create(&id("base"), None, &CreateOptions::default(), &context).unwrap();
    if layer != id("base") {
        std::fs::write(base.path().join("root/base/tree/below"), vec![b'x'; 100_000]).unwrap();
        driver.seal(&id("base"), None, &context).unwrap();
        driver.create(&layer, Some(&id("base")), &CreateOptions::default(), &context).unwrap();
    }
    driver.apply(&layer, &mut Directories(30), &context).unwrap();
    let counted = base.path().join("root").join(layer.as_str()).join("counted.json");
    assert_eq!(counted.exists(), layer == id("base"));
    if mounted {
        let writable = PlanOptions { access: Access::ReadWrite, ..PlanOptions::default() };
        let mount = driver.mount_detached(&layer, &writable).unwrap();
        let file = mount.root().unwrap().create_file(b"large", 0o600).unwrap();
        file.write_all_at(&vec![b'x'; 1 << 20], 0).unwrap();
        drop(file);
        mount.close(&*driver, &layer).unwrap();
    }
    let sealed = driver.seal(&layer, None, &context).unwrap();
    let tree = base.path().join("root").join(layer.as_str()).join("tree");
    let tree = LayerTree { root: layerstore_sys::Dir::open(&tree).unwrap(), encoding: Encoding::Flat };
    assert_eq!(sealed, measure(&tree, 1, &context).unwrap());
    assert!(sealed.inodes > 30 && !counted.exists());
}

#[test]
fn probing_leaves_nothing() {
    let base = TempDir::new().unwrap();
    assert_eq!(Vfs.probe(&options(base.path())).unwrap(), Probe::Usable);
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}
