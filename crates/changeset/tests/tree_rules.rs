//! Each rule of applying, in both encodings: what the tree is afterwards. The overlay result is read through the
//! kernel's own overlay too.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]
#![allow(dropping_references, reason = "a chain of edits ends in the tree, which the closures do not return")]

mod support;

use layerstore_changeset::encoding::{Encoding, overlay::Namespace};
use layerstore_changeset::tree::{self as trees, ApplyOptions, LayerTree, View};
use layerstore_changeset::{Context, RelPath};
use layerstore_sys::Dir;
use layerstore_sys::xattr::{self, On};
use layerstore_testkit::build::*;
use layerstore_testkit::model::Change;
use layerstore_testkit::{Data, Path, Tree, assert_same, noise, read_tree_at, tree};
use rstest::rstest;
use support::*;

/// What the lower becomes.
fn with(change: impl FnOnce(&mut Tree)) -> Tree {
    let mut tree = lower();
    change(&mut tree);
    tree
}

#[track_caller]
fn both(lower: &Tree, changes: &[Change], expected: &Tree) {
    for threads in [1, 4] {
        for namespace in [Namespace::Trusted, Namespace::User] {
            let folder = layerstore_testkit::scratch::scratch_dir().unwrap();
            let mut stage = Stage::on(folder, lower, namespace);
            stage.apply_flat(changes, threads).unwrap();
            assert_same(expected, &read_tree_at(&stage.flat).unwrap());
            stage.apply_overlay(changes, threads).unwrap();
            assert_same(expected, &stage.merged());
            assert_same(expected, &read_view(&stage.view()));
        }
    }
}

#[rstest]
#[case::a_removed_name_is_gone(&[remove("etc")], with(|t| drop(t.remove("etc"))))]
#[case::a_removed_file_is_gone_and_its_directory_keeps_its_time(
    &[remove("etc/passwd")], with(|t| drop(t.remove("etc/passwd"))))]
#[case::a_name_that_is_not_there_stores_nothing(&[remove("no"), remove("no/x"), remove("f/x")], lower())]
#[case::a_whiteout_leaves_what_the_stream_puts_before(
    &[put("f", file("new")), remove("f")], with(|t| drop(t.put("f", file("new")))))]
#[case::a_whiteout_leaves_what_the_stream_puts_after(
    &[remove("f"), put("f", file("new"))], with(|t| drop(t.put("f", file("new")))))]
#[case::a_removed_directory_with_a_new_child_is_fresh(
    &[remove("etc"), put("etc/new", file("n"))],
    with(|t| drop(t.remove("etc").put("etc/new", file("n")))))]
#[case::a_removed_directory_with_an_earlier_child_is_fresh(
    &[put("etc/ssl/new", file("n")), remove("etc")],
    with(|t| drop(t.remove("etc").put("etc/ssl/new", file("n")))))]
#[case::a_whiteout_below_a_removed_directory_leaves_nothing(
    &[put("etc/new", file("n")), remove("etc/ssl/key"), remove("etc/passwd"), remove("etc")],
    with(|t| drop(t.remove("etc").put("etc/new", file("n")))))]
#[case::a_directory_put_keeps_its_metadata_under_its_own_whiteout(
    &[put("etc", dir(0o770).mtime(1, 1)), remove("etc"), put("etc/n", file(""))],
    with(|t| drop(t.remove("etc").put("etc", dir(0o770).mtime(1, 1)).put("etc/n", file("")))))]
#[case::opaque_hides_lower_content_in_either_order(
    &[put("etc/a", file("")), opaque("etc"), put("etc/b", file(""))],
    with(|t| drop(t.clear("etc").put("etc/a", file("")).put("etc/b", file("")))))]
#[case::opaque_makes_implied_directories_fresh(
    &[put("etc/ssl/new", file("")), opaque("etc")],
    with(|t| drop(t.clear("etc").put("etc/ssl/new", file("")))))]
