//! Layers by themselves: made, sealed, removed, listed, measured (L1-L5, L7, L10-L12, L16).

use std::collections::BTreeSet;

use layerstore_driver::{Look, Outcome as Recovery};
use layerstore_sys::protect::{self, Protection};
use nix::sys::stat::{Mode, umask};

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "L1",
        name: "a_base_layer_is_an_empty_directory_of_0755",
        title: "a layer without a parent shows one empty directory, 0755 0:0",
        needs: &[],
        run: base_layer_is_empty,
    },
    Case {
        clause: "L1",
        name: "the_umask_of_the_process_does_not_show",
        title: "a new root is 0755 whatever the umask of the process",
        needs: &[],
        run: umask_does_not_show,
    },
    Case {
        clause: "L2",
        name: "a_child_begins_as_its_parent",
        title: "a child's view is its parent's, mode, owner and xattrs of the root included",
        needs: &[],
        run: child_begins_as_parent,
    },
    Case {
        clause: "L3",
        name: "an_existing_id_is_refused_and_kept",
        title: "create with an id that exists is AlreadyExists, for a sealed layer and for a writable one",
        needs: &[],
        run: existing_id_is_refused,
    },
    Case {
        clause: "L4",
        name: "a_missing_parent_is_not_found",
        title: "create over a parent that does not exist is NotFound and leaves nothing",
        needs: &[],
        run: missing_parent,
    },
    Case {
        clause: "L4",
        name: "a_parent_that_is_not_sealed_is_refused",
        title: "create over a writable parent is InvalidInput and leaves nothing",
        needs: &[],
        run: unsealed_parent,
    },
    Case {
        clause: "L5",
        name: "a_sealed_layer_takes_no_changeset",
        title: "apply to a sealed layer is InvalidInput and changes nothing",
        needs: &[],
        run: sealed_takes_no_changeset,
    },
    Case {
        clause: "L5",
        name: "sealing_again_changes_nothing",
        title: "the view is the same before a seal, after it and after a second one",
        needs: &[],
        run: sealing_again,
    },
    Case {
        clause: "L7",
        name: "a_removed_id_is_free_at_once",
        title: "after remove the layer is in no answer, and its id can be used for an empty layer",
        needs: &[],
        run: removed_id_is_free,
    },
    Case {
        clause: "L7",
        name: "protected_files_go_with_their_layer",
        title: "a layer whose writer made files and directories immutable or append-only is removed like any other",
        needs: &[Has(Feature::Mounts), Has(Feature::ProtectedFiles)],
        run: protected_files,
    },
    Case {
        clause: "L10",
        name: "every_layer_is_listed_once_with_parent_and_state",
        title: "layers and layer tell every layer once, with its parent and state",
        needs: &[],
        run: layers_tell_the_truth,
    },
    Case {
        clause: "L11",
        name: "an_unknown_id_is_not_found",
        title: "every operation on an id that does not exist is NotFound; exists is false",
        needs: &[],
        run: unknown_id,
    },
    Case {
        clause: "L12",
        name: "usage_is_what_was_recorded_at_the_seal",
        title: "usage gives what seal returned, again and again and after opening the driver again",
        needs: &[],
        run: usage_is_recorded,
    },
    Case {
        clause: "L12",
        name: "data_is_counted_once",
        title: "usage counts new data once, also under several names",
        needs: &[],
        run: data_is_counted_once,
    },
    Case {
        clause: "L12",
        name: "an_empty_child_takes_next_to_nothing",
        title: "an empty child of a large layer takes less than 64 KiB",
        needs: &[Without(Claim::LastResort)],
        run: empty_child_is_small,
    },
    Case {
        clause: "L16",
        name: "metadata_and_status_have_labels",
        title: "metadata of every layer and status of the driver answer with labels that are not empty",
        needs: &[],
        run: labels_are_not_empty,
    },
];

