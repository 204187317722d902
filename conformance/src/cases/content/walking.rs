//! Clauses A9 to A13: directories on the way to an entry.

use layerstore_changeset::Code;
use layerstore_testkit::build::*;
use layerstore_testkit::{Tree, tree};

use super::super::prelude::*;
use super::kit::{self, applied, applied_in_both_orders};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "A9",
        name: "a_directory_over_a_directory_keeps_the_children",
        title: "the children stay, mode, time and xattrs are the entry's, those it does not name are gone",
        needs: &[Has(Feature::UserXattrs)],
        run: keeps_children,
    },
    Case {
        clause: "A9",
        name: "a_directory_may_follow_its_children",
        title: "mode and time of a directory are its entry's, before and after its children's entries",
        needs: &[],
        run: follows_children,
    },
    Case {
        clause: "A10",
        name: "a_directory_on_the_way_keeps_everything",
        title: "a lower directory keeps owner, mode, xattrs and its time to the nanosecond when something is put, linked or removed in it",
        needs: &[Has(Feature::UserXattrs), Has(Feature::Owners)],
        run: on_the_way,
    },
    Case {
        clause: "A11",
        name: "a_missing_parent_is_made",
        title: "a parent that neither lower nor changeset has is 0755 0:0 with time 0",
        needs: &[],
        run: missing_parents,
    },
    Case {
        clause: "A12",
        name: "a_symlink_on_the_way_is_followed_inside_the_root",
        title: "entries, links and whiteouts below a symlink land where it points, and the link stays",
        needs: &[],
        run: through_symlinks,
    },
    Case {
        clause: "A12",
        name: "the_last_component_is_never_followed",
        title: "an entry, link or whiteout at a symlink is about the symlink itself",
        needs: &[],
        run: last_component,
    },
    Case {
        clause: "A12",
        name: "what_a_symlink_names_is_looked_up_in_the_view_so_far",
        title: "a symlink of this changeset counts once it is put, and one that was replaced no more",
        needs: &[],
        run: view_so_far,
    },
    Case {
        clause: "A13",
        name: "a_symlink_that_climbs_out_is_refused",
        title: "a parent that leads out of the root is refused with SYMLINK_ESCAPE, lower or new",
        needs: &[],
        run: climbs_out,
    },
    Case {
        clause: "A13",
        name: "a_loop_of_symlinks_is_refused",
        title: "a parent that never ends is refused with ELOOP",
        needs: &[],
        run: loops,
    },
    Case {
        clause: "A13",
        name: "a_parent_that_is_no_directory_is_refused",
        title: "an entry below a file, fifo or hard link to one is refused with NOT_DIR",
        needs: &[],
        run: not_a_directory,
    },
];

fn keeps_children(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a9-dir" => dir(0o700).mtime(9, 9).xattr("user.old", "gone").xattr("user.both", "old"),
        "a9-dir/child" => file("x"), "a9-dir/sub/deep" => file("y"),
    };
    let changes = [
        put("a9-dir", dir(0o1755).mtime(-10, 1).xattr("user.both", "new").xattr("user.new", "x")),
        put("a9-dir/more", file("z")),
    ];
    applied_in_both_orders(bench, &lower, &changes)
}

fn follows_children(bench: &Bench) -> Outcome {
    let changes = [
        put("a9-new", dir(0o750).mtime(11, 12)),
        put("a9-new/sub", dir(0o500).mtime(13, 14)),
        put("a9-new/sub/file", file("x")),
        put("a9-low", dir(0o751).mtime(15, 16)),
        put("a9-low/new", file("y")),
        remove("a9-low/old"),
    ];
    applied_in_both_orders(
        bench,
        &tree! { "a9-low/old" => file("old"), "a9-low/kept" => file("kept") },
        &changes,
    )
}

fn on_the_way(bench: &Bench) -> Outcome {
    let attributes =
        |seconds| dir(0o2750).owner(10, 11).mtime(seconds, 987_654_321).xattr("user.a10", "kept");
    let lower = tree! {
        "a10-dir" => attributes(10), "a10-dir/sub" => attributes(-11), "a10-dir/sub/old" => file("old"),
        "a10-dir/gone" => attributes(5), "a10-dir/gone/x" => file(""), "a10-target" => attributes(12),
        "a10-target/file" => file("x"), "a10-way" => symlink("a10-target"),
    };
    applied(
        bench,
        &lower,
        &[
            &[put("a10-dir/sub/new", file("new")), put("a10-way/through", file("new"))],
            &[remove("a10-dir/sub/old"), remove("a10-dir/gone"), opaque("a10-dir/sub")],
            &[put("a10-dir/link", link("a10-target/file")), put("a10-dir/sub/more/deep", file(""))],
            &[put("a10-dir/sub/old", dir(0o700)), put("a10-dir/sub/old/x", file(""))],
        ],
    )
}