#[case::opaque_on_what_is_no_directory_does_nothing(&[opaque("f"), opaque("lib"), opaque("no")], lower())]
#[case::an_opaque_root_hides_everything(
    &[put("new", file("")), opaque("")],
    tree! { "" => dir(0o750).owner(1, 1).mtime(5, 5), "new" => file("") })]
#[case::a_directory_over_a_directory_keeps_the_children_and_takes_the_metadata(
    &[put("etc", dir(0o1777).owner(9, 9).mtime(-1, 1).xattr("user.new", "n"))],
    with(|t| *t.get_mut("etc").unwrap() = dir(0o1777).owner(9, 9).mtime(-1, 1).xattr("user.new", "n")))]
#[case::a_directory_may_follow_its_children(
    &[put("d/x", file("x")), put("d", dir(0o700).mtime(3, 3))],
    with(|t| drop(t.put("d", dir(0o700).mtime(3, 3)).put("d/x", file("x")))))]
#[case::a_file_over_a_directory_removes_its_tree(
    &[put("etc/new", file("")), put("etc", file("f"))],
    with(|t| drop(t.remove("etc").put("etc", file("f")))))]
#[case::a_directory_after_a_file_does_not_bring_the_lower_one_back(
    &[put("etc", file("f")), put("etc", dir(0o755))],
    with(|t| drop(t.remove("etc").put("etc", dir(0o755)))))]
#[case::a_directory_over_a_lower_symlink_replaces_it(
    &[put("lib", dir(0o755)), put("lib/x", file(""))],
    with(|t| drop(t.put("lib", dir(0o755)).put("lib/x", file("")))))]
#[case::the_last_of_three_wins(
    &[put("n", file("1")), put("n", symlink("2")), put("n", file("3").mode(0o600))],
    with(|t| drop(t.put("n", file("3").mode(0o600)))))]
#[case::an_entry_below_a_symlink_lands_where_it_points(
    &[put("lib/x", file("x")), put("abs/y", file("y"))],
    with(|t| drop(t.put("usr/lib/x", file("x")).put("usr/y", file("y")))))]
#[case::an_entry_below_a_symlink_of_the_stream(
    &[put("s", symlink("etc")), put("s/x", file("x")), put("s", file("now a file"))],
    with(|t| drop(t.put("s", file("now a file")).put("etc/x", file("x")))))]
#[case::a_dangling_parent_names_directories_that_are_made(
    &[put("dangling/pid", file("1"))], with(|t| drop(t.put("var/run/pid", file("1")))))]
#[case::a_symlink_is_removed_and_not_followed(
    &[remove("lib")], with(|t| drop(t.remove("lib"))))]
#[case::a_symlink_is_replaced_and_not_followed(
    &[put("lib", file("no link"))], with(|t| drop(t.put("lib", file("no link")))))]
#[case::the_root_takes_its_metadata(
    &[put("", dir(0o701).owner(8, 8).mtime(7, 7)), put("n", file(""))],
    with(|t| { *t.get_mut("").unwrap() = dir(0o701).owner(8, 8).mtime(7, 7); drop(t.put("n", file(""))) }))]
#[case::a_link_within_the_stream(
    &[put("a", file("1").mode(0o600)), put("etc/b", link("a"))],
    with(|t| drop(t.put("a", file("1").mode(0o600)).put("etc/b", link("a")))))]
#[case::a_link_to_a_lower_file_joins_its_whole_group(
    &[put("etc/h", link("g"))], with(|t| drop(t.put("etc/h", link("f")))))]
#[case::a_group_that_lost_a_name_before_the_link(
    &[remove("f"), put("etc/h", link("g"))], with(|t| drop(t.remove("f").put("etc/h", link("g")))))]
#[case::a_group_that_loses_a_name_after_the_link(
    &[put("etc/h", link("g")), remove("f"), put("g", file("new"))],
    with(|t| {
        let old = t.get("f").unwrap().clone();
        drop(t.remove("f").put("etc/h", old).put("g", file("new")))
    }))]
#[case::a_link_to_a_symlink_is_the_symlink(
    &[put("l2", link("lib"))], with(|t| drop(t.put("l2", link("lib")))))]
