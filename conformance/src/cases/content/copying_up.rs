//! Clauses V6 to V10: what happens to lower entries that are changed through a view, and what is left of it.

use layerstore_sys::Errno;
use layerstore_testkit::build::*;
use layerstore_testkit::edit::Edit;
use layerstore_testkit::{Data, Path, disk, model, tree};

use super::super::prelude::*;
use super::kit;
use super::viewing::mirrored;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "V6",
        name: "a_lower_directory_can_be_renamed",
        title: "it keeps its content under the new name, over an empty directory too, and is diffed right",
        needs: &[Has(Feature::Mounts), Claims(Claim::RenameLowerDirectory)],
        run: renamed,
    },
    Case {
        clause: "V6",
        name: "renaming_a_lower_directory_is_exdev",
        title: "without the capability the rename fails with EXDEV and nothing changes",
        needs: &[Has(Feature::Mounts), Without(Claim::RenameLowerDirectory)],
        run: not_renamed,
    },
    Case {
        clause: "V6",
        name: "a_directory_of_the_layer_itself_can_be_renamed",
        title: "a directory made in the layer is renamed with its content, with and without the capability",
        needs: &[Has(Feature::Mounts)],
        run: own_renamed,
    },
    Case {
        clause: "V7",
        name: "one_attribute_changes_and_the_others_stay",
        title: "after chmod, chown, utimens or setxattr of a lower entry its data and every other attribute are as before",
        needs: &[Has(Feature::Mounts), Has(Feature::UserXattrs), Has(Feature::Owners), Has(Feature::Acls)],
        run: attributes,
    },
    Case {
        clause: "V7",
        name: "privileged_attributes_stay",
        title: "file capabilities and trusted xattrs survive a change of another attribute",
        needs: &[
            Has(Feature::Mounts),
            Claims(Claim::PrivilegedXattrs),
            Has(Feature::TrustedXattrs),
            Has(Feature::FileCapabilities),
        ],
        run: privileged,
    },
    Case {
        clause: "V7",
        name: "holes_stay_holes",
        title: "a sparse lower file that is written through a view still takes next to no space",
        needs: &[Has(Feature::Mounts), Has(Feature::Holes)],
        run: holes,
    },
    Case {
        clause: "V8",
        name: "a_write_to_one_name_changes_the_group",
        title: "writing to one name of a lower hard-link group changes all of them",
        needs: &[Has(Feature::Mounts), Claims(Claim::LinksSurviveCopyUp)],
        run: group_changes,
    },
    Case {
        clause: "V8",
        name: "a_written_name_leaves_the_group",
        title: "without the capability the written name leaves the group, and the others stay as they were",
        needs: &[Has(Feature::Mounts), Without(Claim::LinksSurviveCopyUp)],
        run: name_leaves,
    },
    Case {
        clause: "V9",
        name: "what_was_written_stays",
        title: "the view is the same mounted again, after the driver was opened again, sealed, and in a child",
        needs: &[Has(Feature::Mounts)],
        run: stays,
    },
    Case {
        clause: "V10",
        name: "the_views_root_has_the_layers_attributes",
        title: "mode, time and xattrs of the root are shown, inherited by a child, and kept when set in a view",
        needs: &[Has(Feature::Mounts), Has(Feature::UserXattrs), Has(Feature::Owners)],
        run: root,
    },
];

fn path(text: &str) -> Path {
    Path::new(text)
}

fn renamed(bench: &Bench) -> Outcome {
    let lower = tree! {
        "v6-dir" => dir(0o711).mtime(6, 6), "v6-dir/a" => file("a"), "v6-dir/sub/b" => file("b"), "v6-empty" => dir(0o755),
        "v6-other/x" => file("x"), "v6-full/y" => file("y"),
    };
    let edits = [
        Edit::Rename(path("v6-dir"), path("v6-moved")),
        Edit::Write(path("v6-moved/sub/b"), 0, b"written after".to_vec()),
        Edit::Make(path("v6-dir"), dir(0o700)),
        Edit::Make(path("v6-dir/a"), file("another")),
        Edit::Rename(path("v6-moved/sub"), path("v6-other/sub")),
        Edit::Rename(path("v6-other"), path("v6-empty")),
        Edit::Rename(path("v6-empty"), path("v6-full")),
        Edit::Unlink(path("v6-empty/x")),
    ];
    let (child, now) = mirrored(bench, "child", &lower, &edits)?;
    let driver = bench.driver();
    driver.seal(&child, None, &Context::new())?;
    let changes = [put("v6-moved/new", file("n")), remove("v6-empty/sub/b")];
    let above = kit::sealed(&**driver, "above", Some(&child), &changes)?;
    let expected = model::apply(&now, &changes).map_err(|refused| Failure::new(refused.0))?;
    kit::ensure_same(&expected, &kit::show(bench, &above)?, "a layer above the renamed directories")?;
    kit::ensure_changes(
        &model::diff(&now, &expected),
        &kit::diff(bench, &above, Base::Parent)?,
        "the diff of a layer above the renamed directories",
    )
}

