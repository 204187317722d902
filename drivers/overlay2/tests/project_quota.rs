//! Layers of limited size on a file system with project quotas: which projects they get, and what is left of them.
//!
//! Few kernels at hand have such quotas, so `cargo test` runs these tests only when they are named: `cargo xtask vm` does
//! it on xfs and on ext4. By hand: `LAYERSTORE_TEST_PROJECTS=DIR cargo test --test project_quota -- --test-threads 1`,
//! where DIR is on a file system that is mounted with `-o prjquota` and that nobody else writes to.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod limited;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use layerstore_driver::{Access, Context, CreateOptions, Driver, DriverExt as _, Kind, Look, PlanOptions};
use layerstore_sys::project::{self, Membership, Usage};
use layerstore_sys::{Dir, privilege};
use limited::{BYTES, LIMIT, id, limited, open, with_base};
use rstest::rstest;

/// Where the kit begins to look for projects, and how many are looked at here.
const FIRST: u32 = 0x4c00_0000;
const LOOKED_AT: u32 = 2048;

struct Bench {
    folder: tempfile::TempDir,
    driver: Arc<dyn Driver>,
}

impl Bench {
    /// A driver that has a sealed layer `base`, on a file system that has no projects in use.
    fn new() -> Self {
        let place = std::env::var_os("LAYERSTORE_TEST_PROJECTS").expect(
            "LAYERSTORE_TEST_PROJECTS names no directory on a file system with project quotas: run cargo xtask vm",
        );
        let folder = tempfile::tempdir_in(place).unwrap();
        let driver = with_base(folder.path());
        let bench = Self { folder, driver };
        // What was removed without its driver leaves limits of nobody.
        let dir = bench.dir();
        (FIRST..FIRST + LOOKED_AT).for_each(|id| project::limit(&dir, id, None).unwrap());
        bench.expect_projects(&[]);
        bench
    }

    fn limited(&self, name: &str) -> PathBuf {
        limited(&*self.driver, self.folder.path(), name)
    }

    fn dir(&self) -> Dir {
        Dir::open(self.folder.path()).unwrap()
    }

    fn usage(&self, id: u32) -> Usage {
        project::usage(&self.dir(), id).unwrap()
    }