fn missing_parents(bench: &Bench) -> Outcome {
    let lower = tree! { "a11-low" => dir(0o700) };
    applied(
        bench,
        &lower,
        &[
            &[put("a11-a/b/c/d", file("x")), put("a11-low/e/f", fifo())],
            &[put("a11-x/y", dir(0o700)), put("a11-x/z", symlink("y"))],
        ],
    )?;
    let other = bench.another("base")?;
    let base = kit::layer(&*other, "base", None, &[put("a11-m/n", file("x")), put("", kit::root())])?;
    let expected = tree! { "" => kit::root(), "a11-m/n" => file("x") };
    kit::ensure_same(&expected, &kit::show_of(bench, &*other, &base)?, "a base layer without parents")
}

fn merged_usr() -> Tree {
    tree! {
        "a12-usr/lib" => dir(0o711).mtime(12, 12), "a12-usr/lib/old" => file("old"),
        "a12-lib" => symlink("a12-usr/lib"), "a12-abs" => symlink("/a12-usr"), "a12-two" => symlink("a12-abs/lib"),
        "a12-usr/up" => symlink("../a12-lib"), "a12-file" => file("x"), "a12-to-file" => symlink("a12-file"),
    }
}

fn through_symlinks(bench: &Bench) -> Outcome {
    applied(
        bench,
        &merged_usr(),
        &[
            &[put("a12-lib/x", file("1")), put("a12-two/y", dir(0o700)), put("a12-usr/up/z", symlink("x"))],
            &[remove("a12-lib/old")],
            &[opaque("a12-abs/lib"), put("a12-abs/share/new", file("1"))],
            &[opaque("a12-lib"), opaque("a12-file"), put("a12-usr/lib/new", file("1"))],
            &[put("a12-hard", link("a12-two/old")), put("a12-two/hard", link("a12-abs/up"))],
            &[put("a12-lib/sub/deep", file("1")), put("a12-lib/old", file("replaced"))],
        ],
    )
}

fn last_component(bench: &Bench) -> Outcome {
    applied(
        bench,
        &merged_usr(),
        &[
            &[put("a12-to-file", file("no longer a symlink"))],
            &[remove("a12-lib"), remove("a12-two")],
            &[put("a12-lib", dir(0o700)), put("a12-lib/own", file("not in usr"))],
            &[put("a12-same", link("a12-to-file"))],
        ],
    )
}

fn view_so_far(bench: &Bench) -> Outcome {
    applied(
        bench,
        &merged_usr(),
        &[
            &[put("a12-way", symlink("/a12-usr/lib")), put("a12-way/new", file("in usr/lib"))],
            &[
                put("a12-lib/one", file("in usr/lib")),
                put("a12-lib", symlink("a12-other")),
                put("a12-other", dir(0o700)),
                put("a12-lib/two", file("in other")),
            ],
            &[remove("a12-lib"), put("a12-lib/new", file("in a directory of its own"))],
            &[
                put("a12-usr/lib", symlink("lib2")),
                put("a12-usr/lib2", dir(0o755)),
                put("a12-lib/x", file("in lib2")),
            ],
        ],
    )
}

fn climbs_out(bench: &Bench) -> Outcome {
    let code = Code::SymlinkEscape;
    let lower = tree! {
        "a13-dir/up" => symlink("../.."), "a13-up" => symlink(".."), "a13-abs" => symlink("/../etc"), "a13-dir/in" => symlink("..")
    };
    kit::refused(
        bench,
        &lower,
        &[
            (&[put("a13-up/x", file("x"))], code),
            (&[put("a13-dir/up/x", dir(0o755))], code),
            (&[put("a13-abs/x", file("x"))], code),
            (&[put("a13-new", symlink("../../x")), put("a13-new/x", file("x"))], code),
            (&[put("a13-x", link("a13-up/etc/passwd"))], Code::LinkEscape),
            (&[remove("a13-up/etc")], code),
            (&[opaque("a13-dir/up/etc")], code),
        ],
    )
}

fn loops(bench: &Bench) -> Outcome {
    let lower = tree! { "a13-self" => symlink("a13-self"), "a13-ping" => symlink("a13-pong"), "a13-pong" => symlink("/a13-ping") };
    kit::refused(
        bench,
        &lower,
        &[
            (&[put("a13-self/x", file("x"))], Code::SymlinkLoop),
            (&[put("a13-ping/x", file("x"))], Code::SymlinkLoop),
            (&[put("a13-new", symlink("./a13-new")), put("a13-new/x", file(""))], Code::SymlinkLoop),
        ],
    )
}

fn not_a_directory(bench: &Bench) -> Outcome {
    let lower = tree! { "a13-file" => file("x"), "a13-fifo" => fifo(), "a13-way" => symlink("a13-file"), "a13-dir" => dir(0o755) };
    kit::refused(
        bench,
        &lower,
        &[
            (&[put("a13-file/x", file("x"))], Code::NotDir),
            (&[put("a13-fifo/x/y", file("x"))], Code::NotDir),
            (&[put("a13-way/x", file("x"))], Code::NotDir),
            (&[put("a13-dir", file("now a file")), put("a13-dir/x", file("x"))], Code::NotDir),
        ],
    )
}
