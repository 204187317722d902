//! Clauses V1 to V5: what a view shows, and what a program can do in it.

use layerstore_testkit::build::*;
use layerstore_testkit::edit::Edit;
use layerstore_testkit::model::{self, Change};
use layerstore_testkit::{Inode, Path, Tree, disk, noise, tree};

use super::super::prelude::*;
use super::kit;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "V1",
        name: "the_topmost_entry_is_shown_and_directories_are_merged",
        title: "five layers that replace, hide, add and change kinds show what the oracle says",
        needs: &[],
        run: five_layers,
    },
    Case {
        clause: "V1",
        name: "128_layers_are_one_view",
        title: "a chain of 128 layers shows every layer's own name and the topmost of a common one",
        needs: &[],
        run: deep,
    },
    Case {
        clause: "V1",
        name: "500_layers_are_one_view",
        title: "a chain of 500 layers, or as many as the driver allows, shows what the oracle says",
        needs: &[],
        run: very_deep,
    },
    Case {
        clause: "V2",
        name: "a_view_takes_every_operation",
        title: "creating, writing, linking, renaming, removing and changing attributes give what a plain directory gives",
        needs: &[Has(Feature::Mounts), Has(Feature::UserXattrs), Has(Feature::Acls), Has(Feature::Owners)],
        run: every_operation,
    },
    Case {
        clause: "V2",
        name: "a_view_takes_device_nodes",
        title: "devices are made and shown",
        needs: &[Has(Feature::Mounts), Claims(Claim::Devices), Has(Feature::DeviceNodes)],
        run: device_nodes,
    },
    Case {
        clause: "V2",
        name: "an_open_file_sees_what_is_written",
        title: "a write is read back at once through another descriptor and a shared one",
        needs: &[Has(Feature::Mounts)],
        run: at_once,
    },
    Case {
        clause: "V3",
        name: "writes_change_no_other_layer",
        title: "parent and sibling show the same tree after everything was changed through a view",
        needs: &[Has(Feature::Mounts)],
        run: no_other_layer,
    },
    Case {
        clause: "V4",
        name: "what_is_made_again_is_new",
        title: "names unlinked and directories removed through a view come back empty, in every layer above",
        needs: &[Has(Feature::Mounts)],
        run: made_again,
    },
    Case {
        clause: "V5",
        name: "a_name_may_change_its_kind",
        title: "file, directory and symlink take each other's place, applied and through a view, layer upon layer",
        needs: &[Has(Feature::Mounts)],
        run: changes_kind,
    },
];

/// Seals layer upon layer and compares each view with the oracle's.
fn stack(bench: &Bench, layers: &[Vec<Change>]) -> Outcome {
    let mut expected = Tree::new();
    let mut parent: Option<LayerId> = None;
    for (number, changes) in layers.iter().enumerate() {
        expected = model::apply(&expected, changes).map_err(|refused| Failure::new(refused.0))?;
        let layer = kit::sealed(&**bench.driver(), &format!("layer{number}"), parent.as_ref(), changes)?;
        kit::ensure_same(&expected, &kit::show(bench, &layer)?, &format!("layer {number}"))?;
        parent = Some(layer);
    }
    Ok(())
}

fn five_layers(bench: &Bench) -> Outcome {
    stack(
        bench,
        &[
            vec![
                put("", kit::root()),
                put("v1-dir/a", file("1")),
                put("v1-dir/b", file("1")),
                put("v1-kind", file("1")),
                put("v1-hide/x", file("1")),
                put("v1-cover/one", file("1")),
            ],
            vec![
                put("v1-dir/b", file("2")),
                put("v1-dir/c", file("2")),
                remove("v1-hide"),
                put("v1-kind", dir(0o700)),
            ],
            vec![
                put("v1-hide/y", file("3")),
                put("v1-kind/z", file("3")),
                opaque("v1-cover"),
                put("v1-dir", dir(0o711).mtime(3, 3)),
            ],
            vec![remove("v1-dir/a"), put("v1-cover/two", file("4")), put("v1-kind", symlink("v1-dir"))],
            vec![
                put("v1-dir/a", file("5")),
                put("v1-cover/one", file("5")),
                put("v1-hide/x", link("v1-dir/b")),
            ],
        ],
    )
}

