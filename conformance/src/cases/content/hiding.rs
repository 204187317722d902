//! Clauses A4 to A8: what whiteouts and opaque marks hide, and who wins when a name comes twice.

use layerstore_testkit::build::*;
use layerstore_testkit::tree;

use super::super::prelude::*;
use super::kit::{self, applied, applied_in_both_orders};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "A4",
        name: "a_whiteout_hides_a_name_of_any_kind",
        title: "a removed file, directory, symlink or fifo of the lower is gone, and its siblings are not",
        needs: &[],
        run: removed,
    },
    Case {
        clause: "A4",
        name: "a_whiteout_hides_lower_layers_only",
        title: "what the changeset puts at or below a removed name stays, in either order",
        needs: &[],
        run: kept,
    },
    Case {
        clause: "A4",
        name: "a_whiteout_hides_through_every_lower_layer",
        title: "a name that three layers have is gone, and can come back in the next",
        needs: &[],
        run: deep,
    },
    Case {
        clause: "A5",
        name: "a_whiteout_of_nothing_changes_nothing",
        title: "removing names that the lower does not have changes neither view nor diff",
        needs: &[],
        run: of_nothing,
    },
    Case {
        clause: "A6",
        name: "an_opaque_mark_hides_what_the_lower_has",
        title: "what the lower has in the directory, or where a symlink leads, is gone, what the changeset puts there stays, in either order",
        needs: &[],
        run: opaque_either_way,
    },
    Case {
        clause: "A6",
        name: "an_opaque_mark_hides_through_every_lower_layer",
        title: "an opaque mark in the third layer hides the first two, and the fourth adds to it",
        needs: &[],
        run: opaque_deep,
    },
    Case {
        clause: "A7",
        name: "a_removed_directory_that_comes_back_is_new",
        title: "below a removed directory a new one arises, 0755 0:0, without lower content, in either order",
        needs: &[],
        run: comes_back,
    },
    Case {
        clause: "A7",
        name: "a_removed_directory_that_is_put_is_as_it_was_put",
        title: "a directory that is removed and put takes what the entry says and shows nothing of the lower",
        needs: &[],
        run: put_again,
    },
    Case {
        clause: "A8",
        name: "the_last_entry_of_a_name_wins",
        title: "of entries with one name the last is there, completely: kind, data, owner, mode and xattrs",
        needs: &[],
        run: last_wins,
    },
    Case {
        clause: "A8",
        name: "a_replaced_file_shares_nothing",
        title: "a file over a name of a hard-link group leaves the other names as they were",
        needs: &[],
        run: shares_nothing,
    },
    Case {
        clause: "A8",
        name: "another_kind_replaces_the_tree",
        title: "a file over a directory removes its tree, a directory over a file replaces it",
        needs: &[],
        run: another_kind,
    },
];

fn removed(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a4-dir" => dir(0o755).mtime(4, 4), "a4-dir/file" => file("x"), "a4-dir/sub/deep" => file("y"), "a4-dir/stay" => file("stay"),
        "a4-symlink" => symlink("a4-dir"), "a4-dangling" => symlink("nowhere"), "a4-fifo" => fifo(),
        "a4-one" => file("group"), "a4-two" => link("a4-one"), "a4-tree/a/b" => file("z"),
    };
    applied(
        bench,
        &lower,
        &[
            &[remove("a4-dir/file"), remove("a4-dir/sub"), remove("a4-fifo")],
            &[remove("a4-symlink"), remove("a4-dangling"), remove("a4-one"), remove("a4-tree")],
            &[remove("a4-dir"), remove("a4-dir/file")],
        ],
    )
}

fn kept(bench: &Bench) -> Outcome {
    let lower = tree! { "a4-file" => file("old"), "a4-dir/old" => file("old"), "a4-kind" => dir(0o755), "a4-kind/old" => file("") };
    let changes = [
        remove("a4-file"),
        put("a4-file", file("new")),
        remove("a4-dir"),
        put("a4-dir", dir(0o711).mtime(9, 9)),
        put("a4-dir/new", file("new")),
        remove("a4-kind"),
        put("a4-kind", symlink("a4-dir")),
        put("a4-only", file("never lower")),
        remove("a4-only"),
    ];
    applied_in_both_orders(bench, &lower, &changes)
}