fn not_renamed(bench: &Bench) -> Outcome {
    let lower = tree! { "v6-dir" => dir(0o711).mtime(6, 6), "v6-dir/a" => file("a"), "v6-file" => file("f") };
    let (base, lower) = kit::base(bench, &lower)?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    let answer = Edit::Rename(path("v6-dir"), path("v6-moved")).perform(&view.dir()?);
    ensure_eq!(answer, Err(Errno::XDEV), "the answer to a rename of a lower directory");
    kit::ensure_same(&lower, &kit::shown(&view)?, "the view after the refused rename")?;
    view.unmount()?;
    kit::ensure_changes(&[], &kit::diff(bench, &child, Base::Parent)?, "the diff after the refused rename")
}

fn own_renamed(bench: &Bench) -> Outcome {
    let edits = [
        Edit::Make(path("v6-new"), dir(0o700)),
        Edit::Make(path("v6-new/a"), file("a")),
        Edit::Rename(path("v6-file"), path("v6-new/file")),
        Edit::Rename(path("v6-new"), path("v6-newer")),
        Edit::Make(path("v6-new"), file("its place")),
    ];
    mirrored(bench, "child", &tree! { "v6-file" => file("lower") }, &edits).map(drop)
}

fn attributes(bench: &Bench) -> Outcome {
    let full = || {
        file("content that stays")
            .mode(0o664)
            .owner(1, 2)
            .mtime(-7, 777_777_777)
            .xattr("user.v7", b"\0stays\xff")
            .xattr("system.posix_acl_access", acl(0o664, 1000, 6))
    };
    let lower = tree! {
        "v7-mode" => full(), "v7-owner" => full(), "v7-time" => full(), "v7-xattr" => full(), "v7-removed" => full(), "v7-renamed" => full(),
        "v7-truncated" => full(), "v7-dir" => dir(0o2750).owner(3, 4).mtime(7, 8).xattr("user.v7", "d").xattr("system.posix_acl_default", acl(0o750, 9, 5)),
        "v7-dir/child" => file("c"), "v7-link" => symlink("v7-mode").owner(5, 6).mtime(9, 9), "v7-fifo" => fifo().owner(7, 8).mtime(3, 3),
    };
    let edits = [
        Edit::SetMode(path("v7-mode"), 0o640),
        Edit::SetOwner(path("v7-owner"), 20, 21),
        Edit::SetTime(path("v7-time"), 8, 888_888_888),
        Edit::SetXattr(path("v7-xattr"), b"user.more".to_vec(), b"x".to_vec()),
        Edit::RemoveXattr(path("v7-removed"), b"user.v7".to_vec()),
        Edit::Rename(path("v7-renamed"), path("v7-renamed-now")),
        Edit::Truncate(path("v7-truncated"), 7),
        Edit::SetOwner(path("v7-dir"), 30, 31),
        Edit::SetOwner(path("v7-link"), 40, 41),
        Edit::SetMode(path("v7-fifo"), 0o666),
    ];
    mirrored(bench, "child", &lower, &edits).map(drop)
}

fn privileged(bench: &Bench) -> Outcome {
    let tool = || {
        file("#!")
            .mode(0o755)
            .mtime(7, 7)
            .xattr("security.capability", capability(0x2000))
            .xattr("trusted.v7", "t")
    };
    let lower = tree! {
        "v7-mode" => tool(), "v7-time" => tool(), "v7-owner" => tool(), "v7-dir" => dir(0o755).xattr("trusted.v7", "d"),
        "v7-dir/x" => file("x"), "v7-written" => tool(),
    };
    let edits = [
        Edit::SetMode(path("v7-mode"), 0o700),
        Edit::SetTime(path("v7-time"), 1, 1),
        Edit::SetOwner(path("v7-owner"), 1, 1),
        Edit::Write(path("v7-dir/x"), 0, b"X".to_vec()),
        Edit::Write(path("v7-written"), 0, b"##".to_vec()),
    ];
    mirrored(bench, "child", &lower, &edits).map(drop)
}

fn holes(bench: &Bench) -> Outcome {
    const SIZE: u64 = 64 << 20;
    let sparse = Data::hole(SIZE).with(SIZE / 4, b"data");
    let (base, _) = kit::base(bench, &tree! { "v7-sparse" => file(sparse) })?;
    let (_, view) = kit::writable(bench, "child", Some(&base))?;
    {
        let root = view.dir()?;
        root.open_file_rw(b"v7-sparse")?.write_all_at(b"more", SIZE / 2)?;
        let taken = disk::allocated(&root, "v7-sparse")?;
        ensure!(
            taken < 2 << 20,
            "a sparse file with 8 bytes of data takes {taken} bytes after it was copied up"
        );
    }
    let expected = file(Data::hole(SIZE).with(SIZE / 4, b"data").with(SIZE / 2, b"more")).kind;
    let found = kit::shown(&view)?.get("v7-sparse").map(|inode| inode.kind.clone());
    ensure!(found == Some(expected), "the sparse file reads {found:?}");
    view.unmount()
}

