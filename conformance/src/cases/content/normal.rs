//! Clauses N1 to N9: the normal form of a diff, compared with the oracle's.

use layerstore_driver::ChangeKind;
use layerstore_testkit::build::*;
use layerstore_testkit::model::{self, Change, Difference};
use layerstore_testkit::{Path, Tree, tree};

use super::super::prelude::*;
use super::{kit, scenarios};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "N1",
        name: "a_diff_applied_to_the_base_gives_the_view",
        title: "kinds, data, owners, modes, times, xattrs, links and holes come back when the diff is applied",
        needs: &[],
        run: round_trip,
    },
    Case {
        clause: "N2",
        name: "there_is_an_entry_for_what_differs_and_no_other",
        title: "untouched ancestors, and entries put again as they were, are in no diff",
        needs: &[],
        run: only_differences,
    },
    Case {
        clause: "N2",
        name: "an_untouched_copy_up_is_no_change",
        title: "what was written through a mount and reads as before is in no diff",
        needs: &[Has(Feature::Mounts), Has(Feature::UserXattrs)],
        run: untouched_copy_up,
    },
    Case {
        clause: "N3",
        name: "entries_come_in_the_order_of_a_walk",
        title: "a directory before its children, names by their bytes, removals at their place",
        needs: &[],
        run: order,
    },
    Case {
        clause: "N4",
        name: "a_tree_that_is_gone_is_one_removal",
        title: "one Remove for a tree; a changed kind is one Put without a Remove",
        needs: &[],
        run: gone,
    },
    Case {
        clause: "N5",
        name: "what_a_directory_hides_is_said_name_by_name",
        title: "an opaque directory, applied or made through a mount, is diffed as removals and never as a mark",
        needs: &[],
        run: no_opaque,
    },
    Case {
        clause: "N6",
        name: "a_link_group_is_there_with_all_its_names_or_with_none",
        title: "the first name in order carries the data, the others link to it",
        needs: &[],
        run: groups,
    },
    Case {
        clause: "N7",
        name: "a_directory_whose_time_changed_has_an_entry",
        title: "a directory that differs in its time alone is in the diff, to the nanosecond",
        needs: &[],
        run: directory_times,
    },
    Case {
        clause: "N8",
        name: "against_nothing_it_is_the_whole_view",
        title: "the root first, then everything; a base layer's parent is nothing",
        needs: &[],
        run: whole,
    },
    Case {
        clause: "N8",
        name: "against_another_layer_it_leads_from_there",
        title: "an ancestor, a descendant and a layer of another branch as the base",
        needs: &[],
        run: other_layers,
    },
    Case {
        clause: "N9",
        name: "changes_names_what_the_diff_says",
        title: "the same names in the same order, as added, modified or deleted",
        needs: &[],
        run: names,
    },
];

/// A layer with these changes over a base that shows `lower`; its diff has to be the oracle's.
fn diffed(bench: &Bench, lower: &Tree, changes: &[Change]) -> Outcome<Vec<Change>> {
    let (base, lower) = kit::base(bench, lower)?;
    let child = kit::sealed(&**bench.driver(), "child", Some(&base), changes)?;
    let now = model::apply(&lower, changes).map_err(|refused| Failure::new(refused.0))?;
    let found = kit::diff(bench, &child, Base::Parent)?;
    kit::ensure_changes(&model::diff(&lower, &now), &found, "the diff")?;
    Ok(found)
}

fn round_trip(bench: &Bench) -> Outcome {
    for (number, scene) in scenarios::scenes(bench).into_iter().enumerate() {
        let driver = bench.another(&format!("scene{number}"))?;
        let mut lower = scene.lower;
        lower.put("", kit::root()).put("n1-round-trip", file("lower").mode(0o640));
        let mut changes = scene.changes;
        changes.push(put("n1-round-trip", file("upper").mode(0o755)));
        let base = kit::sealed(&*driver, "base", None, &kit::whole(&lower))?;
        let child = kit::sealed(&*driver, "child", Some(&base), &changes)?;
        let diff = kit::diff_of(&*driver, &child, Base::Parent)?;
        let again = kit::sealed(&*driver, "again", Some(&base), &diff)?;
        let (one, two) = (kit::show_of(bench, &*driver, &child)?, kit::show_of(bench, &*driver, &again)?);
        kit::ensure_same(&one, &two, &format!("the diff ({}), applied again,", scene.name))?;
    }
    Ok(())
}

