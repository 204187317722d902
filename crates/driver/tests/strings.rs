//! Plans said as mount strings are what mount(2) takes.

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
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use common::{FEATURES, Kernel, overlay, scratch, tree, upper};
use layerstore_driver::mount::strings;
use layerstore_driver::plan::{Bind, IdMap, IdMapping, Overlay, OverlayFeatures, Source};
use layerstore_driver::{Kind, MountFlags, MountPlan};
use layerstore_sys::mount::{Flags, legacy};
use rstest::rstest;

fn path(path: impl AsRef<Path>) -> Source {
    Source::Path(path.as_ref().to_owned())
}

fn bind(source: Source, read_only: bool) -> MountPlan {
    MountPlan::Bind(Bind { source, read_only, flags: MountFlags::default(), id_mapping: None })
}

#[test]
fn a_bind_says_where_and_how() {
    for (read_only, access) in [(true, "ro"), (false, "rw")] {
        let strings = strings(&bind(path("/a b"), read_only)).unwrap();
        let [string] = &strings[..] else { panic!("{strings:?}") };
        assert_eq!((&*string.r#type, &*string.source), ("bind", "/a b"));
        assert_eq!(string.options, ["rbind", access]);
    }
}

#[test]
fn flags_are_said_as_words() {
    let flags: MountFlags = "noexec, nodev,suid,nosuid".parse().unwrap();
    let bind = MountPlan::Bind(Bind { source: path("/a"), read_only: true, flags, id_mapping: None });
    let over = MountPlan::Overlay(Overlay { flags, ..overlay(vec![path("/a"), path("/b")], None) });
    for plan in [bind, over] {
        let [string] = &strings(&plan).unwrap()[..] else { panic!("{plan:?}") };
        let said: Vec<_> = string.options.iter().filter(|option| option.starts_with("no")).collect();
        assert_eq!(said, ["nodev", "nosuid", "noexec"]);
    }
    let error = "nodev,metacopy=on".parse::<MountFlags>().unwrap_err();
    assert!(error.kind() == Kind::InvalidInput && error.to_string().contains("metacopy=on"), "{error}");
}

#[rstest]
fn the_kernel_takes_what_an_overlay_says(
    #[values("plain", "a:b", "a,b", "a\\b", "a b", "a\nb", "\\:\\,\\\\")] name: &str,
    #[values(true, false)] write: bool,
) {
    Kernel::This.run(|| {
        let top = scratch();
        let odd = top.path().join(name);
        let lowers = vec![path(tree(&odd.join("1"), "one")), path(tree(&odd.join("2"), "two"))];
        let upper = write.then(|| upper(&odd.join("u")));
        let plan = MountPlan::Overlay(overlay(lowers, upper));
        let strings = strings(&plan).unwrap();
        let [string] = &strings[..] else { panic!("{strings:?}") };
        assert_eq!(string.options.contains(&"ro".to_owned()), !write);
        let options: Vec<_> = string.options.iter().filter(|option| *option != "ro").cloned().collect();
        let target = top.path().join("mnt");
        std::fs::create_dir(&target).unwrap();
        let flags = Flags { read_only: !write, ..Flags::default() };
        legacy::mount(&string.r#type, &string.source, &target, flags, options.join(",").as_bytes()).unwrap();
        assert!(target.join("one").exists() && target.join("two").exists());
        assert_eq!(std::fs::write(target.join("new"), "").is_ok(), write);
        assert_eq!(odd.join("u/diff/new").exists(), write);
        layerstore_sys::mount::unmount(&target).unwrap();
    });
}

#[test]
fn every_feature_is_said_and_the_layers_are_in_order() {
    let top = scratch();
    let features = OverlayFeatures { volatile: true, userxattr: true, xino: true, ..FEATURES };
    let upper = upper(top.path());
    let plan = Overlay { features, ..overlay(vec![path("/l/1"), path("/l/2")], Some(upper)) };
    let strings = strings(&MountPlan::Overlay(plan)).unwrap();
    let [string] = &strings[..] else { panic!("{strings:?}") };
    let top = top.path().display();
    assert_eq!(
        string.options,
        [
            &*format!("workdir={top}/work"),
            &*format!("upperdir={top}/diff"),
            "lowerdir=/l/1:/l/2",
            "redirect_dir=nofollow",
            "metacopy=off",
            "index=off",
            "nfs_export=off",
            "xino=auto",
            "userxattr",
            "volatile"
        ]
    );
}

#[test]
fn what_does_not_fit_into_a_page_is_refused_with_the_numbers() {
    let lowers = |count: usize| (0..count).map(|n| path(format!("/{:028}", n))).collect::<Vec<_>>();
    let plan = |count| MountPlan::Overlay(overlay(lowers(count), None));
    // 30 bytes each, colons counted.
    assert!(strings(&plan(130)).is_ok());
    let error = strings(&plan(140)).unwrap_err();
    assert_eq!(error.kind(), Kind::LimitExceeded);
    assert!(error.message().contains("140 layers") && error.message().contains("4095"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn what_needs_descriptors_is_refused_with_the_reason() {
    let map = vec![IdMap { on_disk: 0, shown: 1, count: 1 }];
    let mapping = Some(IdMapping { users: map.clone(), groups: map });
    let nested = Source::Plan { plan: Box::new(bind(path("/"), true)), subdirectory: "x".into() };
    let odd = path(OsStr::from_bytes(b"/\xff"));
    for (plan, word) in [
        (bind(nested.clone(), true), "inside"),
        (MountPlan::Overlay(overlay(vec![path("/"), nested], None)), "inside"),
        (bind(odd.clone(), true), "UTF-8"),
        (MountPlan::Overlay(overlay(vec![path("/"), odd], None)), "UTF-8"),
        (
            MountPlan::Bind(Bind {
                source: path("/"),
                read_only: true,
                flags: MountFlags::default(),
                id_mapping: mapping.clone(),
            }),
            "id mapping",
        ),
        (
            MountPlan::Overlay(Overlay { id_mapping: mapping, ..overlay(vec![path("/"), path("/")], None) }),
            "id mapping",
        ),
    ] {
        let error = strings(&plan).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains(word), "{error}");
    }
}