#[case::a_link_in_place_of_the_directory_that_holds_its_target(
    &[put("d/x", file("x")), put("d", link("d/x"))], with(|t| drop(t.put("d", file("x")))))]
#[case::a_link_through_a_symlink(
    &[put("usr/lib/t", file("t")), put("x", link("lib/t"))],
    with(|t| drop(t.put("usr/lib/t", file("t")).put("x", link("usr/lib/t")))))]
#[case::a_target_that_is_removed_later_leaves_the_link(
    &[put("k", link("etc/ssl/key")), remove("etc/ssl/key")],
    with(|t| { let key = t.get("etc/ssl/key").unwrap().clone(); drop(t.remove("etc/ssl/key").put("k", key)) }))]
#[case::a_whiteout_device_is_skipped(&[put("f", char_device(0, 0)), put("w", char_device(0, 0))], lower())]
#[case::a_child_of_a_directory_over_a_lower_symlink_is_its_own(
    &[put("lib/x", file("x")), put("lib", dir(0o755)), put("lib/y", file("y"))],
    with(|t| drop(t.put("usr/lib/x", file("x")).remove("lib").put("lib", dir(0o755)).put("lib/y", file("y")))))]
#[case::a_child_of_another_symlink_over_a_lower_one_lies_where_that_leads(
    &[put("lib/x", file("x")), put("lib", symlink("etc")), put("lib/y", file("y"))],
    with(|t| drop(t.put("usr/lib/x", file("x")).put("lib", symlink("etc")).put("etc/y", file("y")))))]
#[case::links_to_a_skipped_device_are_skipped(
    &[
        put("w", char_device(0, 0)), put("no/dir/v", link("w")), put("u", link("no/dir/v")),
        put("f", char_device(0, 0)), put("t", link("f")),
    ],
    lower())]
#[case::a_file_in_a_skipped_devices_place_is_linked(
    &[put("w", char_device(0, 0)), put("w", file("x")), put("v", link("w"))],
    with(|t| drop(t.put("w", file("x")).put("v", link("w")))))]
#[case::reserved_xattrs_have_no_effect(
    &[
        put("etc", dir(0o700).owner(2, 3).mtime(10, 11).xattr("user.etc", "x")
            .xattr("trusted.overlay.opaque", "y").xattr("user.overlay.opaque", "y")),
        put("moved", dir(0o755).xattr("trusted.overlay.redirect", "/etc")),
    ],
    with(|t| drop(t.put("moved", dir(0o755)))))]
#[case::inherited_acls_are_not_taken(
    &[
        put("d", dir(0o2775).owner(0, 7).xattr("system.posix_acl_default", acl(0o770, 5, 7))),
        put("d/f", file("x").mode(0o640)), put("d/s", dir(0o750)), put("d/p", fifo().mode(0o604)),
    ],
    with(|t| drop(t
        .put("d", dir(0o2775).owner(0, 7).xattr("system.posix_acl_default", acl(0o770, 5, 7)))
        .put("d/f", file("x").mode(0o640)).put("d/s", dir(0o750)).put("d/p", fifo().mode(0o604)))))]
fn a_changeset_gives_this_tree(#[case] changes: &[Change], #[case] expected: Tree) {
    both(&lower(), changes, &expected);
}

#[test]
fn a_directory_that_follows_its_children_gives_them_nothing() {
    let directory = || dir(0o2770).owner(0, 9).xattr("system.posix_acl_default", acl(0o770, 5, 7));
    let names: Vec<Path> = (0..300).map(|n| Path::new(format!("d{n}/f"))).collect();
    let mut changes = Vec::new();
    let mut expected = Tree::new();
    for name in &names {
        changes.extend([put(name.clone(), file("x")), put(name.parent().unwrap(), directory())]);
        expected.put(name.parent().unwrap(), directory()).put(name.clone(), file("x"));
    }
    both(&Tree::new(), &changes, &expected);
}