fn only_differences(bench: &Bench) -> Outcome {
    let lower = tree! {
        "n2-way" => dir(0o750).mtime(2, 2), "n2-way/on/x" => file("x"), "n2-same" => file("same").mode(0o600).mtime(3, 3),
        "n2-link" => symlink("x").mtime(4, 4), "n2-dir" => dir(0o711).mtime(5, 5), "n2-dir/child" => file("c"),
        "n2-fifo" => fifo(),
    };
    let changes = [
        put("n2-way/on/new", file("the only change")),
        put("n2-same", file("same").mode(0o600).mtime(3, 3)),
        put("n2-link", symlink("x").mtime(4, 4)),
        put("n2-dir", dir(0o711).mtime(5, 5)),
        put("n2-fifo", fifo()),
        remove("n2-nothing"),
    ];
    let found = diffed(bench, &lower, &changes)?;
    ensure_eq!(found.len(), 1, "entries of {found:?}");
    Ok(())
}

fn untouched_copy_up(bench: &Bench) -> Outcome {
    let lower = tree! {
        "n2-dir" => dir(0o755).mtime(5, 5), "n2-dir/data" => file("data").mtime(6, 7), "n2-dir/mode" => file("mode").mtime(8, 9),
        "n2-dir/xattr" => file("x").xattr("user.a", "1").mtime(1, 1), "n2-dir/opened" => file("o").mtime(2, 2),
        "n2-renamed" => file("r").mtime(3, 3),
    };
    let (base, lower) = kit::base(bench, &lower)?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    {
        let root = view.dir()?;
        let dir = root.open_dir(b"n2-dir")?;
        let data = dir.open_file_rw(b"data")?;
        data.write_all_at(b"DATA", 0)?;
        data.write_all_at(b"data", 0)?;
        data.set_mtime(layerstore_sys::Timestamp { seconds: 6, nanos: 7 })?;
        dir.set_mode(b"mode", 0o600)?;
        dir.set_mode(b"mode", 0o644)?;
        layerstore_sys::xattr::set(layerstore_sys::xattr::On::Entry(&dir, b"xattr"), b"user.a", b"1")?;
        drop(dir.open_file_rw(b"opened")?);
        dir.set_mtime(b".", layerstore_sys::Timestamp { seconds: 5, nanos: 5 })?;
        root.set_mtime(b".", layerstore_sys::Timestamp { seconds: 1, nanos: 1 })?;
    }
    kit::ensure_same(&lower, &kit::shown(&view)?, "the mounted view")?;
    kit::ensure_changes(&[], &kit::diff(bench, &child, Base::Parent)?, "the diff while it is mounted")?;
    view.unmount()?;
    kit::ensure_changes(&[], &kit::diff(bench, &child, Base::Parent)?, "the diff of what reads as before")
}

fn order(bench: &Bench) -> Outcome {
    let names = ["n3", "n3/a", "n3/a/b", "n3/a/c", "n3/a-b", "n3/a.b", "n3/a0", "n3/b"];
    let lower = tree! { "n3/a/b/old" => file("x"), "n3/a.b" => file("x"), "n3/a0/old" => file("x") };
    let mut changes: Vec<Change> = names.iter().map(|name| put(*name, dir(0o700))).collect();
    changes.extend([remove("n3/a.b"), remove("n3/a0/old"), put(b"n3/\xff", file("")), put("n3/A", file(""))]);
    changes.retain(|change| change.path() != &Path::new("n3/a.b") || matches!(change, Change::Remove(_)));
    changes.reverse();
    let found = diffed(bench, &lower, &changes)?;
    let mut sorted = found.clone();
    sorted.sort_by(|a, b| a.path().cmp(b.path()));
    kit::ensure_changes(&sorted, &found, "the order of the diff")
}

