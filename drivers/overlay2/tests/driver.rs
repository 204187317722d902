//! What the conformance suite cannot see of this driver: its layout on disk, the reasons of its probe, redirects in
//! sealed layers, odd bytes in the root's path, and recovery from each state that a crash leaves.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerstore_changeset::change::{Change, Entry, Kind as EntryKind, Metadata};
use layerstore_changeset::encoding::{Encoding, overlay::Namespace};
use layerstore_changeset::stream::{Bytes, ChangeSource, FileData, Item};
use layerstore_changeset::tree::{ChangeKind, LayerTree, measure};
use layerstore_changeset::{Error as ChangeError, RelPath};
use layerstore_driver::{
    Access, Base, Context, CreateOptions, Driver, DriverExt as _, DriverFactory as _, DriverOptions, Kind,
    LayerId, LayerState, Look, MountPlan, OpenOptions, PlanOptions, Probe, Recovered,
};
use layerstore_overlay2::Overlay2;
use rstest::rstest;
use tempfile::TempDir;

/// A root and a driver on it.
struct Bench {
    base: PathBuf,
    driver: Arc<dyn Driver>,
    _temporary: TempDir,
}

fn open_options(base: &Path) -> OpenOptions {
    OpenOptions {
        root: base.join("root"),
        runroot: base.join("run"),
        options: DriverOptions::check(Overlay2.options(), [("threads", "2")]).unwrap(),
    }
}

impl Bench {
    fn new() -> Self {
        Self::named(b"plain")
    }

    fn named(name: &[u8]) -> Self {
        let temporary = TempDir::new_in("/dev/shm").unwrap();
        let base = temporary.path().join(OsStr::from_bytes(name));
        let driver = Overlay2.open(&open_options(&base)).unwrap();
        Self { base, driver, _temporary: temporary }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.base.join("root").join(relative)
    }

    fn create(&self, layer: &str, parent: Option<&str>) {
        let parent = parent.map(id);
        self.driver.create(&id(layer), parent.as_ref(), &CreateOptions::default(), &Context::new()).unwrap();
    }

    fn seal(&self, layer: &str) {
        self.driver.seal(&id(layer), None, &Context::new()).unwrap();
    }

    /// A sealed base layer with a directory of two files, and a writable child.
    fn two() -> Self {
        Self::two_in(b"plain")
    }

    fn two_in(name: &[u8]) -> Self {
        let bench = Self::named(name);
        bench.create("base", None);
        std::fs::create_dir(bench.path("base/diff/dir")).unwrap();
        std::fs::write(bench.path("base/diff/dir/one"), "1").unwrap();
        std::fs::write(bench.path("base/diff/dir/two"), "2").unwrap();
        bench.seal("base");
        bench.create("child", Some("base"));
        bench
    }

    fn mounted<T>(&self, layer: &str, access: Access, look: impl FnOnce(&layerstore_sys::Dir) -> T) -> T {
        let options = PlanOptions { access, ..PlanOptions::default() };
        let mount = self.driver.mount_detached(&id(layer), &options).unwrap();
        let found = look(&mount.root().unwrap());
        mount.close(&*self.driver, &id(layer)).unwrap();
        found
    }

    fn changes(&self, layer: &str) -> Vec<(String, ChangeKind)> {
        let changes = self.driver.changes(&id(layer), Base::Parent, &Context::new()).unwrap();
        changes.into_iter().map(|change| (change.path.to_string(), change.kind)).collect()
    }

    /// As after a reboot: nothing in the runroot.
    fn reboot(&mut self) -> Vec<Recovered> {
        std::fs::remove_dir_all(self.base.join("run")).unwrap();
        self.driver = Overlay2.open(&open_options(&self.base)).unwrap();
        self.driver.recover(&|_| false, Look::Leftovers).unwrap()
    }

    fn recover(&self) -> Vec<Recovered> {
        self.driver.recover(&|_| false, Look::Leftovers).unwrap()
    }

