//! What the conformance suite cannot see of layers of limited size: the reasons where there are none, what lies on
//! disk, what a crash leaves of them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod limited;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use layerstore_driver::plan::{IdMap, IdMapping};
use layerstore_driver::{Access, Context, CreateOptions, Driver, DriverExt as _, Kind, Look, PlanOptions};
use layerstore_testkit::scratch::{FileSystem, Scratch};
use limited::{LIMIT, id, limited, open, with_base};
use rstest::rstest;

struct Bench {
    scratch: Scratch,
    driver: Arc<dyn Driver>,
}

impl Bench {
    fn new(file_system: FileSystem) -> Self {
        let scratch = Scratch::new(file_system, 256 << 20).unwrap();
        let driver = open(&scratch.path());
        Self { scratch, driver }
    }

    /// A bench whose driver has a sealed layer `base`.
    fn with_base() -> Self {
        let scratch = Scratch::new(FileSystem::BtrfsQuota, 256 << 20).unwrap();
        let driver = with_base(&scratch.path());
        Self { scratch, driver }
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn limited(&self, name: &str) -> PathBuf {
        limited(&*self.driver, &self.scratch.path(), name)
    }

    /// Expects so many subvolumes and quota groups, once the kernel has freed what was removed: a group goes some time
    /// after its subvolume, and nothing tells when.
    fn expect_counts(&self, subvolumes: usize, groups: usize) {
        let path = self.scratch.path();
        let lines = |text: String, word: &str| text.lines().filter(|line| line.starts_with(word)).count();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            // Without it, it would wait for the next commit, half a minute.
            btrfs(&["filesystem", "sync"], &path);
            btrfs(&["subvolume", "sync"], &path);
            let listed = btrfs(&["subvolume", "list"], &path);
            let shown = btrfs(&["qgroup", "show"], &path);
            let counts = (lines(listed, "ID "), lines(shown, "0/"));
            if counts == (subvolumes, groups) {
                return;
            }
            assert!(Instant::now() < end, "there are {counts:?} subvolumes and groups");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn btrfs(words: &[&str], path: &Path) -> String {
    let output = Command::new("btrfs").args(words).arg(path).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[rstest]
#[case(FileSystem::Btrfs, "quotas are off", "btrfs quota enable /")]
#[case(FileSystem::Tmpfs, "lies on tmpfs", "btrfs quota enable")]
#[case(FileSystem::Xfs, "project quotas", "prjquota")]
#[case(FileSystem::Ext4 { commit: 5 }, "project quotas", "tune2fs -O project,quota")]
fn where_there_are_no_limits_the_reason_and_the_remedy_are_told(
    #[case] file_system: FileSystem,
    #[case] reason: &str,
    #[case] remedy: &str,
) {
    let bench = Bench::new(file_system);
    let error = bench.driver.create(&id("limited"), None, &LIMIT, &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains(reason), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains(remedy)), "{:?}", error.hint());
    let status = bench.driver.status().unwrap();
    let (_, said) = status.iter().find(|(label, _)| label == "Size limits").unwrap();
    assert!(said.starts_with("no: ") && said.contains(reason), "{said}");
    // Once it is switched on, the same driver can.
    if file_system == FileSystem::Btrfs {
        btrfs(&["quota", "enable"], &bench.scratch.path());
        btrfs(&["quota", "rescan", "-w"], &bench.scratch.path());
        bench.driver.create(&id("limited"), None, &LIMIT, &Context::new()).unwrap();
    }
}

#[test]
fn a_limited_layer_is_a_subvolume_that_goes_with_its_quota_group() {
    let bench = Bench::with_base();
    let layer = bench.limited("limited");
    assert_eq!(std::fs::metadata(&layer).unwrap().ino(), 256);
    assert_eq!(std::fs::metadata(&layer).unwrap().mode() & 0o7777, 0o700);
    for part in ["diff", "work", "link", "lower"] {
        assert!(layer.join(part).exists(), "{part}");
    }
    bench.expect_counts(1, 2);
    bench.driver.remove(&id("limited")).unwrap();
    bench.expect_counts(0, 1);
}

#[test]
fn a_limit_that_is_too_small_for_an_empty_layer_leaves_nothing() {
    let bench = Bench::with_base();
    let options = CreateOptions { size_limit: Some(1) };
    let error =
        bench.driver.create(&id("limited"), Some(&id("base")), &options, &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    assert!(!bench.driver.exists(&id("limited")).unwrap());
    bench.expect_counts(0, 1);
    assert!(bench.driver.recover(&|_| false, Look::Leftovers).unwrap().is_empty());
}

#[rstest]
#[case("staging")]
#[case("trash")]
fn what_a_crash_leaves_of_a_full_layer_is_freed(#[case] place: &str) {
    let bench = Bench::with_base();
    let layer = bench.limited("limited");
    let piece = layerstore_testkit::noise(1, 1 << 20);
    let full = (0..64).any(|number| std::fs::write(layer.join(format!("diff/{number}")), &piece).is_err());
    assert!(full, "64 MiB went into 8 MiB");
    std::fs::rename(&layer, bench.root().join(place).join("ABCDEFGHIJKLMNOPQRSTUVWXYZ")).unwrap();
    let found = open(&bench.scratch.path()).recover(&|_| false, Look::Leftovers).unwrap();
    assert!(found.iter().any(|found| found.id == Some(id("limited"))), "{found:?}");
    bench.expect_counts(0, 1);
    bench.driver.remove(&id("base")).unwrap();
}

#[test]
fn a_limited_layer_is_mounted_with_mapped_ids() {
    let bench = Bench::with_base();
    bench.limited("limited");
    let ids = vec![IdMap { on_disk: 0, shown: 100_000, count: 65_536 }];
    let options = PlanOptions {
        access: Access::ReadWrite,
        id_mapping: Some(IdMapping { users: ids.clone(), groups: ids }),
        ..PlanOptions::default()
    };
    let mount = bench.driver.mount_detached(&id("limited"), &options).unwrap();
    let root = mount.root().unwrap();
    assert_eq!(root.stat(b"f").unwrap().uid, 100_000);
    drop(root);
    mount.close(&*bench.driver, &id("limited")).unwrap();
}
