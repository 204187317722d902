//! Views with options: id mappings, volatile ones and flags (M9, M10, M13).

use std::os::fd::AsFd as _;

use layerstore_driver::{Error, IdMap, IdMapping, Kind, MountFlags};
use layerstore_sys::mount::flags_of;

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "M9",
        name: "a_mapped_view_shows_mapped_owners_and_stores_others",
        title: "an id-mapped view shows mapped owners; what is written is stored and diffed unmapped",
        needs: &[
            Claims(Claim::IdMapped),
            Has(Feature::Mounts),
            Has(Feature::IdMappedMounts),
            Has(Feature::Owners),
        ],
        run: mapped_view,
    },
    Case {
        clause: "M9",
        name: "a_mapping_that_is_not_claimed_is_refused",
        title: "a plan with an id mapping is Unsupported without the capability",
        needs: &[Without(Claim::IdMapped)],
        run: mapping_is_refused,
    },
    Case {
        clause: "M10",
        name: "a_volatile_view_works_again_and_again",
        title: "a volatile view takes writes, also the second time, and what was written is there",
        needs: &[Claims(Claim::Volatile), Has(Feature::Mounts)],
        run: volatile_view,
    },
    Case {
        clause: "M10",
        name: "a_volatile_view_that_is_not_claimed_is_refused",
        title: "a volatile plan is Unsupported without the capability",
        needs: &[Without(Claim::Volatile)],
        run: volatile_is_refused,
    },
    Case {
        clause: "M13",
        name: "a_view_has_the_flags_that_were_asked_for",
        title: "nodev, nosuid, noexec and noatime are set on every kind of view, each by itself",
        needs: &[Has(Feature::Mounts)],
        run: flagged_view,
    },
];

const SHIFT: u32 = 100_000;

fn shifted(access: Access) -> PlanOptions {
    let map = vec![
        IdMap { on_disk: 0, shown: SHIFT, count: 10_000 },
        // Whoever runs the suite, so that it can make files in the view: what is not mapped makes none.
        IdMap { on_disk: 60_000, shown: 0, count: 1 },
    ];
    let id_mapping = Some(IdMapping { users: map.clone(), groups: map });
    PlanOptions { access, id_mapping, ..PlanOptions::default() }
}

fn mapped_view(bench: &Bench) -> Outcome {
    let base =
        bench.sealed("base", None, &script().file("lower", "1").owner(1_000, 1_001).file("deep/f", "1"))?;
    let layer = bench.layer("layer", Some(&base), &script().file("upper", "2").owner(5, 6))?;
    for (layer, access) in
        [(&base, Access::ReadOnly), (&layer, Access::ReadOnly), (&layer, Access::ReadWrite)]
    {
        let mount = bench.mount_with(layer, &shifted(access))?;
        let tree = mount.tree()?;
        for (path, node) in &tree.0 {
            let path = path.escape_ascii();
            ensure!(node.uid >= SHIFT && node.gid >= SHIFT, "/{path} of {layer} is shown as {node:?}");
        }
        ensure_eq!(
            (tree.at("lower")?.uid, tree.at("lower")?.gid),
            (101_000, 101_001),
            "owner of a lower file"
        );
        if access == Access::ReadWrite {
            let dir = mount.dir()?;
            dir.create_file(b"made", 0o644)?;
            dir.set_owner(b"made", SHIFT + 42, SHIFT + 43)?;
            dir.set_mode(b"lower", 0o600)?;
        }
        mount.unmount()?;
    }
    let stored = bench.view(&layer)?;
    for (path, owner) in [("lower", (1_000, 1_001)), ("upper", (5, 6)), ("made", (42, 43)), ("deep", (0, 0))]
    {
        let node = stored.at(path)?;
        ensure_eq!((node.uid, node.gid), owner, "stored owner of /{path}");
    }
    for step in bench.diff(&layer)?.steps() {
        if let layerstore_changeset::Change::Put(entry) = &step.change {
            let owner = entry.metadata.uid;
            ensure!(owner < SHIFT, "the diff has the mapped owner {owner} for {}", entry.path);
        }
    }
    Ok(())
}

fn mapping_is_refused(bench: &Bench) -> Outcome {
    let layer = bench.layer("layer", None, &script())?;
    let plan = bench.driver().plan(&layer, &shifted(Access::ReadWrite));
    let error = ensure_refused!(plan, Unsupported, "an id mapping");
    ensure!(!error.message().is_empty(), "the refusal has no reason");
    Ok(())
}

fn volatile(access: Access) -> PlanOptions {
    PlanOptions { access, volatile: true, ..PlanOptions::default() }
}

fn volatile_view(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("lower", "1"))?;
    let layer = bench.layer("layer", Some(&base), &script())?;
    for round in 0..3 {
        let mount = bench.mount_with(&layer, &volatile(Access::ReadWrite))?;
        ensure_eq!(mount.tree()?.at("lower")?.data, b"1", "a lower file in round {round}");
        mount.write(&format!("made{round}"), "2")?;
        mount.unmount()?;
        // And in turn with a view that is not.
        bench.mount(&layer)?.unmount()?;
    }
    bench.driver().seal(&layer, None, &Context::new())?;
    ensure_eq!(bench.view(&layer)?.names(), "lower made0 made1 made2", "what was written");
    Ok(())
}

fn volatile_is_refused(bench: &Bench) -> Outcome {
    let layer = bench.layer("layer", None, &script())?;
    let plan = bench.driver().plan(&layer, &volatile(Access::ReadWrite));
    let error = ensure_refused!(plan, Unsupported, "a volatile view");
    ensure!(!error.message().is_empty(), "the refusal has no reason");
    Ok(())
}

fn flagged_view(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("lower", "1"))?;
    let layer = bench.layer("layer", Some(&base), &script().file("upper", "2"))?;
    for word in ["nodev", "nosuid", "noexec", "noatime"] {
        let flags: MountFlags = word.parse()?;
        for (layer, access) in
            [(&base, Access::ReadOnly), (&layer, Access::ReadOnly), (&layer, Access::ReadWrite)]
        {
            let options = PlanOptions { access, flags, ..PlanOptions::default() };
            let refused = |error: &Error| error.kind() == Kind::Unsupported && flags.noatime;
            if bench.driver().mount_detached(layer, &options).err().as_ref().is_some_and(refused) {
                continue;
            }
            let mount = bench.mount_with(layer, &options)?;
            let has = flags_of(mount.dir()?.as_fd())?;
            let set = [
                ("nodev", has.nodev),
                ("nosuid", has.nosuid),
                ("noexec", has.noexec),
                ("noatime", has.noatime),
            ];
            ensure!(set.contains(&(word, true)), "{word} was asked for, and the view of {layer} has {has:?}");
            mount.unmount()?;
        }
    }
    Ok(())
}