    /// Nothing is left besides the layers and their short names.
    fn assert_tidy(&self, layers: &[&str]) {
        let mut names: Vec<_> = std::fs::read_dir(self.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected = vec!["applying", "driver.json", "l", "staging", "trash"];
        expected.extend(layers);
        expected.sort();
        assert_eq!(names, expected);
        for empty in ["applying", "staging", "trash"] {
            assert_eq!(std::fs::read_dir(self.path(empty)).unwrap().count(), 0, "{empty}");
        }
        assert_eq!(std::fs::read_dir(self.path("l")).unwrap().count(), layers.len());
    }
}

fn id(id: &str) -> LayerId {
    LayerId::new(id).unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Puts these files, then ends or fails.
struct Files(Vec<(&'static str, &'static [u8])>, bool, Option<Bytes<'static>>);

impl ChangeSource for Files {
    fn next(&mut self) -> Result<Option<Item<'_>>, ChangeError> {
        if self.0.is_empty() {
            return if self.1 {
                Err(ChangeError::stream("read changeset", std::io::ErrorKind::UnexpectedEof.into()))
            } else {
                Ok(None)
            };
        }
        let (path, data) = self.0.remove(0);
        let change = Change::Put(Entry {
            path: RelPath::new(path).unwrap(),
            kind: EntryKind::File { size: data.len() as u64 },
            metadata: Metadata { mode: 0o644, ..Metadata::default() },
        });
        let data: &mut dyn FileData = self.2.insert(Bytes(data));
        Ok(Some(Item { change, data: Some(data), offset: None }))
    }
}

#[test]
fn layers_lie_as_docker_keeps_them() {
    let bench = Bench::two();
    let link = read(&bench.path("base/link"));
    assert!(link.len() == 26 && link.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{link}");
    assert_eq!(std::fs::read_link(bench.path("l").join(&link)).unwrap(), Path::new("../base/diff"));
    assert!(!bench.path("base/lower").exists() && !bench.path("base/work").exists());
    assert_eq!(read(&bench.path("child/lower")), format!("l/{link}"));
    assert!(bench.path("child/work").is_dir());
    let own = read(&bench.path("child/link"));
    bench.seal("child");
    bench.create("grandchild", Some("child"));
    assert_eq!(read(&bench.path("grandchild/lower")), format!("l/{own}:l/{link}"));
    for private in ["", "l", "base", "child"] {
        assert_eq!(std::fs::metadata(bench.path(private)).unwrap().mode() & 0o777, 0o700, "{private}");
    }
    let metadata = bench.driver.metadata(&id("grandchild")).unwrap();
    let labels: Vec<_> = metadata.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["UpperDir", "LowerDir", "WorkDir"]);
    for layer in ["grandchild", "child", "base"] {
        bench.driver.remove(&id(layer)).unwrap();
    }
    bench.assert_tidy(&[]);
}

#[test]
fn a_childs_root_looks_like_its_parents() {
    let bench = Bench::new();
    bench.create("base", None);
    let root = bench.path("base/diff");
    let stat = std::fs::metadata(&root).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o755, 0, 0, 0));
    let dir = layerstore_sys::Dir::open(&root).unwrap();
    use layerstore_sys::xattr::{On, get, set};
    dir.set_owner(b".", 12, 34).unwrap();
    dir.set_mode_self(0o1711).unwrap();
    set(On::Dir(&dir), b"trusted.note", b"kept").unwrap();
    set(On::Dir(&dir), b"trusted.overlay.opaque", b"y").unwrap();
    dir.set_mtime(b".", layerstore_sys::Timestamp { seconds: -5, nanos: 7 }).unwrap();
    bench.seal("base");
    bench.create("child", Some("base"));
    let child = layerstore_sys::Dir::open(bench.path("child/diff")).unwrap();
    let (stat, expected) = (child.stat_self().unwrap(), dir.stat_self().unwrap());
    assert_eq!((stat.uid, stat.gid, stat.mode, stat.mtime), (12, 34, 0o1711, expected.mtime));
    assert_eq!(get(On::Dir(&child), b"trusted.note").unwrap().as_deref(), Some(b"kept".as_slice()));
    assert_eq!(get(On::Dir(&child), b"trusted.overlay.opaque").unwrap(), None);
    assert_eq!(bench.changes("child"), []);
}

