//! Layers of limited size beside other layers, full ones above all (L21; that a limit holds is L18).

use std::collections::BTreeMap;

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "L21",
        name: "apply_beyond_the_size_limit_is_no_space",
        title: "apply of more than the limit is NoSpace, and the layer can be removed and made again",
        needs: &[Claims(Claim::SizeLimit)],
        run: apply_too_much,
    },
    Case {
        clause: "L21",
        name: "a_size_limit_takes_nothing_from_other_layers",
        title: "beside a full layer, its sibling takes what it is given",
        needs: &[Claims(Claim::SizeLimit), Has(Feature::Mounts)],
        run: sibling_of_full,
    },
    Case {
        clause: "L21",
        name: "a_layer_full_to_its_size_limit_is_sealed_and_built_on",
        title: "a full layer is sealed, and its children show it and take more than its limit",
        needs: &[Claims(Claim::SizeLimit), Has(Feature::Mounts)],
        run: child_of_full,
    },
    Case {
        clause: "L21",
        name: "a_layer_full_to_its_size_limit_is_removed",
        title: "a full layer is removed, and a new one of its name begins empty",
        needs: &[Claims(Claim::SizeLimit), Has(Feature::Mounts)],
        run: remove_full,
    },
    Case {
        clause: "L21",
        name: "files_under_a_size_limit_are_told_apart",
        title: "no two files in the view of a limited layer have the same device and inode",
        needs: &[Claims(Claim::SizeLimit), Has(Feature::Mounts)],
        run: told_apart,
    },
];

const LIMIT: u64 = 8 << 20;
/// More than the limit, whatever may be written late.
const MUCH: usize = 64 << 20;

fn limited(bench: &Bench, name: &str, parent: Option<&LayerId>) -> Outcome<LayerId> {
    let layer = id(name)?;
    let options = CreateOptions { size_limit: Some(LIMIT) };
    bench.driver().create(&layer, parent, &options, &Context::new())?;
    Ok(layer)
}

/// Writes until nothing more goes in: a large file, then small ones.
fn fill(view: &View) -> Outcome {
    unprivileged(|| fill_as_others(view))?
}

/// Does what a process in a container does: without the capability that is a way around quotas on some file systems.
pub(super) fn unprivileged<T>(write: impl FnOnce() -> T) -> Outcome<T> {
    Ok(layerstore_sys::privilege::without_resource(write)?)
}

fn fill_as_others(view: &View) -> Outcome {
    let dir = view.dir()?;
    let file = dir.create_file(b"large", 0o644)?;
    let piece = layerstore_testkit::noise(21, 1 << 20);
    let pieces = (MUCH >> 20) as u64;
    let refused =
        (0..pieces).any(|number| file.write_all_at(&piece, number << 20).and_then(|()| file.sync()).is_err());
    ensure!(refused, "{MUCH} bytes were written into a layer that is limited to {LIMIT}");
    for number in 0..1000 {
        let name = format!("small{number}");
        let written = dir
            .create_file(name.as_bytes(), 0o644)
            .and_then(|file| file.write_all_at(&[b'x'; 5000], 0).and_then(|()| file.sync()));
        if written.is_err() {
            return Ok(());
        }
    }
    Err(Failure::new("1,000 files were made in a layer that is full"))
}

fn apply_too_much(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let much = script().noise("large", MUCH, 1);
    for parent in [None, Some(&base)] {
        let layer = limited(bench, "limited", parent)?;
        ensure_refused!(
            driver.apply(&layer, &mut much.source(), &Context::new()),
            NoSpace,
            "applying {MUCH} bytes to a layer that is limited to {LIMIT}"
        );
        driver.remove(&layer)?;
        let layer = bench.layer("limited", parent, &much)?;
        driver.remove(&layer)?;
    }
    let layer = limited(bench, "enough", Some(&base))?;
    driver.apply(&layer, &mut script().noise("g", 1 << 20, 2).source(), &Context::new())?;
    ensure_eq!(bench.view(&layer)?.names(), "f g", "names in a layer that has room");
    Ok(())
}