fn deep(bench: &Bench) -> Outcome {
    let driver = &**bench.driver();
    let name = "a4-dir/sub/name";
    let first = kit::sealed(driver, "first", None, &[put("", kit::root()), put(name, file("1"))])?;
    let second =
        kit::sealed(driver, "second", Some(&first), &[put(name, file("2")), put("a4-dir/two", file("2"))])?;
    let third = kit::sealed(driver, "third", Some(&second), &[put(name, file("3"))])?;
    let fourth = kit::sealed(driver, "fourth", Some(&third), &[remove("a4-dir/sub"), remove("a4-dir/two")])?;
    let expected = tree! { "" => kit::root(), "a4-dir" => dir(0o755) };
    kit::ensure_same(&expected, &kit::show(bench, &fourth)?, "the layer with the whiteout")?;
    let fifth = kit::sealed(driver, "fifth", Some(&fourth), &[put("a4-dir/sub/other", file("5"))])?;
    let expected = tree! { "" => kit::root(), "a4-dir/sub/other" => file("5") };
    kit::ensure_same(&expected, &kit::show(bench, &fifth)?, "the layer above the whiteout")
}

fn of_nothing(bench: &Bench) -> Outcome {
    let lower = tree! { "a5-file" => file("x"), "a5-dir" => dir(0o755).mtime(5, 5) };
    let (base, lower) = kit::base(bench, &lower)?;
    let changes = [
        remove("a5-nothing"),
        remove("a5-nothing/below"),
        remove("a5-dir/nothing"),
        remove("a5-file/below"),
        opaque("a5-dir"),
        remove("a5-missing/deep/below"),
    ];
    let child = kit::sealed(&**bench.driver(), "child", Some(&base), &changes)?;
    kit::ensure_same(&lower, &kit::show(bench, &child)?, "the layer that removes nothing")?;
    kit::ensure_changes(
        &[],
        &kit::diff(bench, &child, Base::Parent)?,
        "the diff of the layer that removes nothing",
    )?;
    let above = kit::sealed(&**bench.driver(), "above", Some(&child), &[put("a5-nothing", file("y"))])?;
    let expected = [put("a5-nothing", file("y"))];
    kit::ensure_changes(&expected, &kit::diff(bench, &above, Base::Layer(&base))?, "the diff across it")
}

fn opaque_either_way(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a6-dir" => dir(0o711).owner(6, 6).mtime(6, 6), "a6-dir/old" => file("old"), "a6-dir/sub/deep" => file("old"),
        "a6-dir/both" => file("old"), "a6-inner/keep" => file("keep"), "a6-inner/sub/old" => file("old"),
        "a6-put/old" => file("old"), "a6-way" => symlink("/a6-real/sub"), "a6-real/sub/old" => file("old"),
        "a6-real/keep" => file("keep"), "a6-file" => file("f"), "a6-dangling" => symlink("a6-nothing"),
    };
    let changes = [
        opaque("a6-dir"),
        put("a6-dir/new", file("new")),
        put("a6-dir/both", file("new")),
        opaque("a6-inner/sub"),
        opaque("a6-put"),
        put("a6-put", dir(0o700).mtime(7, 7)),
        opaque("a6-way"),
        put("a6-way/new", file("new")),
        opaque("a6-file"),
        opaque("a6-dangling"),
    ];
    applied_in_both_orders(bench, &lower, &changes)?;
    let other = bench.another("root")?;
    let base = kit::sealed(&*other, "base", None, &kit::whole(&lower))?;
    let child = kit::layer(
        &*other,
        "child",
        Some(&base),
        &[put("a6-new", file("")), opaque(""), put("", kit::root())],
    )?;
    let expected = tree! { "" => kit::root(), "a6-new" => file("") };
    kit::ensure_same(&expected, &kit::show_of(bench, &*other, &child)?, "the layer with an opaque root")
}