fn ensure_empty_root(tree: &Tree) -> Outcome {
    let root = tree.at("")?;
    ensure_eq!(tree.names(), "", "names in the view of a new base layer");
    ensure_eq!(format!("{:o} {}:{}", root.mode, root.uid, root.gid), "755 0:0", "root of a new base layer");
    Ok(())
}

fn base_layer_is_empty(bench: &Bench) -> Outcome {
    let base = bench.layer("base", None, &script())?;
    ensure_empty_root(&bench.view(&base)?)
}

fn umask_does_not_show(bench: &Bench) -> Outcome {
    let before = umask(Mode::from_bits_truncate(0o077));
    let made = bench.layer("base", None, &script());
    umask(before);
    ensure_empty_root(&bench.view(&made?)?)
}

/// A layer with a little of everything that needs no privilege.
fn some_content() -> Script {
    script()
        .dir("etc")
        .file("etc/hosts", "::1 localhost\n")
        .file("etc/shadow", "secret")
        .mode(0o600)
        .dir("usr/bin")
        .noise("usr/bin/tool", 100_000, 7)
        .mode(0o755)
        .link("usr/bin/alias", "usr/bin/tool")
        .symlink("bin", "usr/bin")
        .fifo("run/pipe")
}

fn child_begins_as_parent(bench: &Bench) -> Outcome {
    let mut root = script().dir(".").mode(0o1711);
    if bench.has(Feature::Owners) {
        root = root.owner(1_000, 1_001);
    }
    if bench.has(Feature::UserXattrs) {
        root = root.xattr("user.root", "kept");
    }
    let base = bench.sealed("base", None, &root.then(some_content()))?;
    let child = bench.layer("child", Some(&base), &script())?;
    let (base, child) = (bench.view(&base)?, bench.view(&child)?);
    ensure_eq!(base.at("")?.mode, 0o1711, "mode of the parent's root");
    child.ensure_same(&base, "a child that holds nothing")
}

fn existing_id_is_refused(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let sealed = bench.sealed("sealed", None, &some_content())?;
    let writable = bench.layer("writable", Some(&sealed), &script().file("own", "1"))?;
    for layer in [&sealed, &writable] {
        let before = bench.view(layer)?;
        for parent in [None, Some(&sealed)] {
            let again = driver.create(layer, parent, &CreateOptions::default(), &Context::new());
            ensure_refused!(again, AlreadyExists, "creating {layer} again");
        }
        bench.view(layer)?.ensure_same(&before, "the layer that was there")?;
    }
    Ok(())
}

fn ensure_absent(bench: &Bench, layer: &LayerId) -> Outcome {
    let driver = bench.driver();
    ensure_refused!(driver.layer(layer), NotFound, "asking for {layer}");
    ensure!(driver.layers()?.iter().all(|info| info.id != *layer), "{layer} is listed");
    ensure!(!driver.ids()?.contains(layer), "the id {layer} is listed");
    Ok(())
}

fn missing_parent(bench: &Bench) -> Outcome {
    let (child, parent) = (id("child")?, id("missing")?);
    let made = bench.driver().create(&child, Some(&parent), &CreateOptions::default(), &Context::new());
    ensure_refused!(made, NotFound, "creating over a missing parent");
    ensure_absent(bench, &child)?;
    ensure_absent(bench, &parent)?;
    // Nothing in the way of doing it right.
    bench.layer("child", None, &script()).map(drop)
}

fn unsealed_parent(bench: &Bench) -> Outcome {
    let parent = bench.layer("parent", None, &some_content())?;
    let child = id("child")?;
    let made = bench.driver().create(&child, Some(&parent), &CreateOptions::default(), &Context::new());
    ensure_refused!(made, InvalidInput, "creating over a writable parent");
    ensure_absent(bench, &child)?;
    bench.driver().seal(&parent, None, &Context::new())?;
    bench.layer("child", Some(&parent), &script()).map(drop)
}