fn group_changes(bench: &Bench) -> Outcome {
    let lower = tree! { "v8-a" => file("group"), "v8-b" => link("v8-a"), "v8-dir/c" => link("v8-a"), "v8-d" => file("apart") };
    let edits = [
        Edit::Write(path("v8-b"), 0, b"GROUP".to_vec()),
        Edit::SetMode(path("v8-dir/c"), 0o600),
        Edit::Link(path("v8-a"), path("v8-e")),
    ];
    let (_, now) = mirrored(bench, "child", &lower, &edits)?;
    ensure_eq!(now.group("v8-a").len(), 4, "names of the group after a write");
    Ok(())
}

fn name_leaves(bench: &Bench) -> Outcome {
    let lower = tree! { "v8-a" => file("group"), "v8-b" => link("v8-a"), "v8-dir/c" => link("v8-a") };
    let (base, lower) = kit::base(bench, &lower)?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    view.dir()?.open_file_rw(b"v8-b")?.write_all_at(b"ALONE", 0)?;
    let now = kit::shown(&view)?;
    view.unmount()?;
    let text = |name: &str| now.get(name).map(|inode| inode.kind.clone());
    ensure_eq!(text("v8-b"), Some(file("ALONE").kind), "the written name");
    ensure_eq!(text("v8-a"), Some(file("group").kind), "another name of the group");
    ensure_eq!(text("v8-dir/c"), Some(file("group").kind), "the third name of the group");
    let again = kit::show(bench, &child)?;
    ensure!(!again.group("v8-a").contains(&path("v8-b")), "the written name is still in the group");
    kit::ensure_changes(&model::diff(&lower, &again), &kit::diff(bench, &child, Base::Parent)?, "the diff")
}

fn stays(bench: &Bench) -> Outcome {
    let lower = tree! { "v9-low/a" => file("a"), "v9-low/b" => file("b"), "v9-gone/x" => file("x") };
    let edits = [
        Edit::Make(path("v9-new"), file("new").mode(0o600).mtime(9, 9)),
        Edit::Write(path("v9-low/a"), 0, b"changed".to_vec()),
        Edit::Unlink(path("v9-low/b")),
        Edit::RemoveTree(path("v9-gone")),
        Edit::SetTime(path("v9-low"), 99, 1),
    ];
    let (child, now) = mirrored(bench, "child", &lower, &edits)?;
    let again = bench.reopen()?;
    kit::ensure_same(&now, &kit::show_of(bench, &*again, &child)?, "the layer in a driver opened again")?;
    let view = bench.mount(&child)?;
    kit::ensure_same(&now, &kit::shown(&view)?, "the layer mounted writable again")?;
    view.unmount()?;
    bench.driver().seal(&child, None, &Context::new())?;
    kit::ensure_same(&now, &kit::show(bench, &child)?, "the sealed layer")?;
    let (_, view) = kit::writable(bench, "grandchild", Some(&child))?;
    kit::ensure_same(&now, &kit::shown(&view)?, "a child's view")?;
    view.unmount()
}

fn root(bench: &Bench) -> Outcome {
    let attributes = dir(0o1751).owner(10, 11).mtime(-10, 10).xattr("user.v10", "root");
    let driver = &**bench.driver();
    let lower = tree! { "" => attributes.clone(), "v10-x" => file("x") };
    let base = kit::sealed(driver, "base", None, &kit::whole(&lower))?;
    kit::ensure_same(&lower, &kit::show(bench, &base)?, "the base layer")?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    let mode_and_owner = |tree: &layerstore_testkit::Tree| {
        tree.get("").map(|root| (root.meta.mode, root.meta.uid, root.meta.gid, root.meta.xattrs.clone()))
    };
    ensure_eq!(
        mode_and_owner(&kit::shown(&view)?),
        mode_and_owner(&lower),
        "mode, owner and xattrs of a child's root"
    );
    {
        let root = view.dir()?;
        root.set_owner(b".", 12, 13)?;
        root.set_mode(b".", 0o700)?;
        layerstore_sys::xattr::set(layerstore_sys::xattr::On::Dir(&root), b"user.v10", b"child")?;
        root.set_mtime(b".", layerstore_sys::Timestamp { seconds: 5, nanos: 6 })?;
    }
    view.unmount()?;
    let expected =
        tree! { "" => dir(0o700).owner(12, 13).mtime(5, 6).xattr("user.v10", "child"), "v10-x" => file("x") };
    kit::ensure_same(&expected, &kit::show(bench, &child)?, "the child, mounted again,")?;
    let expected = [put("", dir(0o700).owner(12, 13).mtime(5, 6).xattr("user.v10", "child"))];
    kit::ensure_changes(&expected, &kit::diff(bench, &child, Base::Parent)?, "the diff of the root")
}