fn chain(bench: &Bench, depth: u32) -> Outcome {
    let driver = &**bench.driver();
    let mut expected = Tree::new();
    let mut parent: Option<LayerId> = None;
    for number in 0..depth {
        let mut changes = vec![
            put("v1-common", file(&format!("layer {number}"))),
            put(&format!("v1-dir/{number}"), file("own")),
        ];
        match number {
            0 => changes.push(put("", kit::root())),
            // The tree stays small, so that full copies stay affordable; a tenth of the names is left for good.
            _ if number % 10 != 1 => changes.push(remove(&format!("v1-dir/{}", number - 1))),
            _ => {}
        }
        if number % 97 == 96 {
            changes.push(opaque("v1-dir"));
        }
        expected = model::apply(&expected, &changes).map_err(|refused| Failure::new(refused.0))?;
        parent = Some(kit::sealed(driver, &format!("layer{number}"), parent.as_ref(), &changes)?);
    }
    let top = parent.ok_or_else(|| Failure::new("no layer"))?;
    kit::ensure_same(&expected, &kit::show(bench, &top)?, &format!("the topmost of {depth} layers"))?;
    if bench.has(Feature::Mounts) && driver.capabilities().max_chain.is_none_or(|most| most > depth) {
        let (_, view) = kit::writable(bench, "top", Some(&top))?;
        kit::ensure_same(&expected, &kit::shown(&view)?, "a writable view over them")?;
        view.unmount()?;
    }
    Ok(())
}

fn deep(bench: &Bench) -> Outcome {
    chain(bench, 128)
}

fn very_deep(bench: &Bench) -> Outcome {
    chain(bench, bench.driver().capabilities().max_chain.unwrap_or(500).min(500))
}

/// Does the same in a view and in a plain directory that began with the same tree; both have to answer and look
/// the same. Times of what was written are the present and count as equal.
pub(super) fn mirrored(bench: &Bench, name: &str, lower: &Tree, edits: &[Edit]) -> Outcome<(LayerId, Tree)> {
    const YEAR_2020: i64 = 1_577_836_800;
    let mut lower = lower.clone();
    lower.put("", kit::root());
    let base = kit::sealed(&**bench.driver(), &format!("{name}-base"), None, &kit::whole(&lower))?;
    let (child, view) = kit::writable(bench, name, Some(&base))?;
    let (_, plain) = kit::folder(bench, &format!("{name}-plain"))?;
    disk::write_tree(&lower, &plain)?;
    let live = {
        let root = view.dir()?;
        for edit in edits {
            let (found, expected) = (edit.perform(&root), edit.perform(&plain));
            ensure_eq!(found, expected, "the answer to {edit:?}");
        }
        kit::shown(&view)?
    };
    let expected = layerstore_testkit::read_tree(&plain)?.with_times_capped(YEAR_2020);
    // Where copy-up breaks groups, the mount that did it may show one inode under two numbers; the next does not.
    let groups = |tree: &Tree| {
        if bench.driver().capabilities().links_survive_copy_up { tree.clone() } else { tree.without_groups() }
    };
    let capped = live.clone().with_times_capped(YEAR_2020);
    kit::ensure_same(&groups(&expected), &groups(&capped), "the view")?;
    view.unmount()?;
    let now = kit::show(bench, &child)?;
    kit::ensure_same(&groups(&live), &groups(&now), "the view, mounted again,")?;
    kit::ensure_same(&expected, &now.clone().with_times_capped(YEAR_2020), "the view, mounted again,")?;
    kit::ensure_changes(&model::diff(&lower, &now), &kit::diff(bench, &child, Base::Parent)?, "its diff")?;
    Ok((child, now))
}

fn make(path: &str, inode: Inode) -> Edit {
    Edit::Make(Path::new(path), inode)
}