#[test]
fn every_kind_of_entry_is_put_with_every_attribute() {
    let expected = tree! {
        "" => dir(0o755).mtime(1, 2),
        "a" => file("data").mode(0o6755).owner(65_534, 12).mtime(-7, 999_999_999).xattr("user.x", "y"),
        "cap" => file("#!").mode(0o755).owner(3, 3).xattr("security.capability", capability(0x2000)),
        "acl" => file("a").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 1000, 6)),
        "sparse" => file(Data::hole(1 << 30).with(1 << 20, b"middle")),
        "small sparse" => file(Data::hole(200_000).with(100_000, b"middle")),
        "large" => file(noise(1, 3 << 20)),
        "d/e" => dir(0o1777).owner(5, 5).mtime(0, 1),
        "s" => symlink(b"to \xff").owner(6, 6).mtime(8, 8).xattr("trusted.t", "1"),
        "fifo" => fifo().mode(0o600).mtime(4, 4),
        "socket" => socket().mode(0o777),
        "null" => char_device(1, 3).mode(0o666),
        "disk" => block_device(4000, 1_000_000).mode(0o660).owner(0, 6),
        b"\xff\n\\".as_slice() => file(""),
        "n".repeat(255).as_str() => file("long name"),
    };
    let changes = layerstore_testkit::model::diff(&Tree::nothing(), &expected);
    both(&tree! { "old" => file("") }, &[vec![remove("old")], changes].concat(), &expected);
}

#[test]
fn a_file_with_a_capability_that_says_nothing_is_copied_compared_and_diffed() {
    let stage = Stage::new(&lower());
    let at = Dir::open(&stage.flat).unwrap();
    // The kernel takes it from root, and shows it to nobody afterwards.
    xattr::set(On::Entry(&at, b"f"), b"security.capability", b"").unwrap();
    assert!(xattr::list(On::Entry(&at, b"f")).unwrap().contains(&b"security.capability".to_vec()));
    let copy = stage.folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    trees::copy_tree(&at, &Dir::open(&copy).unwrap(), 1, &Context::new()).unwrap();
    assert_same(&lower(), &read_tree_at(&copy).unwrap());
    let other = Stage::new(&lower());
    assert!(trees::compare(&stage.flat_view(), &other.flat_view(), 5, &Context::new()).unwrap().is_empty());
}

#[test]
fn a_second_apply_takes_the_first_for_lower() {
    let mut stage = Stage::new(&lower());
    let first = [put("etc/new", file("1")), put("d/x", file("x")), remove("f")];
    let second = [remove("etc/new"), remove("d"), put("f", file("back")), opaque("usr")];
    stage.apply_overlay(&first, 2).unwrap();
    stage.apply_again(&second).unwrap();
    stage.apply_flat(&first, 2).unwrap();
    stage.apply_flat(&second, 2).unwrap();
    let expected = with(|t| drop(t.put("f", file("back")).clear("usr")));
    assert_same(&expected, &stage.merged());
    assert_same(&expected, &read_tree_at(&stage.flat).unwrap());
}

#[test]
fn a_link_to_a_metadata_only_copy_brings_its_data() {
    use std::os::unix::fs::PermissionsExt as _;
    let big = || file(noise(5, 100_000)).mode(0o755).mtime(3, 3).xattr("security.capability", capability(1));
    let mut stage = Stage::new(&tree! { "" => dir(0o755).mtime(1, 1), "d/big" => big() });
    let top = stage.add_layer();
    stage.mounted(|path| {
        std::fs::rename(path.join("d"), path.join("e")).unwrap();
        std::fs::set_permissions(path.join("e/big"), std::fs::Permissions::from_mode(0o711)).unwrap();
    });
    let upper = Dir::open(top.join("e")).unwrap();
    let marks = xattr::list(On::Entry(&upper, b"big")).unwrap();
    assert!(marks.contains(&b"trusted.overlay.metacopy".to_vec()), "the kernel copied metadata only");
    let mut expected = stage.merged();
    expected.put("linked", link("e/big"));
    stage.apply_again(&[put("linked", link("e/big"))]).unwrap();
    assert_same(&expected, &stage.merged());
    assert_same(&expected, &read_view(&stage.view()));
}