#[rstest]
#[case(b"with space")]
#[case(b"colon:comma,backslash\\end")]
#[case(b"line\nfeed \xff\xfe=")]
#[case(b"%s $HOME 'quoted' \"twice\"")]
fn any_byte_may_be_in_the_roots_path(#[case] name: &[u8]) {
    let bench = Bench::two_in(name);
    bench.mounted("child", Access::ReadWrite, |root| {
        root.open_dir(b"dir").unwrap().unlink(b"one").unwrap();
    });
    assert_eq!(
        bench.changes("child"),
        [("dir".to_owned(), ChangeKind::Modified), ("dir/one".to_owned(), ChangeKind::Deleted)]
    );
    bench.mounted("child", Access::ReadOnly, |root| {
        assert!(root.open_dir(b"dir").unwrap().try_stat(b"one").unwrap().is_none());
        assert!(root.make_dir(b"new", 0o755).is_err());
    });
}

#[test]
fn a_renamed_directory_stays_renamed_in_layers_above() {
    let bench = Bench::two();
    bench.mounted("child", Access::ReadWrite, |root| {
        root.rename(b"dir", root, b"moved").unwrap();
        root.open_dir(b"moved").unwrap().unlink(b"two").unwrap();
    });
    let redirect = layerstore_sys::xattr::get(
        layerstore_sys::xattr::On::Dir(&layerstore_sys::Dir::open(bench.path("child/diff/moved")).unwrap()),
        b"trusted.overlay.redirect",
    );
    assert!(redirect.unwrap().is_some(), "the kernel was to make a redirect, or this tests nothing");
    bench.seal("child");
    bench.create("top", Some("child"));
    for access in [Access::ReadOnly, Access::ReadWrite] {
        bench.mounted("top", access, |root| {
            let moved = root.open_dir(b"moved").unwrap();
            assert_eq!(moved.entries().unwrap().len(), 1);
            assert_eq!(moved.open_file(b"one").unwrap().read_to_end_limited(9).unwrap(), b"1");
            assert!(root.try_stat(b"dir").unwrap().is_none());
        });
    }
    // Through the redirect: what is put below the new name lands beside what the base has.
    let mut files = Files(vec![("moved/three", b"3")], false, None);
    bench.driver.apply(&id("top"), &mut files, &Context::new()).unwrap();
    bench.mounted("top", Access::ReadOnly, |root| {
        assert_eq!(root.open_dir(b"moved").unwrap().entries().unwrap().len(), 2);
    });
    assert_eq!(bench.changes("top").last().unwrap(), &("moved/three".to_owned(), ChangeKind::Added));
    let all: Vec<_> = bench
        .driver
        .changes(&id("top"), Base::Empty, &Context::new())
        .unwrap()
        .iter()
        .map(|change| change.path.to_string())
        .collect();
    assert_eq!(all, ["moved", "moved/one", "moved/three"]);
}

#[test]
fn plans_say_what_is_mounted() {
    let bench = Bench::two();
    let plan = |layer: &str, access| {
        bench.driver.plan(&id(layer), &PlanOptions { access, ..PlanOptions::default() })
    };
    let MountPlan::Bind(bind) = plan("base", Access::ReadOnly).unwrap() else { panic!("not a bind") };
    assert!(bind.read_only);
    assert_eq!(plan("base", Access::ReadWrite).unwrap_err().kind(), Kind::InvalidInput);
    let MountPlan::Overlay(writable) = plan("child", Access::ReadWrite).unwrap() else {
        panic!("not an overlay")
    };
    assert_eq!((writable.lowers.len(), writable.upper.is_some()), (1, true));
    assert!(writable.features.redirect_dir && !writable.features.metacopy && !writable.features.index);
    let MountPlan::Overlay(read_only) = plan("child", Access::ReadOnly).unwrap() else {
        panic!("not an overlay")
    };
    assert_eq!((read_only.lowers.len(), read_only.upper.is_some()), (2, false));
}