fn gone(bench: &Bench) -> Outcome {
    let lower = tree! {
        "n4-tree/a/b/c" => file("x"), "n4-tree/d" => file("y"), "n4-dir/x" => file("x"), "n4-file" => file("f"),
        "n4-link" => symlink("n4-dir"), "n4-half/a/x" => file("x"), "n4-half/b" => file("b"),
    };
    let changes = [
        remove("n4-tree"),
        put("n4-dir", file("was a directory")),
        put("n4-file", dir(0o755)),
        put("n4-link", fifo()),
        remove("n4-half/a"),
    ];
    let found = diffed(bench, &lower, &changes)?;
    let removed = found.iter().filter(|change| matches!(change, Change::Remove(_))).count();
    ensure_eq!((removed, found.len()), (2, 5), "removals and entries of {found:?}");
    Ok(())
}

fn no_opaque(bench: &Bench) -> Outcome {
    let lower = tree! { "n5-dir" => dir(0o755).mtime(5, 5), "n5-dir/a" => file("a"), "n5-dir/b/c" => file("c"), "n5-dir/d" => file("d") };
    let changes = [opaque("n5-dir"), put("n5-dir/d", file("d")), put("n5-dir/e", file("e"))];
    let found = diffed(bench, &lower, &changes)?;
    kit::ensure_changes(
        &[remove("n5-dir/a"), remove("n5-dir/b"), put("n5-dir/e", file("e"))],
        &found,
        "the diff of an opaque directory",
    )?;
    if bench.has(Feature::Mounts) {
        let (child, view) = kit::writable(bench, "mounted", Some(&id("base")?))?;
        let root = view.dir()?;
        layerstore_sys::remove::tree(&root, b"n5-dir")?;
        root.make_dir(b"n5-dir", 0o755)?;
        root.open_dir(b"n5-dir")?.create_file(b"a", 0o600)?;
        drop(root);
        let (base, now) = (kit::show(bench, &id("base")?)?, kit::shown(&view)?);
        view.unmount()?;
        let found = kit::diff(bench, &child, Base::Parent)?;
        kit::ensure_changes(&model::diff(&base, &now), &found, "the diff of a directory made anew")?;
    }
    Ok(())
}

fn groups(bench: &Bench) -> Outcome {
    let lower = tree! {
        "n6-a" => file("group"), "n6-b" => link("n6-a"), "n6-c" => file("single"),
        "n6-p" => file("pair"), "n6-q" => link("n6-p"), "n6-s" => file("stays"), "n6-t" => link("n6-s"),
    };
    let changes = [
        put("n6-dir/new", link("n6-b")),
        put("n6-0", link("n6-c")),
        put("n6-q", file("pair")),
        put("n6-y", file("all new")),
        put("n6-x", link("n6-y")),
        put("n6-z", link("n6-y")),
    ];
    let found = diffed(bench, &lower, &changes)?;
    let of = |name: &str| found.iter().find(|change| change.path() == &Path::new(name));
    ensure_eq!(of("n6-x"), Some(&put("n6-x", file("all new"))), "the first name of a new group");
    ensure_eq!(of("n6-z"), Some(&put("n6-z", link("n6-x"))), "the last name of a new group");
    ensure!(of("n6-s").is_none() && of("n6-t").is_none(), "an untouched group is in the diff: {found:?}");
    Ok(())
}

fn directory_times(bench: &Bench) -> Outcome {
    let lower = tree! { "n7-dir" => dir(0o755).mtime(7, 7), "n7-dir/sub" => dir(0o755).mtime(7, 7), "n7-dir/x" => file("") };
    let changes = [put("n7-dir/sub", dir(0o755).mtime(7, 8))];
    kit::ensure_changes(&changes, &diffed(bench, &lower, &changes)?, "the diff of a time")?;
    if bench.has(Feature::Mounts) {
        let (child, view) = kit::writable(bench, "mounted", Some(&id("base")?))?;
        view.dir()?.set_mtime(b"n7-dir", layerstore_sys::Timestamp { seconds: -7, nanos: 77 })?;
        view.unmount()?;
        let expected = [put("n7-dir", dir(0o755).mtime(-7, 77))];
        kit::ensure_changes(
            &expected,
            &kit::diff(bench, &child, Base::Parent)?,
            "the diff of a time set in a mount",
        )?;
    }
    Ok(())
}