#[test]
fn a_base_layer_stores_no_whiteouts_and_no_marks() {
    let folder = layerstore_testkit::scratch::scratch_dir().unwrap();
    let root = Dir::open(folder.path()).unwrap();
    let target = LayerTree { root: root.clone(), encoding: Encoding::Overlay(Namespace::Trusted) };
    let changes =
        [remove("a"), put("d/x", file("x")), opaque("d"), remove("d"), opaque(""), put("d", dir(0o700))];
    apply(&target, &View::default(), &changes, 1).unwrap();
    assert!(xattr::list(On::Entry(&root, b"d")).unwrap().is_empty());
    let found = read_tree_at(folder.path()).unwrap();
    let names: Vec<String> = found.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(names, [".", "d", "d/x"]);
}

#[test]
fn an_overlay_layer_holds_the_marks_that_the_kernel_knows_and_no_others() {
    let mut stage = Stage::new(&lower());
    let changes = [
        remove("f"),
        remove("etc"),
        put("etc/new", file("")),
        put("usr", dir(0o755)),
        opaque("usr/lib"),
        put("fresh/x", file("")),
        remove("nothing"),
    ];
    stage.apply_overlay(&changes, 1).unwrap();
    let top = read_tree_at(&stage.layers[1]).unwrap();
    let marked: Vec<String> = top
        .iter()
        .filter(|(_, inode)| inode.meta.xattrs.contains_key(b"trusted.overlay.opaque".as_slice()))
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(marked, ["etc", "usr/lib"]);
    let names: Vec<String> = top.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(names, [".", "etc", "etc/new", "f", "fresh", "fresh/x", "usr", "usr/lib"]);
    assert_eq!(top.get("f").unwrap().kind, layerstore_testkit::Kind::Char(0, 0));
}

#[test]
fn what_was_written_is_reported() {
    let mut stage = Stage::new(&lower());
    let changes = [
        put("lib/x", file("12345")),
        put("usr/lib/x", file("123")),
        put("w", char_device(0, 0)),
        put("n", file("n").xattr("user.overlay.opaque", "y")),
        put("m", file("m").xattr("security.selinux", "label")),
        remove("f"),
    ];
    let applied = stage.apply_overlay(&changes, 2).unwrap();
    assert_eq!((applied.entries, applied.bytes, applied.replaced), (5, 10, 1));
    let path = |text: &str| RelPath::new(text).unwrap();
    assert_eq!(applied.relocated, [(path("lib/x"), path("usr/lib/x"))]);
    assert_eq!(applied.warnings.len(), 2, "{:?}", applied.warnings);
    assert!(applied.warnings[0].contains("0/0") && applied.warnings[1].contains("user.overlay.opaque"));
    assert_eq!(stage.apply_flat(&changes, 1).unwrap(), applied);
}

#[test]
fn a_cancelled_apply_copy_and_diff_stop() {
    let stage = Stage::new(&lower());
    let context = Context::new();
    context.cancel();
    let target = LayerTree { root: Dir::open(&stage.flat).unwrap(), encoding: Encoding::Flat };
    let mut source = Source::new(&[put("a", file("x"))]);
    let result = trees::apply(&target, &View::default(), &mut source, &ApplyOptions::default(), &context);
    assert_eq!(result.unwrap_err().to_string(), "cancelled");
    let mut sink = Collect::default();
    assert_eq!(
        trees::diff(&View::default(), &stage.view(), &mut sink, &context).unwrap_err().to_string(),
        "cancelled"
    );
    let (from, to) = (Dir::open(&stage.flat).unwrap(), Dir::open(stage.folder.path()).unwrap());
    assert_eq!(trees::copy_tree(&from, &to, 1, &context).unwrap_err().to_string(), "cancelled");
}

