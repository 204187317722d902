//! Each refusal of applying, in both encodings: its code, and how it is told.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod support;

use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::tree::{self as trees, ApplyOptions, LayerTree, View};
use layerstore_changeset::{Context, Limits};
use layerstore_sys::Dir;
use layerstore_testkit::build::*;
use layerstore_testkit::model::Change;
use layerstore_testkit::{Tree, noise};
use rstest::rstest;
use support::*;

#[rstest]
#[case("SYMLINK_ESCAPE", put("up/x", file("")))]
#[case("SYMLINK_ESCAPE", remove("up/etc"))]
#[case("ELOOP", put("loop/x", file("")))]
#[case("NOT_DIR", put("f/x", file("")))]
#[case("LINK_TARGET_MISSING", put("x", link("nothing")))]
#[case("LINK_TARGET_MISSING", put("x", link("f/nothing")))]
#[case("LINK_TO_DIR", put("x", link("etc")))]
#[case("LINK_TO_DIR", put("x", link("")))]
#[case("LINK_SELF", put("f", link("f")))]
#[case("LINK_SELF", put("lib/x", link("usr/lib/x")))]
#[case("LINK_ESCAPE", put("x", link("up/etc")))]
#[case("ROOT_TYPE_CHANGE", put("", symlink("/")))]
#[case("ROOT_TYPE_CHANGE", put("", link("f")))]
#[case("EMPTY_LINK", put("x", symlink("")))]
#[case("LINK_TOO_LONG", put("x", symlink("x".repeat(5000))))]
#[case("BAD_NUMERIC", put("x", char_device(4096, 1)))]
#[case("BAD_ID", put("x", file("").owner(u32::MAX, 0)))]
#[case("BAD_ID", put("x", file("").owner(0, u32::MAX)))]
#[case("BAD_XATTR", put("x", file("").xattr("security.capability", "")))]
#[case("BAD_XATTR", put("x", dir(0o755).xattr("security.capability", "")))]
#[case("BAD_XATTR", put("x", file("").xattr("security.capability", "\u{1}")))]
#[case("BAD_WHITEOUT", remove(""))]
fn this_change_is_refused(#[case] expected: &str, #[case] change: Change) {
    let changes = [put("first", file("x")), change];
    let mut stage = Stage::new(&lower());
    assert_eq!(code(&stage.apply_flat(&changes, 2).unwrap_err()), expected);
    assert_eq!(code(&stage.apply_overlay(&changes, 2).unwrap_err()), expected);
}

#[rstest]
// What is on the way to the last parent is covered, and nothing of the target is removed for it.
#[case::link("lib/first", "lib/x")]
#[case::link_through_another("k/first", "k/x")]
fn an_entry_below_what_covers_a_symlink_of_the_lower_is_refused(#[case] target: &str, #[case] last: &str) {
    let first = [put("k", symlink("lib")), put("lib/first", file("x"))];
    let changes = [first.to_vec(), vec![put("lib", link(target)), put(last, file("x"))]].concat();
    let mut stage = Stage::new(&lower());
    assert_eq!(code(&stage.apply_flat(&changes, 2).unwrap_err()), "NOT_DIR");
    assert_eq!(code(&stage.apply_overlay(&changes, 2).unwrap_err()), "NOT_DIR");
}

#[rstest]
#[case::small(file("x"))]
#[case::large(file(noise(9, 1 << 20)))]
#[case::dir(dir(0o755))]
#[case::fifo(fifo())]
fn what_the_system_refuses_is_told_by_the_entrys_name(#[case] node: layerstore_testkit::tree::Inode) {
    let mut stage = Stage::new(&lower());
    // The stream goes on while a thread writes a small file, and another that is refused comes.
    let bad = put("lib/\nx", node.xattr("security.capability", "\u{1}"));
    let more = (0..50).map(|n| put(&format!("more{n}"), file("x").owner(n, n + 100_000)));
    let other = put("other", file("x").xattr("security.capability", "\u{1}"));
    let changes: Vec<_> = [put("first", file("x")), bad].into_iter().chain(more).chain([other]).collect();
    for error in [stage.apply_flat(&changes, 2).unwrap_err(), stage.apply_overlay(&changes, 2).unwrap_err()] {
        let said = error.to_string();
        assert!(said.starts_with("BAD_XATTR: lib/\\nx: the kernel takes"), "{said}");
        assert!(said.contains("at byte 200 "), "{said}");
    }
}

#[test]
fn a_link_to_a_removed_name_is_refused_but_one_made_before_stays() {
    let stage = Stage::new(&lower());
    let changes = [remove("f"), put("x", link("f"))];
    assert_eq!(code(&stage.apply_flat(&changes, 1).unwrap_err()), "LINK_TARGET_MISSING");
}

#[rstest]
#[case(Limits { entries: 2, ..Limits::default() })]
#[case(Limits { bytes: 5, ..Limits::default() })]
fn a_limit_is_a_refusal(#[case] limits: Limits) {
    let stage = Stage::new(&Tree::new());
    let target = LayerTree { root: Dir::open(&stage.flat).unwrap(), encoding: Encoding::Flat };
    let changes = [put("a", file("123")), put("b", file("123")), put("c", file(""))];
    let options = ApplyOptions { limits, threads: 1 };
    let result =
        trees::apply(&target, &View::default(), &mut Source::new(&changes), &options, &Context::new());
    assert_eq!(code(&result.unwrap_err()), "LIMIT_EXCEEDED");
}
