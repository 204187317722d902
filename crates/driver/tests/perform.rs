//! Plans become mounts, on this kernel and on older ones.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unimplemented,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod common;

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use common::{FEATURES, Kernel, names, overlay, scratch, tree, upper};
use layerstore_driver::mount::perform;
use layerstore_driver::plan::{Bind, IdMap, IdMapping, Overlay, OverlayFeatures, Source};
use layerstore_driver::{Kind, MountFlags, MountPlan};
use layerstore_sys::Errno;
use layerstore_sys::mount::{Flags, flags_of};
use rstest::rstest;

fn path(path: impl AsRef<Path>) -> Source {
    Source::Path(path.as_ref().to_owned())
}

fn mapping() -> IdMapping {
    let map = vec![IdMap { on_disk: 0, shown: 100_000, count: 65_536 }];
    IdMapping { users: map.clone(), groups: map }
}

#[rstest]
fn a_bind_shows_the_directory_and_refuses_writes_if_read_only(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values(true, false)] read_only: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let source = path(tree(&top.path().join("a"), "file"));
        let mount = perform(&MountPlan::Bind(Bind {
            source,
            read_only,
            flags: MountFlags::default(),
            id_mapping: None,
        }))
        .unwrap();
        assert_eq!(names(&mount), ["file"]);
        match mount.root().unwrap().make_dir(b"new", 0o755) {
            Ok(()) => assert!(!read_only),
            Err(error) => assert!(read_only && error.errno() == Errno::ROFS, "{error}"),
        }
        assert!(top.path().join("a/file").exists());
    });
}

#[rstest]
fn a_mount_has_its_own_flags_and_a_bind_those_of_its_source(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values("nodev", "nosuid", "noexec", "noatime", "nodev,nosuid,noexec,noatime", "")] words: &str,
    #[values(true, false)] read_only: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let flags: MountFlags = words.parse().unwrap();
        assert_eq!(flags.to_string(), words);
        let asked = Flags {
            read_only,
            nodev: flags.nodev,
            nosuid: flags.nosuid,
            noexec: flags.noexec,
            noatime: flags.noatime,
        };
        let directory = tree(&top.path().join("a"), "file");
        let of_source = flags_of(std::fs::File::open(&directory).unwrap().as_fd()).unwrap();
        let bind = Bind { source: path(&directory), read_only, flags, id_mapping: None };
        let upper = (!read_only).then(|| upper(&top.path().join("u")));
        let lowers = vec![path(&directory), path(tree(&top.path().join("b"), "other"))];
        let over = Overlay { flags, ..overlay(lowers, upper) };
        for (plan, wanted) in
            [(MountPlan::Bind(bind), asked.and(of_source)), (MountPlan::Overlay(over), asked)]
        {
            let mount = perform(&plan).unwrap();
            assert_eq!(flags_of(mount.root().unwrap().as_fd()).unwrap(), wanted, "{plan:?}");
        }
    });
}

#[rstest]
fn an_overlay_merges_and_writes_to_its_upper_directory_only(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let [one, two] = ["one", "two"].map(|name| tree(&top.path().join(name), name));
        let plan = overlay(vec![path(&one), path(two)], Some(upper(&top.path().join("u"))));
        let mount = perform(&MountPlan::Overlay(plan)).unwrap();
        assert_eq!(names(&mount), ["one", "two"]);
        mount.root().unwrap().make_dir(b"new", 0o755).unwrap();
        mount.root().unwrap().unlink(b"one").unwrap();
        drop(mount);
        assert!(top.path().join("u/diff/new").is_dir());
        assert!(one.join("one").exists());
    });
}

#[rstest]
fn an_overlay_without_an_upper_directory_refuses_writes(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let lowers = ["one", "two"].map(|name| path(tree(&top.path().join(name), name))).to_vec();
        let mount = perform(&MountPlan::Overlay(overlay(lowers, None))).unwrap();
        assert_eq!(names(&mount), ["one", "two"]);
        let error = mount.root().unwrap().make_dir(b"new", 0o755).unwrap_err();
        assert_eq!(error.errno(), Errno::ROFS);
    });
}

#[rstest]
fn five_hundred_lowers_with_long_paths_are_mounted(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let long = "l".repeat(250);
        let mut lowers: Vec<_> = (0..500)
            .map(|n| {
                path(tree(&top.path().join(format!("{n}")).join(&long).join(&long), &format!("file{n}")))
            })
            .collect();
        let mount = perform(&MountPlan::Overlay(overlay(lowers.clone(), None))).unwrap();
        assert_eq!(names(&mount).len(), 500);
        lowers.push(path(top.path().join("0")));
        let error = perform(&MountPlan::Overlay(overlay(lowers, None))).unwrap_err();
        assert_eq!(error.kind(), Kind::LimitExceeded, "{error}");
    });
}