fn opaque_deep(bench: &Bench) -> Outcome {
    let driver = &**bench.driver();
    let one = [put("", kit::root()), put("a6-dir/one", file("1")), put("a6-dir/same", file("1"))];
    let first = kit::sealed(driver, "first", None, &one)?;
    let two = [put("a6-dir/two", file("2")), put("a6-dir/sub/two", file("2"))];
    let second = kit::sealed(driver, "second", Some(&first), &two)?;
    let three = [put("a6-dir/same", file("3")), opaque("a6-dir")];
    let third = kit::sealed(driver, "third", Some(&second), &three)?;
    let fourth = kit::sealed(driver, "fourth", Some(&third), &[put("a6-dir/sub/four", file("4"))])?;
    let expected = tree! { "" => kit::root(), "a6-dir/same" => file("3"), "a6-dir/sub/four" => file("4") };
    kit::ensure_same(&expected, &kit::show(bench, &fourth)?, "the layer above the opaque mark")
}

fn comes_back(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a7-etc" => dir(0o700).owner(7, 7).mtime(7, 7).xattr("trusted.a7", "x"),
        "a7-etc/old" => file("old"), "a7-etc/sub" => dir(0o700), "a7-etc/sub/old" => file("old"),
    };
    let lower = if bench.has(Feature::TrustedXattrs) && bench.driver().capabilities().privileged_xattrs {
        lower
    } else {
        tree! { "a7-etc" => dir(0o700).mtime(7, 7), "a7-etc/old" => file("old"), "a7-etc/sub/old" => file("old") }
    };
    applied_in_both_orders(
        bench,
        &lower,
        &[remove("a7-etc"), put("a7-etc/new", file("new")), put("a7-etc/sub/new", file("n"))],
    )
}

fn put_again(bench: &Bench) -> Outcome {
    let lower = tree! { "a7-dir" => dir(0o700).mtime(7, 7), "a7-dir/old" => file("old"), "a7-dir/sub/old" => file("old") };
    let changes =
        [remove("a7-dir"), put("a7-dir", dir(0o750).mtime(8, 8)), put("a7-dir/sub", dir(0o705).mtime(9, 9))];
    applied_in_both_orders(bench, &lower, &changes)
}

fn last_wins(bench: &Bench) -> Outcome {
    let lower = tree! { "a8-low" => file("lower").mode(0o600) };
    let early = file("early and long").mode(0o4755).mtime(1, 1);
    let late = file("late").mode(0o640).mtime(2, 2);
    let changes = [
        put("a8-new", early.clone()),
        put("a8-low", early.clone()),
        put("a8-kind", symlink("x")),
        put("a8-new", late.clone()),
        put("a8-low", fifo()),
        put("a8-low", late.clone()),
        put("a8-kind", late),
        put("a8-dir", dir(0o700)),
        put("a8-dir/x", early),
        put("a8-dir", dir(0o711).mtime(3, 3)),
    ];
    applied_in_both_orders(bench, &lower, &changes)
}

fn shares_nothing(bench: &Bench) -> Outcome {
    let lower = tree! { "a8-one" => file("group"), "a8-two" => link("a8-one"), "a8-three" => link("a8-one") };
    applied(
        bench,
        &lower,
        &[
            &[put("a8-two", file("alone").mode(0o600))],
            &[
                put("a8-x", file("first")),
                put("a8-y", link("a8-x")),
                put("a8-x", file("second").mode(0o600)),
                put("a8-one", file("other")),
            ],
        ],
    )
}

fn another_kind(bench: &Bench) -> Outcome {
    let lower = tree! { "a8-dir/sub/x" => file("x"), "a8-file" => file("f"), "a8-link" => symlink("a8-dir"), "a8-dir2/x" => file("") };
    applied(
        bench,
        &lower,
        &[
            &[put("a8-dir", file("now a file")), put("a8-file", dir(0o700)), put("a8-file/x", file("x"))],
            &[
                put("a8-link", dir(0o700)),
                put("a8-link/x", file("not in a8-dir")),
                put("a8-dir", symlink("a8-dir2")),
            ],
            // The tree that the file removed does not come back with the directory.
            &[put("a8-dir", file("for a while")), put("a8-dir", dir(0o711)), put("a8-dir/new", file("new"))],
            &[put("a8-new/x", file("")), put("a8-new", file("")), put("a8-new", dir(0o755))],
        ],
    )
}