#[test]
fn a_chain_ends_at_500_layers() {
    let bench = Bench::new();
    let name = |number: usize| format!("l{number}");
    bench.create(&name(1), None);
    for number in 2..=500 {
        bench.seal(&name(number - 1));
        bench.create(&name(number), Some(&name(number - 1)));
    }
    for access in [Access::ReadWrite, Access::ReadOnly] {
        bench.mounted("l500", access, |root| assert!(root.entries().unwrap().is_empty()));
    }
    bench.seal("l500");
    let error = bench
        .driver
        .create(&id("l501"), Some(&id("l500")), &CreateOptions::default(), &Context::new())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::LimitExceeded);
    assert!(!bench.driver.exists(&id("l501")).unwrap());
    assert_eq!(std::fs::read_dir(bench.path("l")).unwrap().count(), 500);
}

#[test]
fn a_creation_that_was_interrupted_is_undone() {
    let bench = Bench::two();
    bench.recover();
    // As if the process had died before the rename: the layer lies in staging, its marker and short name exist.
    let token = read(&bench.path("child/link"));
    std::fs::rename(bench.path("child"), bench.path("staging").join(&token)).unwrap();
    assert!(!bench.driver.exists(&id("child")).unwrap());
    let found = bench.recover();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].id, Some(id("child")));
    bench.assert_tidy(&["base"]);
    assert_eq!(std::fs::read_dir(bench.path("base/children")).unwrap().count(), 0);
    assert_eq!(bench.recover(), []);
    bench.create("child", Some("base"));
}

#[test]
fn a_short_name_beside_the_layers_own_goes_after_a_power_cut() {
    let mut bench = Bench::two();
    // A layer that was to take the place of a damaged one: the disk has its short name, but not what its files hold.
    let token = "A".repeat(26);
    std::fs::create_dir(bench.path("staging").join(&token)).unwrap();
    std::fs::write(bench.path("staging").join(&token).join("link"), "").unwrap();
    std::os::unix::fs::symlink("../child/diff", bench.path("l").join(&token)).unwrap();
    let own = read(&bench.path("child/link"));
    let found = bench.reboot();
    assert_eq!(found.len(), 2, "{found:?}");
    bench.assert_tidy(&["base", "child"]);
    assert!(bench.path("l").join(own).exists());
    assert_eq!(bench.reboot(), []);
}

#[test]
fn a_layer_that_forgot_its_short_name_is_removed_with_it() {
    let bench = Bench::two();
    bench.recover();
    std::fs::write(bench.path("child/link"), "").unwrap();
    bench.driver.remove(&id("child")).unwrap();
    bench.assert_tidy(&["base"]);
}

#[test]
fn a_removal_that_was_interrupted_is_finished() {
    let bench = Bench::two();
    bench.recover();
    std::fs::rename(bench.path("child"), bench.path("trash/anything")).unwrap();
    // The id is free already, also for a layer over the same parent.
    bench.create("child", Some("base"));
    let found = bench.recover();
    assert_eq!(found.len(), 1, "{found:?}");
    bench.assert_tidy(&["base", "child"]);
    assert_eq!(bench.driver.remove(&id("base")).unwrap_err().kind(), Kind::InUse);
    assert_eq!(bench.changes("child"), []);
}