#[test]
fn deep_paths_and_many_files_are_put_with_few_descriptors() {
    let mut changes: Vec<Change> = Vec::new();
    let deep = vec!["d"; 1000].join("/");
    changes.push(put(deep.as_str(), file("deep")));
    for number in 0..3000 {
        changes.push(put(Path::new(format!("d{}/e{}/f{number}", number % 700, number % 3)), file("x")));
    }
    let mut stage = Stage::new(&tree! { "d" => dir(0o700).mtime(3, 4) });
    stage.apply_overlay(&changes, 2).unwrap();
    stage.apply_flat(&changes, 2).unwrap();
    let mut dir = Dir::open(&stage.flat).unwrap();
    assert_eq!(dir.stat(b"d").unwrap().mtime.seconds, 3);
    for _ in 0..999 {
        dir = dir.open_dir(b"d").unwrap();
    }
    assert_eq!(dir.stat(b"d").unwrap().size, 4);
    // The tree of 1,000 levels is too deep for this test's recursive cleaning.
    let root = Dir::open(stage.folder.path()).unwrap();
    drop(dir);
    assert!(trees::compare(&stage.flat_view(), &stage.view(), 5, &Context::new()).unwrap().is_empty());
    layerstore_sys::remove::tree(&root, b"flat").unwrap();
    layerstore_sys::remove::tree(&root, b"layer1").unwrap();
}

#[test]
fn nothing_outside_the_target_changes_while_somebody_swaps_its_directories() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let folder = layerstore_testkit::scratch::scratch_dir().unwrap();
    let path = folder.path();
    for name in ["target", "target/d", "victim"] {
        std::fs::create_dir(path.join(name)).unwrap();
    }
    std::fs::write(path.join("victim/hello"), "untouched").unwrap();
    std::os::unix::fs::symlink("../victim", path.join("target/swap")).unwrap();
    let before = read_tree_at(path.join("victim")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = Dir::open(path.join("target")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = target.exchange(b"d", &target, b"swap");
            }
        });
        let target = LayerTree { root: Dir::open(path.join("target")).unwrap(), encoding: Encoding::Flat };
        let changes: Vec<Change> = (0..200)
            .flat_map(|n| {
                [
                    put("d", dir(0o777).mtime(1, 1)),
                    put(Path::new(format!("d/f{n}")), file("evil").mode(0o4777)),
                    put(Path::new(format!("d/s{n}/x")), fifo()),
                    put("d/hello", file("evil")),
                    remove("d/hello"),
                    opaque("d"),
                ]
            })
            .collect();
        for threads in [1, 2, 1, 2, 1, 2] {
            // It may fail; it may not touch the victim.
            let _ = apply(&target, &View::default(), &changes, threads);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_same(&before, &read_tree_at(path.join("victim")).unwrap());
}

#[test]
fn a_copy_has_everything_and_is_measured() {
    let mut tree = lower();
    tree.put("sparse", file(Data::hole(1 << 28).with(1 << 20, b"middle")))
        .put("large", file(noise(3, 2 << 20)))
        .put("fifo", fifo().mode(0o600).mtime(2, 2))
        .put("socket", socket())
        .put("null", char_device(1, 3).mode(0o666).mtime(3, 3))
        .put("cap", file("x").mode(0o755).xattr("security.capability", capability(1)))
        .put("acl", dir(0o750).xattr("system.posix_acl_default", acl(0o770, 5, 7)))
        .put("acl/f", file("x").mode(0o604).mtime(4, 4))
        .put("etc/h", link("large"));
    let stage = Stage::new(&tree);
    for threads in [1, 3] {
        let path = stage.folder.path().join(format!("copy{threads}"));
        std::fs::create_dir(&path).unwrap();
        let (from, to) = (Dir::open(&stage.flat).unwrap(), Dir::open(&path).unwrap());
        let usage = trees::copy_tree(&from, &to, threads, &Context::new()).unwrap();
        assert_same(&tree, &read_tree_at(&path).unwrap());
        assert!(layerstore_testkit::disk::allocated(&to, "sparse").unwrap() < 1 << 20);
        let layer = |root| LayerTree { root, encoding: Encoding::Flat };
        assert_eq!(trees::measure(&layer(from), 1, &Context::new()).unwrap(), usage);
        assert_eq!(trees::measure(&layer(to), 0, &Context::new()).unwrap(), usage);
        assert!(usage.bytes > 2 << 20 && usage.bytes < 4 << 20 && usage.inodes == 21, "{usage:?}");
    }
}