fn sealed_takes_no_changeset(bench: &Bench) -> Outcome {
    let layer = bench.sealed("layer", None, &some_content())?;
    let before = bench.view(&layer)?;
    let changes = script().file("new", "1").remove("etc");
    let applied = bench.driver().apply(&layer, &mut changes.source(), &Context::new());
    ensure_refused!(applied, InvalidInput, "applying to a sealed layer");
    bench.view(&layer)?.ensure_same(&before, "the sealed layer")
}

fn sealing_again(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = bench.layer("layer", None, &some_content())?;
    let before = bench.view(&layer)?;
    let first = driver.seal(&layer, None, &Context::new())?;
    bench.view(&layer)?.ensure_same(&before, "after the seal")?;
    let second = driver.seal(&layer, None, &Context::new())?;
    ensure_eq!(second, first, "what a second seal returns");
    bench.view(&layer)?.ensure_same(&before, "after the second seal")
}

fn removed_id_is_free(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &some_content())?;
    for (round, parent) in [None, Some(&base), None].into_iter().enumerate() {
        let layer = bench.layer("layer", parent, &some_content())?;
        if round == 2 {
            driver.seal(&layer, None, &Context::new())?;
        }
        driver.remove(&layer)?;
        ensure!(!driver.exists(&layer)?, "a removed layer exists");
        ensure_absent(bench, &layer)?;
        let again = bench.layer("layer", None, &script())?;
        ensure_eq!(bench.view(&again)?.names(), "", "names in a layer made where another was removed");
        driver.remove(&again)?;
    }
    ensure!(driver.exists(&base)?, "the base layer is gone with its child");
    Ok(())
}

fn protected_files(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &some_content())?;
    for parent in [None, Some(&base)] {
        let layer =
            bench.layer("layer", parent, &script().dir("kept").file("kept/file", "1").file("log", "1"))?;
        let view = bench.mount(&layer)?;
        let root = view.dir()?;
        for (name, protection) in [
            ("kept/file", Protection::Immutable),
            ("kept", Protection::AppendOnly),
            ("log", Protection::AppendOnly),
            (".", Protection::Immutable),
        ] {
            protect::set(&root, name.as_bytes(), protection)?;
        }
        drop(root);
        view.unmount()?;
        bench.driver().remove(&layer)?;
        ensure_absent(bench, &layer)?;
        let mut found = bench.reopen()?.recover(&|_| false, Look::Everything)?;
        found.retain(|found| matches!(found.outcome, Recovery::Tidied | Recovery::NotFreed));
        ensure!(found.is_empty(), "something of the removed layer was left: {found:?}");
    }
    Ok(())
}

fn layers_tell_the_truth(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    ensure!(driver.layers()?.is_empty(), "a new root holds layers");
    let a = bench.sealed("a", None, &some_content())?;
    let b = bench.sealed("b", Some(&a), &script().file("b", ""))?;
    let c = bench.layer("c", Some(&b), &script())?;
    let d = bench.layer("d.with-every_character.0", None, &script())?;
    let expected = [
        (&a, None, LayerState::Sealed),
        (&b, Some(&a), LayerState::Sealed),
        (&c, Some(&b), LayerState::Writable),
        (&d, None, LayerState::Writable),
    ];
    for handle in [driver, &bench.reopen()?] {
        let listed = handle.layers()?;
        ensure_eq!(listed.len(), expected.len(), "number of layers listed");
        let ids: BTreeSet<_> = listed.iter().map(|info| info.id.clone()).collect();
        ensure_eq!(ids.len(), expected.len(), "number of different layers listed");
        let names = handle.ids()?;
        ensure_eq!(names.len(), expected.len(), "number of ids listed");
        ensure_eq!(names.into_iter().collect::<BTreeSet<_>>(), ids, "ids listed");
        for (layer, parent, state) in expected {
            let info = handle.layer(layer)?;
            ensure_eq!(info.id, *layer, "id of {layer}");
            ensure_eq!(info.parent.as_ref(), parent, "parent of {layer}");
            ensure_eq!(info.state, state, "state of {layer}");
            ensure!(listed.contains(&info), "the list says otherwise than {info:?}: {listed:?}");
            ensure!(handle.exists(layer)?, "{layer} does not exist");
        }
    }
    Ok(())
}