fn every_operation(bench: &Bench) -> Outcome {
    let path = |text: &str| Path::new(text);
    let lower = tree! {
        "v2-low" => dir(0o755).mtime(2, 2), "v2-low/a" => file("lower a"), "v2-low/b" => file(noise(2, 20_000)).mode(0o600),
        "v2-low/link" => symlink("a"), "v2-low/sub/c" => file("c"), "v2-low/fifo" => fifo(), "v2-over" => file("to be covered"),
        "v2-empty" => dir(0o755), "v2-acl" => file("x").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 5, 6)),
        "v2-default" => dir(0o755).xattr("system.posix_acl_default", acl(0o750, 5, 7)),
    };
    let edits = [
        make("v2-new", dir(0o2775).owner(5, 6)),
        make("v2-new/file", file("created").mode(0o4711).owner(1, 2).mtime(5, 5)),
        make("v2-new/symlink", symlink("../v2-low").owner(3, 4)),
        make("v2-new/fifo", fifo().mode(0o622)),
        make("v2-new/socket", socket()),
        make("v2-low/a", file("is there already")),
        make("v2-default/inherits", file("x")),
        Edit::Write(path("v2-low/a"), 100, b"behind the end".to_vec()),
        Edit::Write(path("v2-low/b"), 5000, b"in the middle".to_vec()),
        Edit::Truncate(path("v2-low/b"), 6000),
        Edit::Truncate(path("v2-new/file"), 1 << 20),
        Edit::Link(path("v2-low/sub/c"), path("v2-new/linked")),
        Edit::Link(path("v2-low"), path("v2-new/directory")),
        Edit::Rename(path("v2-low/fifo"), path("v2-new/renamed")),
        Edit::Rename(path("v2-new/file"), path("v2-over")),
        Edit::Rename(path("v2-over"), path("v2-low/sub/moved")),
        Edit::Rename(path("v2-low/sub/moved"), path("v2-empty")),
        Edit::Rename(path("v2-new/fifo"), path("v2-nowhere/x")),
        Edit::Unlink(path("v2-low/link")),
        Edit::Unlink(path("v2-low")),
        Edit::RemoveDir(path("v2-low")),
        Edit::RemoveDir(path("v2-empty")),
        Edit::SetMode(path("v2-low/a"), 0o6755),
        Edit::SetOwner(path("v2-low/a"), 10, 11),
        Edit::SetTime(path("v2-low/sub"), -5, 55),
        Edit::SetXattr(path("v2-low/b"), b"user.v2".to_vec(), b"\0value".to_vec()),
        Edit::SetXattr(path("v2-new"), b"user.v2".to_vec(), Vec::new()),
        Edit::RemoveXattr(path("v2-low/b"), b"user.v2".to_vec()),
        Edit::SetMode(path("v2-acl"), 0o600),
        Edit::SetXattr(path("v2-low/b"), b"system.posix_acl_access".to_vec(), acl(0o640, 9, 4)),
        Edit::RemoveXattr(path("v2-default"), b"system.posix_acl_default".to_vec()),
        make("v2-new/again", dir(0o700)),
        make("v2-new/again/x", file("x")),
        Edit::RemoveTree(path("v2-new/again")),
    ];
    mirrored(bench, "child", &lower, &edits).map(drop)
}

fn device_nodes(bench: &Bench) -> Outcome {
    let edits = [
        make("v2-null", char_device(1, 3).mode(0o666)),
        make("v2-disk", block_device(7, 5)),
        Edit::Rename(Path::new("v2-low"), Path::new("v2-high")),
        Edit::SetMode(Path::new("v2-other"), 0o600),
    ];
    mirrored(
        bench,
        "child",
        &tree! { "v2-low" => char_device(1, 5), "v2-other" => block_device(8, 8) },
        &edits,
    )
    .map(drop)
}

fn at_once(bench: &Bench) -> Outcome {
    let (base, _) = kit::base(bench, &tree! { "v2-file" => file("lower") })?;
    let (_, view) = kit::writable(bench, "child", Some(&base))?;
    let root = view.dir()?;
    let writer = root.open_file_rw(b"v2-file")?;
    writer.write_all_at(b"upper", 0)?;
    let mut buffer = [0; 16];
    let count = root.open_file(b"v2-file")?.read_at(&mut buffer, 0)?;
    ensure_eq!(&buffer[..count], b"upper", "what another descriptor reads");
    writer.write_all_at(b" and more", 5)?;
    ensure_eq!(root.stat(b"v2-file")?.size, 14, "the size at once");
    drop((writer, root));
    view.unmount()
}

fn no_other_layer(bench: &Bench) -> Outcome {
    let lower = tree! {
        "v3-file" => file("data"), "v3-dir/x" => file("x"), "v3-dir/y" => file("y"), "v3-link" => symlink("v3-file"), "v3-gone" => file(""),
    };
    let (base, lower) = kit::base(bench, &lower)?;
    let (sibling, beside) = kit::writable(bench, "sibling", Some(&base))?;
    beside.write("v3-own", "sibling's")?;
    let before = kit::shown(&beside)?;
    let (_, view) = kit::writable(bench, "child", Some(&base))?;
    view.write("v3-file", "changed by the child")?;
    {
        let root = view.dir()?;
        root.set_mode(b"v3-dir", 0o700)?;
        root.unlink(b"v3-gone")?;
        let dir = root.open_dir(b"v3-dir")?;
        dir.open_file_rw(b"x")?.set_length(0)?;
        dir.rename(b"y", &root, b"v3-link")?;
        root.set_mtime(b".", layerstore_sys::Timestamp { seconds: 99, nanos: 9 })?;
    }
    kit::ensure_same(&before, &kit::shown(&beside)?, "the mounted sibling")?;
    view.unmount()?;
    beside.unmount()?;
    kit::ensure_same(&lower, &kit::show(bench, &base)?, "the parent")?;
    kit::ensure_same(&before, &kit::show(bench, &sibling)?, "the sibling")
}