#[test]
fn a_layer_whose_apply_failed_is_good_for_removal_only() {
    let bench = Bench::two();
    let mut source = Files(vec![("file", b"data")], true, None);
    assert!(bench.driver.apply(&id("child"), &mut source, &Context::new()).is_err());
    let seal = bench.driver.seal(&id("child"), None, &Context::new()).unwrap_err();
    assert_eq!(seal.kind(), Kind::Corrupt);
    assert!(seal.hint().unwrap().contains("remove"), "{seal:?}");
    // The one who works on it says so: it stays.
    assert_eq!(bench.driver.recover(&|layer| *layer == id("child"), Look::Leftovers).unwrap(), []);
    assert!(bench.driver.exists(&id("child")).unwrap());
    let found = bench.recover();
    assert_eq!(found.len(), 1, "{found:?}");
    bench.assert_tidy(&["base"]);
    // A new layer of this name has nothing to do with it.
    bench.create("child", Some("base"));
    bench
        .driver
        .apply(&id("child"), &mut Files(vec![("file", b"data")], false, None), &Context::new())
        .unwrap();
    bench.seal("child");
}

#[test]
fn what_a_power_cut_tore_is_found_after_the_reboot() {
    let mut bench = Bench::two();
    bench.seal("child");
    bench.create("top", Some("child"));
    std::fs::write(bench.path("child/lower"), "").unwrap();
    std::fs::write(bench.path("top/link"), "").unwrap();
    std::fs::remove_file(bench.path("l").join(read(&bench.path("base/link")))).unwrap();
    std::os::unix::fs::symlink("../nobody/diff", bench.path("l/AAAAAAAAAAAAAAAAAAAAAAAAAA")).unwrap();
    std::fs::remove_dir_all(bench.path("base/children")).unwrap();
    std::fs::write(bench.path("child/children/ghost+ABC"), "").unwrap();
    std::fs::write(bench.path("top/sealed.json"), "").unwrap();
    assert_eq!(bench.driver.layer(&id("top")).unwrap_err().kind(), Kind::Corrupt);
    let found = bench.reboot();
    assert_eq!(found.len(), 7, "{found:#?}");
    bench.assert_tidy(&["base", "child", "top"]);
    assert_eq!(bench.driver.layer(&id("top")).unwrap().state, LayerState::Writable);
    assert_eq!(bench.driver.remove(&id("base")).unwrap_err().kind(), Kind::InUse);
    assert_eq!(std::fs::read_dir(bench.path("child/children")).unwrap().count(), 1);
    bench.mounted("top", Access::ReadWrite, |root| {
        assert_eq!(root.open_dir(b"dir").unwrap().entries().unwrap().len(), 2);
    });
    assert_eq!(bench.reboot(), []);
}

#[rstest]
#[case::empty("")]
#[case::garbage("\u{1}not json")]
#[case::of_another(r#"{"version":1,"id":"other","parent":null,"token":"A","created":0}"#)]
#[case::hostile_parent(r#"{"version":1,"id":"child","parent":"../../etc","token":"A","created":0}"#)]
fn a_damaged_record_is_reported_and_the_layer_can_be_removed(#[case] text: &str) {
    let mut bench = Bench::two();
    std::fs::write(bench.path("child/layer.json"), text).unwrap();
    let error = bench.driver.layer(&id("child")).unwrap_err();
    assert_eq!(
        (error.kind(), error.driver(), error.layer()),
        (Kind::Corrupt, Some("overlay2"), Some(&id("child")))
    );
    let found = bench.reboot();
    assert!(found.iter().any(|found| found.id == Some(id("child"))), "{found:?}");
    assert_eq!(bench.driver.layers().unwrap().len(), 1);
    assert!(bench.driver.exists(&id("child")).unwrap());
    bench.driver.remove(&id("child")).unwrap();
    // Its marker is left in the parent, and counts for nothing.
    bench.driver.remove(&id("base")).unwrap();
    bench.assert_tidy(&[]);
}

#[test]
fn a_record_of_a_later_version_is_refused() {
    let bench = Bench::two();
    std::fs::write(bench.path("child/layer.json"), r#"{"version":2,"shape":"unknown"}"#).unwrap();
    let error = bench.driver.layer(&id("child")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("version 2"), "{error}");
}

#[rstest]
#[case::later(r#"{"driver":"overlay2","version":2}"#, Kind::Unsupported, "version 2")]
#[case::foreign(r#"{"driver":"zfs","version":1}"#, Kind::InvalidInput, "zfs")]
#[case::damaged("{", Kind::Corrupt, "driver.json")]
fn a_root_of_somebody_else_is_refused(#[case] record: &str, #[case] kind: Kind, #[case] message: &str) {
    let base = TempDir::new_in("/dev/shm").unwrap();
    std::fs::create_dir(base.path().join("root")).unwrap();
    std::fs::write(base.path().join("root/driver.json"), record).unwrap();
    let error = Overlay2.open(&open_options(base.path())).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(message), "{error}");
}