    /// Expects that these projects have inodes or limits, and no others: xfs frees inodes some time after they were
    /// unlinked.
    fn expect_projects(&self, expected: &[u32]) {
        let end = Instant::now() + Duration::from_secs(10);
        let dir = self.dir();
        loop {
            let in_use = |id: &u32| {
                let usage = project::usage(&dir, *id).unwrap();
                usage.inodes > 0 || usage.limit.is_some()
            };
            let found: Vec<u32> = (FIRST..FIRST + LOOKED_AT).filter(in_use).collect();
            if found == expected {
                return;
            }
            assert!(Instant::now() < end, "projects {found:?} are in use, not {expected:?}");
            dir.sync_file_system().unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn membership(path: &Path) -> Membership {
    project::of(&Dir::open(path).unwrap()).unwrap().unwrap()
}

/// Writes until nothing more goes in, as a process in a container does.
fn fill(dir: &Path) {
    let piece = layerstore_testkit::noise(1, 1 << 20);
    let write = |number| {
        let path = dir.join(format!("{number}"));
        std::fs::write(&path, &piece).is_err() || Dir::open(dir).unwrap().sync().is_err()
    };
    let full = privilege::without_resource(|| (0..64).any(write)).unwrap();
    assert!(full, "64 MiB went into {BYTES} bytes");
}

#[test]
fn a_limited_layer_has_a_project_of_its_own_that_goes_with_it() {
    let bench = Bench::new();
    let layer = bench.limited("limited");
    assert_eq!(std::fs::metadata(&layer).unwrap().permissions().mode() & 0o7777, 0o700);
    let project = membership(&layer);
    assert!(project.inherited && (FIRST..FIRST + 64).contains(&project.id), "{project:?}");
    for part in ["diff", "work"] {
        assert_eq!(membership(&layer.join(part)), project, "{part}");
    }
    assert_eq!(membership(&bench.folder.path().join("root/base")), Membership::default());
    let usage = bench.usage(project.id);
    assert!(usage.limit == Some(BYTES) && usage.inodes > 4 && usage.bytes < 1 << 20, "{usage:?}");
    std::fs::write(layer.join("diff/g"), layerstore_testkit::noise(2, 1 << 20)).unwrap();
    bench.dir().sync_file_system().unwrap();
    assert!(bench.usage(project.id).bytes >= 1 << 20);
    bench.expect_projects(&[project.id]);
    // What is built on it has none.
    bench.driver.seal(&id("limited"), None, &Context::new()).unwrap();
    bench
        .driver
        .create(&id("child"), Some(&id("limited")), &CreateOptions::default(), &Context::new())
        .unwrap();
    assert_eq!(membership(&bench.folder.path().join("root/child/diff")), Membership::default());
    bench.driver.remove(&id("child")).unwrap();
    bench.driver.remove(&id("limited")).unwrap();
    bench.expect_projects(&[]);
}

#[test]
fn a_limit_that_is_too_small_for_an_empty_layer_leaves_nothing() {
    let bench = Bench::new();
    let options = CreateOptions { size_limit: Some(1) };
    let error =
        bench.driver.create(&id("limited"), Some(&id("base")), &options, &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    assert!(!bench.driver.exists(&id("limited")).unwrap());
    bench.expect_projects(&[]);
    assert!(bench.driver.recover(&|_| false, Look::Leftovers).unwrap().is_empty());
}

#[rstest]
#[case("staging", false)]
#[case("trash", false)]
#[case("trash", true)]
fn what_a_crash_leaves_of_a_full_layer_is_freed(#[case] place: &str, #[case] without_record: bool) {
    let bench = Bench::new();
    let layer = bench.limited("limited");
    fill(&layer.join("diff"));
    if without_record {
        std::fs::remove_file(layer.join("layer.json")).unwrap();
    }
    std::fs::rename(&layer, bench.folder.path().join("root").join(place).join("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        .unwrap();
    let found = open(bench.folder.path()).recover(&|_| false, Look::Leftovers).unwrap();
    assert!(found.iter().any(|found| without_record || found.id == Some(id("limited"))), "{found:?}");
    bench.expect_projects(&[]);
}

#[test]
fn a_full_layer_is_sealed_and_built_on_by_who_is_held_to_limits() {
    let bench = Bench::new();
    let layer = bench.limited("limited");
    let project = membership(&layer).id;
    fill(&layer.join("diff"));
    assert_eq!(bench.usage(project).limit, Some(BYTES));
    privilege::without_resource(|| {
        // Not a byte is left, not for a directory either.
        let more = (0..10_000).map(|number| std::fs::write(layer.join(format!("diff/more-{number}")), "x"));
        assert!(more.into_iter().any(|written| written.is_err()));
        bench.driver.seal(&id("limited"), None, &Context::new()).unwrap();
        let options = CreateOptions::default();
        bench.driver.create(&id("child"), Some(&id("limited")), &options, &Context::new()).unwrap();
    })
    .unwrap();
    bench.driver.remove(&id("child")).unwrap();
    bench.driver.remove(&id("limited")).unwrap();
    bench.expect_projects(&[]);
}

#[test]
fn an_overlay_holds_who_has_every_capability() {
    let bench = Bench::new();
    bench.limited("limited");
    let writable = PlanOptions { access: Access::ReadWrite, ..PlanOptions::default() };
    let mount = bench.driver.mount_detached(&id("limited"), &writable).unwrap();
    let file = mount.root().unwrap().create_file(b"large", 0o644).unwrap();
    let piece = layerstore_testkit::noise(3, 1 << 20);
    let refused =
        (0..64_u64).any(|at| file.write_all_at(&piece, at << 20).and_then(|()| file.sync()).is_err());
    assert!(refused, "64 MiB went into {BYTES} bytes");
    drop(file);
    mount.close(&*bench.driver, &id("limited")).unwrap();
}

#[test]
fn many_who_create_layers_at_once_get_different_projects() {
    let bench = Bench::new();
    let root = bench.dir();
    // What has files is somebody's, with or without a limit. A limit alone is left of a store that is gone.
    let used: Vec<u32> = (FIRST + 1..FIRST + 32).step_by(2).collect();
    (FIRST..FIRST + 64).for_each(|id| project::limit(&root, id, Some(1 << 30)).unwrap());
    for id in &used {
        let dir = root.ensure_dir(format!("used-{id}").as_bytes(), 0o700).unwrap();
        project::assign(&dir, *id).unwrap();
    }
    let start = std::sync::Barrier::new(8);
    let make = |thread: usize| {
        // Every other one has a store of its own.
        let own = bench.folder.path().join(format!("own-{thread}"));
        std::fs::create_dir(&own).unwrap();
        let alone = thread % 2 == 1;
        let driver = if alone { with_base(&own) } else { open(bench.folder.path()) };
        let base = if alone { own.as_path() } else { bench.folder.path() };
        start.wait();
        let ids: Vec<u32> = (0..16)
            .map(|number| membership(&limited(&*driver, base, &format!("l{thread}-{number}"))).id)
            .collect();
        (driver, ids, thread)
    };
    let made: Vec<_> = std::thread::scope(|scope| {
        let make = &make;
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || make(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let all: Vec<u32> = made.iter().flat_map(|(_, ids, _)| ids.iter().copied()).collect();
    let distinct: BTreeSet<u32> = all.iter().copied().collect();
    assert_eq!(distinct.len(), 8 * 16, "{all:?}");
    assert!(used.iter().all(|id| !distinct.contains(id)), "{distinct:?}");
    for project in &all {
        let usage = bench.usage(*project);
        assert!(usage.limit == Some(BYTES) && usage.inodes < 16, "project {project}: {usage:?}");
    }
    // Dense, so that what a file system keeps of a project for ever is kept for few.
    assert!(distinct.iter().all(|id| *id < FIRST + LOOKED_AT), "{distinct:?}");
    for (driver, ids, thread) in &made {
        for number in 0..ids.len() {
            driver.remove(&id(&format!("l{thread}-{number}"))).unwrap();
        }
    }
    (FIRST..FIRST + 64).for_each(|id| project::limit(&root, id, None).unwrap());
    bench.expect_projects(&used);
}

#[test]
fn a_store_within_a_project_limits_nothing_and_leaves_that_project_alone() {
    let bench = Bench::new();
    // As a container of limited size sees it, which keeps containers itself.
    let outer = bench.limited("outer");
    let project = membership(&outer).id;
    let inner = outer.join("diff/inner");
    std::fs::create_dir(&inner).unwrap();
    let driver = with_base(&inner);
    let error = driver.create(&id("limited"), Some(&id("base")), &LIMIT, &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(error.message().contains(&format!("belongs to the project {project}")), "{error}");
    driver.create(&id("layer"), Some(&id("base")), &CreateOptions::default(), &Context::new()).unwrap();
    fill(&inner.join("root/layer/diff"));
    privilege::without_resource(|| {
        let _ = driver.seal(&id("layer"), None, &Context::new());
        let _ = driver.create(&id("more"), Some(&id("base")), &CreateOptions::default(), &Context::new());
    })
    .unwrap();
    std::fs::remove_file(inner.join("root/layer/layer.json")).unwrap();
    driver.remove(&id("layer")).unwrap();
    assert_eq!(bench.usage(project).limit, Some(BYTES), "the limit of the layer around the store is gone");
}