fn made_again(bench: &Bench) -> Outcome {
    let driver = &**bench.driver();
    let lower = tree! { "v4-dir/a" => file("1"), "v4-dir/sub/b" => file("1"), "v4-file" => file("a long first content") };
    let (base, _) = kit::base(bench, &lower)?;
    let middle = kit::sealed(
        driver,
        "middle",
        Some(&base),
        &[put("v4-dir/c", file("2")), put("v4-dir/sub/d", file("2"))],
    )?;
    let (top, view) = kit::writable(bench, "top", Some(&middle))?;
    {
        let root = view.dir()?;
        root.unlink(b"v4-file")?;
        root.create_file(b"v4-file", 0o600)?.write_all_at(b"new", 0)?;
        layerstore_sys::remove::tree(&root, b"v4-dir")?;
        ensure!(root.try_stat(b"v4-dir")?.is_none(), "v4-dir is there after it was removed");
        root.make_dir(b"v4-dir", 0o755)?;
        ensure!(
            root.open_dir(b"v4-dir")?.entries()?.is_empty(),
            "v4-dir is not empty after it was made again"
        );
        root.open_dir(b"v4-dir")?.make_dir(b"sub", 0o755)?;
    }
    let now = kit::shown(&view)?;
    let names: Vec<String> = now.iter().map(|(path, _)| path.to_string()).collect();
    ensure_eq!(names, [".", "v4-dir", "v4-dir/sub", "v4-file"], "names in the view");
    view.unmount()?;
    driver.seal(&top, None, &Context::new())?;
    kit::ensure_same(&now, &kit::show(bench, &top)?, "the sealed layer")?;
    let above = [put("v4-dir/sub/e", file("4"))];
    let last = kit::sealed(driver, "last", Some(&top), &above)?;
    let expected = model::apply(&now, &above).map_err(|refused| Failure::new(refused.0))?;
    kit::ensure_same(&expected, &kit::show(bench, &last)?, "a layer above it")
}

fn changes_kind(bench: &Bench) -> Outcome {
    let driver = &**bench.driver();
    let mut parent =
        kit::base(bench, &tree! { "v5-a" => file("f"), "v5-b/x" => file("x"), "v5-c" => symlink("v5-b") })?.0;
    for round in 0..4 {
        let (child, view) = kit::writable(bench, &format!("mounted{round}"), Some(&parent))?;
        {
            let root = view.dir()?;
            // Each name takes the kind that the one before it had.
            let kinds =
                ["v5-a", "v5-b", "v5-c"].map(|name| (name, root.stat(name.as_bytes()).map(|stat| stat.kind)));
            for (position, (name, _)) in kinds.iter().enumerate() {
                layerstore_sys::remove::tree(&root, name.as_bytes())?;
                match &kinds[(position + 2) % 3].1 {
                    Ok(layerstore_sys::FileType::Regular) => drop(root.create_file(name.as_bytes(), 0o644)?),
                    Ok(layerstore_sys::FileType::Directory) => root.make_dir(name.as_bytes(), 0o755)?,
                    _ => root.make_symlink(name.as_bytes(), b"somewhere")?,
                }
            }
        }
        let now = kit::shown(&view)?;
        view.unmount()?;
        driver.seal(&child, None, &Context::new())?;
        kit::ensure_same(&now, &kit::show(bench, &child)?, &format!("round {round}, mounted again,"))?;
        let changes =
            [put("v5-a", dir(0o700)), put("v5-b", symlink("v5-a")), put("v5-c", file(&format!("{round}")))];
        let expected = model::apply(&now, &changes).map_err(|refused| Failure::new(refused.0))?;
        parent = kit::sealed(driver, &format!("applied{round}"), Some(&child), &changes)?;
        kit::ensure_same(&expected, &kit::show(bench, &parent)?, &format!("round {round}, applied,"))?;
    }
    Ok(())
}