fn unknown_id(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &some_content())?;
    let missing = id("missing")?;
    let context = Context::new();
    let changes = script().file("f", "");
    ensure!(!driver.exists(&missing)?, "an unknown id exists");
    ensure_refused!(driver.apply(&missing, &mut changes.source(), &context), NotFound, "apply");
    for base in [Base::Parent, Base::Empty, Base::Layer(&base)] {
        ensure_refused!(driver.diff(&missing, base, &mut script(), &context), NotFound, "diff");
        ensure_refused!(driver.changes(&missing, base, &context), NotFound, "changes");
    }
    let base_missing = Base::Layer(&missing);
    ensure_refused!(driver.diff(&base, base_missing, &mut script(), &context), NotFound, "diff against it");
    ensure_refused!(driver.changes(&base, base_missing, &context), NotFound, "changes against it");
    ensure_refused!(driver.seal(&missing, None, &context), NotFound, "seal");
    for options in [read_only(), read_write()] {
        ensure_refused!(driver.plan(&missing, &options), NotFound, "plan");
    }
    ensure_refused!(driver.remove(&missing), NotFound, "remove");
    ensure_refused!(driver.layer(&missing), NotFound, "layer");
    ensure_refused!(driver.usage(&missing, &context), NotFound, "usage");
    ensure_refused!(driver.metadata(&missing), NotFound, "metadata");
    ensure_eq!(driver.layers()?.len(), 1, "number of layers after all that");
    Ok(())
}

fn usage_is_recorded(bench: &Bench) -> Outcome {
    let layer = bench.layer("layer", None, &some_content())?;
    let sealed = bench.driver().seal(&layer, None, &Context::new())?;
    ensure!(sealed.bytes >= 100_000, "the layer holds 100,000 bytes of data and takes {sealed:?}");
    // A child and its data change nothing about it.
    bench.layer("child", Some(&layer), &script().noise("more", 500_000, 1))?;
    for handle in [bench.driver(), bench.driver(), &bench.reopen()?] {
        ensure_eq!(handle.usage(&layer, &Context::new())?, sealed, "usage of the sealed layer");
    }
    Ok(())
}

const DATA: usize = 4 << 20;

fn data_is_counted_once(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script())?;
    let empty = bench.driver().usage(&base, &Context::new())?;
    let content = script().noise("data", DATA, 3).link("dir/again", "data").link("dir/and-again", "data");
    let layer = bench.layer("layer", Some(&base), &content)?;
    let usage = bench.driver().seal(&layer, None, &Context::new())?;
    let (least, most) = (DATA as u64, DATA as u64 * 3 / 2 + empty.bytes);
    ensure!((least..most).contains(&usage.bytes), "{DATA} bytes of data under three names take {usage:?}");
    ensure!(usage.inodes > empty.inodes, "a file and a directory take no inode: {usage:?}");
    Ok(())
}

fn empty_child_is_small(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().noise("data", DATA, 4))?;
    let child = bench.layer("child", Some(&base), &script())?;
    let usage = bench.driver().seal(&child, None, &Context::new())?;
    ensure!(usage.bytes < 64 << 10, "an empty child takes {usage:?}");
    Ok(())
}

fn labels_are_not_empty(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script())?;
    let child = bench.layer("child", Some(&base), &script())?;
    let mut pairs = driver.status()?;
    for layer in [&base, &child] {
        let metadata = driver.metadata(layer)?;
        ensure!(!metadata.is_empty(), "{layer} has no metadata");
        pairs.extend(metadata);
    }
    for (label, value) in &pairs {
        ensure!(!label.trim().is_empty(), "an empty label for {value:?}");
    }
    ensure!(!driver.name().is_empty(), "the driver has no name");
    Ok(())
}