#[rstest]
fn any_byte_may_stand_in_a_path(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values(
        b"a:b",
        b"a,b",
        b"a\\b",
        b"a b",
        b"a\nb",
        b"a=b",
        b"a\"b",
        b"\\:\\,",
        b"\xff\xfe",
        b"+",
        b"\\134"
    )]
    name: &[u8],
) {
    kernel.run(|| {
        let top = scratch();
        let odd = top.path().join(OsStr::from_bytes(name));
        let lowers = vec![path(tree(&odd.join("1"), "one")), path(tree(&odd.join("2"), "two"))];
        let plan = MountPlan::Overlay(overlay(lowers, Some(upper(&odd.join("u")))));
        let mount = perform(&plan).unwrap();
        assert_eq!(names(&mount), ["one", "two"]);
        mount.root().unwrap().make_dir(b"new", 0o755).unwrap();
        assert!(odd.join("u/diff/new").is_dir());
        drop(mount);
        let bind = Bind {
            source: path(odd.join("1")),
            read_only: true,
            flags: MountFlags::default(),
            id_mapping: None,
        };
        assert_eq!(names(&perform(&MountPlan::Bind(bind)).unwrap()), ["one"]);
    });
}

#[rstest]
fn a_plan_inside_a_plan_is_a_layer_or_a_source_like_any_other(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values("", "sub", "link/sub")] subdirectory: &str,
) {
    kernel.run(|| {
        let top = scratch();
        let inner = top.path().join("inner");
        tree(&inner, "file");
        tree(&inner.join("sub"), "file");
        std::os::unix::fs::symlink("/", inner.join("link")).unwrap();
        let inner = MountPlan::Bind(Bind {
            source: path(inner),
            read_only: true,
            flags: MountFlags::default(),
            id_mapping: None,
        });
        let source = Source::Plan { plan: Box::new(inner), subdirectory: Path::new(subdirectory).to_owned() };
        let bind =
            Bind { source: source.clone(), read_only: true, flags: MountFlags::default(), id_mapping: None };
        let mount = perform(&MountPlan::Bind(bind)).unwrap();
        assert!(names(&mount).contains(&"file".to_owned()));
        let lowers = vec![path(tree(&top.path().join("1"), "one")), source];
        let mount =
            perform(&MountPlan::Overlay(overlay(lowers, Some(upper(&top.path().join("u")))))).unwrap();
        assert!(names(&mount).contains(&"file".to_owned()));
        assert!(names(&mount).contains(&"one".to_owned()));
    });
}

#[rstest]
fn a_volatile_overlay_can_be_mounted_again(
    #[values(Kernel::This, Kernel::V5_1)] kernel: Kernel,
    #[values(true, false)] userxattr: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let features = OverlayFeatures { volatile: true, userxattr, ..FEATURES };
        let lower = path(tree(&top.path().join("1"), "one"));
        let upper = upper(&top.path().join("u"));
        let volatile = Overlay { features, ..overlay(vec![lower.clone()], Some(upper.clone())) };
        let plain = overlay(vec![lower], Some(upper));
        for plan in [volatile.clone(), volatile, plain] {
            drop(perform(&MountPlan::Overlay(plan)).unwrap());
        }
    });
}

#[rstest]
#[case::redirect_dir(OverlayFeatures { redirect_dir: true, ..FEATURES })]
#[case::metacopy(OverlayFeatures { redirect_dir: true, metacopy: true, ..FEATURES })]
#[case::index(OverlayFeatures { index: true, ..FEATURES })]
#[case::xino(OverlayFeatures { xino: true, ..FEATURES })]
#[case::userxattr(OverlayFeatures { userxattr: true, ..FEATURES })]
fn every_feature_can_be_asked_for(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_1)] kernel: Kernel,
    #[case] features: OverlayFeatures,
) {
    kernel.run(|| {
        let top = scratch();
        let lower = path(tree(&top.path().join("1"), "one"));
        let plan = Overlay { features, ..overlay(vec![lower], Some(upper(&top.path().join("u")))) };
        perform(&MountPlan::Overlay(plan)).unwrap();
    });
}