fn sibling_of_full(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let (full, other) = (limited(bench, "full", Some(&base))?, limited(bench, "other", Some(&base))?);
    let free = bench.layer("free", Some(&base), &script())?;
    let view = bench.mount(&full)?;
    fill(&view)?;
    for (layer, size) in [(&other, LIMIT / 2), (&free, 2 * LIMIT)] {
        let beside = bench.mount(layer)?;
        beside.write("g", layerstore_testkit::noise(1, usize::try_from(size)?))?;
        beside.unmount()?;
    }
    view.unmount()?;
    ensure_eq!(bench.view(&other)?.names(), "f g", "names in the other limited layer");
    Ok(())
}

fn child_of_full(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let full = limited(bench, "full", Some(&base))?;
    let view = bench.mount(&full)?;
    fill(&view)?;
    view.unmount()?;
    driver.seal(&full, None, &Context::new())?;
    let before = bench.view(&full)?;
    let child = bench.layer("child", Some(&full), &script().noise("more", 2 * LIMIT as usize, 3))?;
    let view = bench.mount(&child)?;
    view.write("f", "2")?;
    view.write("large", "replaced")?;
    view.unmount()?;
    let shown = bench.view(&child)?;
    ensure_eq!(shown.at("f")?.data, b"2", "a file of the base, written in the child of a full layer");
    ensure_eq!(shown.at("large")?.data, b"replaced", "a file of the full layer, written in its child");
    ensure_eq!(shown.at("more")?.data.len() as u64, 2 * LIMIT, "size of what was applied to the child");
    bench.view(&full)?.ensure_same(&before, "the full layer after its child was written")?;
    ensure_refused!(driver.remove(&full), InUse, "removing a full layer that has a child");
    driver.remove(&child)?;
    driver.remove(&full)?;
    Ok(())
}

fn remove_full(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    for parent in [None, Some(&base)] {
        for _ in 0..2 {
            let full = limited(bench, "full", parent)?;
            let view = bench.mount(&full)?;
            fill(&view)?;
            view.unmount()?;
            driver.remove(&full)?;
            ensure!(!driver.exists(&full)?, "a full layer is there after its removal");
        }
    }
    let again = limited(bench, "full", Some(&base))?;
    ensure_eq!(bench.view(&again)?.names(), "f", "names in a new layer of that name");
    Ok(())
}

fn told_apart(bench: &Bench) -> Outcome {
    let mut many = script();
    for number in 0..40 {
        many = many.file(format!("lower/{number}"), "1");
    }
    // Both are limited, so that whatever a file system counts anew for such a layer is the same in both.
    let base = limited(bench, "base", None)?;
    bench.driver().apply(&base, &mut many.source(), &Context::new())?;
    bench.driver().seal(&base, None, &Context::new())?;
    let layer = limited(bench, "limited", Some(&base))?;
    let view = bench.mount(&layer)?;
    view.dir()?.make_dir(b"upper", 0o755)?;
    for number in 0..40 {
        view.write(&format!("upper/{number}"), "2")?;
    }
    ensure_apart(&view)?;
    view.unmount()?;
    // Looked at without writing, and once it is sealed.
    for _ in 0..2 {
        let view = bench.mount_with(&layer, &read_only())?;
        ensure_apart(&view)?;
        view.unmount()?;
        bench.driver().seal(&layer, None, &Context::new())?;
    }
    Ok(())
}

/// Fails when two names are one file to whoever compares device and inode.
fn ensure_apart(view: &View) -> Outcome {
    let root = view.dir()?;
    let mut seen = BTreeMap::new();
    for name in [b"lower".as_slice(), b"upper"] {
        let dir = root.open_dir(name)?;
        for entry in dir.entries()? {
            let stat = dir.stat(&entry.name)?;
            let path = dir.show(&entry.name);
            let id = (stat.device.major, stat.device.minor, stat.inode);
            if let Some(other) = seen.insert(id, path.clone()) {
                return Err(Failure::new(format!("{path} and {other} are both inode {id:?}")));
            }
        }
    }
    ensure_eq!(seen.len(), 80, "files that were looked at");
    Ok(())
}