#[test]
fn a_directory_with_something_else_in_it_is_no_root() {
    let base = TempDir::new_in("/dev/shm").unwrap();
    std::fs::create_dir_all(base.path().join("root/0123abcd/diff")).unwrap();
    let error = Overlay2.open(&open_options(base.path())).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.message().contains("0123abcd"), "{error}");
}

#[test]
fn probing_leaves_nothing_and_needs_no_root() {
    let base = TempDir::new_in("/dev/shm").unwrap();
    assert_eq!(Overlay2.probe(&open_options(&base.path().join("not/there"))).unwrap(), Probe::Usable);
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn a_root_on_an_overlay_is_refused_with_the_reason() {
    let bench = Bench::two();
    let target = bench.base.join("mounted");
    std::fs::create_dir(&target).unwrap();
    let writable = PlanOptions { access: Access::ReadWrite, ..PlanOptions::default() };
    bench.driver.mount(&id("child"), &writable, &target).unwrap();
    let inner = open_options(&target);
    let probe = Overlay2.probe(&inner).unwrap();
    let error = Overlay2.open(&inner).unwrap_err();
    let left = std::fs::read_dir(&target).unwrap().count();
    bench.driver.unmount(&id("child"), &target).unwrap();
    let Probe::Unusable { reason, hint } = probe else { panic!("usable") };
    assert!(reason.contains("overlay"), "{reason}");
    assert!(hint.is_some());
    assert_eq!((error.kind(), error.message()), (Kind::Unsupported, reason.as_str()));
    assert_eq!(left, 1);
}

#[test]
fn the_kernels_own_file_systems_are_refused_with_a_reason() {
    let mut options = open_options(Path::new("/proc"));
    options.root = PathBuf::from("/proc/layerstore");
    // Either nothing can be made there, which says nothing of the driver, or the reason is given.
    match Overlay2.probe(&options) {
        Ok(Probe::Usable) => panic!("usable on proc"),
        Ok(Probe::Unusable { reason, .. }) => assert!(!reason.is_empty()),
        Err(error) => assert_eq!((error.kind(), error.driver()), (Kind::System, Some("overlay2"))),
    }
}

/// What a layer takes is counted while it is applied, and measured where that is not all of it.
#[rstest]
#[case::applied_once(1, false)]
#[case::applied_twice(2, false)]
#[case::written_through_a_mount(1, true)]
fn sealing_records_what_a_walk_would_find(#[case] applies: u8, #[case] mounted: bool) {
    let bench = Bench::two();
    for _ in 0..applies {
        let mut files = Files(vec![("dir/new", &[b'x'; 100_000]), ("implied/file", b"data")], false, None);
        bench.driver.apply(&id("child"), &mut files, &Context::new()).unwrap();
    }
    let counted = bench.path("child/counted.json");
    assert_eq!(counted.exists(), applies == 1);
    if mounted {
        let data = vec![b'x'; 1 << 20];
        bench.mounted("child", Access::ReadWrite, |root| {
            root.create_file(b"large", 0o600).unwrap().write_all_at(&data, 0).unwrap();
        });
    }
    let sealed = bench.driver.seal(&id("child"), None, &Context::new()).unwrap();
    let root = layerstore_sys::Dir::open(bench.path("child/diff")).unwrap();
    let tree = LayerTree { root, encoding: Encoding::Overlay(Namespace::Trusted) };
    let walked = measure(&tree, 1, &Context::new()).unwrap();
    assert_eq!(sealed, walked);
    assert!(!counted.exists());
}