#[rstest]
fn mapped_ids_are_shown_and_unmapped_ones_stored(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1)] kernel: Kernel,
    #[values(true, false)] nested: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let lower = tree(&top.path().join("1"), "one");
        std::os::unix::fs::chown(lower.join("one"), Some(7), Some(8)).unwrap();
        let mut source = path(&lower);
        if nested {
            let plan = MountPlan::Bind(Bind {
                source,
                read_only: false,
                flags: MountFlags::default(),
                id_mapping: None,
            });
            source = Source::Plan { plan: Box::new(plan), subdirectory: "".into() };
        }
        let bind = Bind {
            source: source.clone(),
            read_only: false,
            flags: MountFlags::default(),
            id_mapping: Some(mapping()),
        };
        let over = overlay(vec![source], Some(upper(&top.path().join("u"))));
        let over = Overlay { id_mapping: Some(mapping()), ..over };
        for (plan, stored) in
            [(MountPlan::Overlay(over), top.path().join("u/diff")), (MountPlan::Bind(bind), lower)]
        {
            let mount = perform(&plan).unwrap();
            let root = mount.root().unwrap();
            let shown = root.stat(b"one").unwrap();
            assert_eq!((shown.uid, shown.gid), (100_007, 100_008));
            root.set_owner(b"one", 100_001, 100_002).unwrap();
            let unmapped = root.set_owner(b"one", 1, 1).unwrap_err();
            assert_eq!(unmapped.errno(), Errno::OVERFLOW, "{unmapped}");
            let kept = std::fs::metadata(stored.join("one")).unwrap();
            assert_eq!((kept.uid(), kept.gid()), (1, 2));
        }
    });
}

#[rstest]
fn a_kernel_without_id_mapping_says_so(#[values(Kernel::V5_11, Kernel::V5_1)] kernel: Kernel) {
    kernel.run(|| {
        let top = scratch();
        let source = path(tree(&top.path().join("1"), "one"));
        let over = overlay(vec![source.clone()], Some(upper(&top.path().join("u"))));
        let bind =
            Bind { source, read_only: false, flags: MountFlags::default(), id_mapping: Some(mapping()) };
        for plan in
            [MountPlan::Bind(bind), MountPlan::Overlay(Overlay { id_mapping: Some(mapping()), ..over })]
        {
            let error = perform(&plan).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.message().contains("Linux 5.12"), "{error}");
        }
    });
}

#[test]
fn what_no_kernel_can_mount_is_refused_before_it_is_tried() {
    let one = overlay(vec![path("/")], None);
    let none = overlay(vec![], Some(upper(scratch().path())));
    let mut climbing = upper(scratch().path());
    climbing.work = "../work".to_owned();
    let climbing = overlay(vec![path("/")], Some(climbing));
    for plan in [one, none, climbing] {
        let error = perform(&MountPlan::Overlay(plan)).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
    }
    let empty = Some(IdMapping::default());
    let error = perform(&MountPlan::Bind(Bind {
        source: path("/"),
        read_only: true,
        flags: MountFlags::default(),
        id_mapping: empty,
    }));
    assert_eq!(error.unwrap_err().kind(), Kind::InvalidInput);
    let map = IdMap { on_disk: 0, shown: 0, count: 10 };
    let twice = Some(IdMapping { users: vec![map, map], groups: vec![map] });
    let error = perform(&MountPlan::Bind(Bind {
        source: path("/"),
        read_only: true,
        flags: MountFlags::default(),
        id_mapping: twice,
    }));
    assert_eq!(error.unwrap_err().kind(), Kind::InvalidInput);
}

#[test]
fn a_failure_names_the_directory_or_where_to_read_on() {
    let top = scratch();
    let lower = tree(&top.path().join("1"), "one");
    let features = OverlayFeatures { userxattr: true, redirect_dir: true, ..FEATURES };
    let plan = Overlay { features, ..overlay(vec![path(&lower)], Some(upper(&top.path().join("u")))) };
    let error = perform(&MountPlan::Overlay(plan)).unwrap_err();
    assert!(error.hint().unwrap().contains("dmesg"), "{error}");
    let missing = overlay(vec![path(&lower), path(top.path().join("missing"))], None);
    let error = perform(&MountPlan::Overlay(missing)).unwrap_err();
    assert!(error.message().contains("missing"), "{error}");
}

#[test]
fn a_label_without_selinux_is_refused_with_the_reason() {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        eprintln!("skipped: SELinux is enabled here");
        return;
    }
    let top = scratch();
    let plan = overlay(vec![path(tree(&top.path().join("1"), "one"))], Some(upper(&top.path().join("u"))));
    let plan = Overlay { label: Some("system_u:object_r:container_file_t:s0".to_owned()), ..plan };
    let error = perform(&MountPlan::Overlay(plan)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("SELinux"), "{error}");
}

#[rstest]
fn an_upper_directory_that_another_overlay_guards_is_in_use(
    #[values(Kernel::This, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let lower = path(tree(&top.path().join("1"), "one"));
        let features = OverlayFeatures { index: true, ..FEATURES };
        let plan = Overlay { features, ..overlay(vec![lower], Some(upper(&top.path().join("u")))) };
        let plan = MountPlan::Overlay(plan);
        let guard = perform(&plan).unwrap();
        assert_eq!(perform(&plan).unwrap_err().kind(), Kind::InUse);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                drop(guard);
            });
            // Waits a moment for a mount that is going away.
            perform(&plan).unwrap();
        });
    });
}