#[test]
fn a_comparison_names_what_differs() {
    let one = Stage::new(&lower());
    let other = Stage::new(&with(|t| {
        t.remove("etc/passwd").put("f", file("new").mode(0o4711).owner(4, 4).mtime(18, 19)).put("n", fifo());
        t.get_mut("etc").unwrap().meta.mode = 0o711;
    }));
    let lines = trees::compare(&one.flat_view(), &other.flat_view(), 10, &Context::new()).unwrap();
    let starts = [
        "etc: mode",
        "etc/passwd: only in the first",
        "f: content",
        "g: is a hard link",
        "n: only in the second",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line} instead of {start}");
    }
    assert_eq!(trees::compare(&one.flat_view(), &other.flat_view(), 2, &Context::new()).unwrap().len(), 2);
    assert!(trees::compare(&one.flat_view(), &one.view(), 2, &Context::new()).unwrap().is_empty());
}

#[test]
fn a_file_that_changes_its_size_while_it_is_read_is_cut_or_padded() {
    use layerstore_changeset::{Chunk, FileData as _};
    let folder = layerstore_testkit::scratch::scratch_dir().unwrap();
    std::fs::write(folder.path().join("f"), "0123456789").unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    for (size, expected) in [(4_u64, "0123"), (12, "0123456789\0\0")] {
        let mut data = trees::TreeFile::new(dir.open_file(b"f").unwrap(), size);
        let mut read = Vec::new();
        while let Some(chunk) = data.next_chunk().unwrap() {
            match chunk {
                Chunk::Data(bytes) => read.extend_from_slice(bytes),
                Chunk::Hole(length) => read.resize(read.len() + length as usize, 0),
            }
        }
        assert_eq!(read, expected.as_bytes());
    }
}

#[test]
fn a_difference_by_layers_reads_only_what_changed() {
    let mut stage = Stage::new(&lower());
    stage.apply_overlay(&[put("etc/new", file("n")), remove("usr/lib")], 1).unwrap();
    // Without the right to look into the lower's other directories the walk would fail.
    let mut seen = Vec::new();
    let mut note = |change: trees::PathChange| {
        seen.push(format!("{:?} {}", change.kind, change.path));
        Ok(())
    };
    trees::changes(&stage.view_of(1), &stage.view(), &mut note, &Context::new()).unwrap();
    assert_eq!(seen, ["Added etc/new", "Deleted usr/lib"]);
}

#[rstest]
#[case::a_name_copied_up_as_it_was(&["d/a"], None)]
#[case::a_later_name_copied_up_as_it_was(&["e/l"], None)]
#[case::every_name_copied_up(&["d/a", "d/z", "e/l"], None)]
#[case::a_directory_moved_away_from_another_name(&[], Some(("d", "x")))]
#[case::a_directory_moved_before_another_name(&[], Some(("e", "b")))]
fn names_of_one_inode_are_told_together_though_new_ones_came_before(
    #[case] copied_up: &[&str],
    #[case] moved: Option<(&str, &str)>,
) {
    let mut stage = Stage::new(&tree! {
        "d" => dir(0o755),
        "d/a" => file("x"),
        "d/z" => link("d/a"),
        "e" => dir(0o755),
        "e/l" => link("d/a"),
        "f" => file("other"),
        "g" => link("f"),
    });
    stage.add_layer();
    stage.mounted(|path| {
        std::fs::write(path.join("0"), "new").unwrap();
        std::fs::hard_link(path.join("0"), path.join("1")).unwrap();
        for name in copied_up {
            let permissions = std::fs::metadata(path.join(name)).unwrap().permissions();
            std::fs::set_permissions(path.join(name), permissions).unwrap();
        }
        if let Some((from, to)) = moved {
            std::fs::rename(path.join(from), path.join(to)).unwrap();
        }
    });
    let before = read_view(&stage.view_of(1));
    let expected = layerstore_testkit::model::diff(&before, &stage.merged());
    assert_changes(&expected, &diff(&stage.view_of(1), &stage.view()));
}