fn whole(bench: &Bench) -> Outcome {
    let lower = tree! { "n8-dir/x" => file("x"), "n8-link" => link("n8-dir/x"), "n8-gone" => file("g") };
    let (base, lower) = kit::base(bench, &lower)?;
    let changes = [put("n8-dir/y", file("y")), remove("n8-gone"), put("n8-n", symlink("z"))];
    let child = kit::sealed(&**bench.driver(), "child", Some(&base), &changes)?;
    let now = model::apply(&lower, &changes).map_err(|refused| Failure::new(refused.0))?;
    kit::ensure_changes(
        &kit::whole(&now),
        &kit::diff(bench, &child, Base::Empty)?,
        "the diff against nothing",
    )?;
    kit::ensure_changes(
        &kit::whole(&lower),
        &kit::diff(bench, &base, Base::Parent)?,
        "the diff of a base layer",
    )
}

fn other_layers(bench: &Bench) -> Outcome {
    let lower = tree! { "n8-dir/x" => file("x"), "n8-dir/y" => file("y"), "n8-file" => file("f"), "n8-two" => link("n8-file") };
    let (base, lower) = kit::base(bench, &lower)?;
    let driver = &**bench.driver();
    let steps: [(&str, &str, &[Change]); 4] = [
        ("left", "base", &[remove("n8-dir/x"), put("n8-left", file("l"))]),
        ("deeper", "left", &[put("n8-dir/x", file("again")), remove("n8-left"), put("n8-new/z", file("z"))]),
        ("right", "base", &[put("n8-dir", file("now a file")), put("n8-three", link("n8-file"))]),
        ("same", "base", &[remove("n8-dir/x"), put("n8-left", file("l"))]),
    ];
    let mut views = vec![(base, lower)];
    for (name, parent, changes) in steps {
        let (parent, view) =
            views.iter().find(|(id, _)| id.as_str() == parent).ok_or_else(|| Failure::new(parent))?;
        let now = model::apply(view, changes).map_err(|refused| Failure::new(refused.0))?;
        let layer = kit::sealed(driver, name, Some(parent), changes)?;
        views.push((layer, now));
    }
    for (from, was) in &views {
        for (to, now) in &views {
            let found = kit::diff(bench, to, Base::Layer(from))?;
            kit::ensure_changes(&model::diff(was, now), &found, &format!("the diff from {from} to {to}"))?;
        }
    }
    Ok(())
}

fn names(bench: &Bench) -> Outcome {
    let lower = tree! {
        "n9-tree/a/b" => file("x"), "n9-dir/x" => file("x"), "n9-mod" => file("1"), "n9-link" => link("n9-mod"), "n9-same" => file("s"),
    };
    let (base, lower) = kit::base(bench, &lower)?;
    let changes = [
        remove("n9-tree"),
        put("n9-dir", file("kind")),
        put("n9-mod", file("2")),
        put("n9-new/deep/er", file("n")),
        put("n9-same", file("s")),
        put("n9-another", link("n9-link")),
    ];
    let child = kit::sealed(&**bench.driver(), "child", Some(&base), &changes)?;
    let now = model::apply(&lower, &changes).map_err(|refused| Failure::new(refused.0))?;
    let nothing = Tree::nothing();
    for (base, was) in [(Base::Parent, &lower), (Base::Empty, &nothing), (Base::Layer(&child), &now)] {
        let found = bench.driver().changes(&child, base, &Context::new())?;
        let found: Vec<String> = found
            .iter()
            .map(|change| {
                let kind = match change.kind {
                    ChangeKind::Added => "added",
                    ChangeKind::Modified => "modified",
                    ChangeKind::Deleted => "deleted",
                };
                format!("{kind} {}", change.path)
            })
            .collect();
        let expected: Vec<String> = model::changes(was, &now)
            .iter()
            .filter(|(path, _)| !path.is_root())
            .map(|(path, kind)| {
                let kind = match kind {
                    Difference::Added => "added",
                    Difference::Modified => "modified",
                    Difference::Deleted => "deleted",
                };
                format!("{kind} {path}")
            })
            .collect();
        ensure_eq!(found, expected, "changes against {base:?}");
    }
    Ok(())
}
