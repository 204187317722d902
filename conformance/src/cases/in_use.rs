//! Layers that somebody uses: they are neither sealed while they are written nor removed (L6, L8, L9).

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "L6",
        name: "a_layer_mounted_writable_is_not_sealed",
        title: "seal of a layer that is mounted writable is InUse, and works after the unmount",
        needs: &[Has(Feature::Mounts)],
        run: mounted_is_not_sealed,
    },
    Case {
        clause: "L8",
        name: "a_layer_with_children_is_not_removed",
        title: "remove of a layer that has children is InUse; all keep their content",
        needs: &[],
        run: parent_is_not_removed,
    },
    Case {
        clause: "L8",
        name: "a_layer_is_free_when_its_last_child_is_gone",
        title: "after its children were removed a layer can be",
        needs: &[],
        run: childless_is_removed,
    },
    Case {
        clause: "L9",
        name: "a_mounted_layer_is_not_removed",
        title: "remove of a mounted layer is InUse, writable or read-only, and the mount keeps working",
        needs: &[Has(Feature::Mounts)],
        run: mounted_is_not_removed,
    },
    Case {
        clause: "L9",
        name: "a_layer_in_a_detached_mount_is_not_removed",
        title: "remove of a layer in a detached mount is InUse until the mount is dropped",
        needs: &[Has(Feature::Mounts)],
        run: detached_is_not_removed,
    },
];

fn mounted_is_not_sealed(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let layer = bench.layer("layer", Some(&base), &script())?;
    let mount = bench.mount(&layer)?;
    ensure_refused!(driver.seal(&layer, None, &Context::new()), InUse, "sealing a mounted layer");
    ensure_eq!(driver.layer(&layer)?.state, LayerState::Writable, "state after the refused seal");
    mount.write("f", "2")?;
    mount.unmount()?;
    driver.seal(&layer, None, &Context::new())?;
    ensure_eq!(bench.view(&layer)?.at("f")?.data, b"2", "what was written through the mount");
    Ok(())
}

fn parent_is_not_removed(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("base", "1"))?;
    let middle = bench.sealed("middle", Some(&base), &script().file("middle", "2"))?;
    bench.sealed("middle2", Some(&base), &script())?;
    let top = bench.layer("top", Some(&middle), &script().file("top", "3"))?;
    bench.layer("top2", Some(&middle), &script())?;
    let before = [bench.view(&base)?, bench.view(&middle)?, bench.view(&top)?];
    for layer in [&base, &middle] {
        ensure_refused!(driver.remove(layer), InUse, "removing {layer}, which has children");
    }
    for (layer, before) in [&base, &middle, &top].into_iter().zip(&before) {
        bench.view(layer)?.ensure_same(before, &format!("{layer} after the refused remove"))?;
    }
    Ok(())
}

fn childless_is_removed(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("base", "1"))?;
    let children = [bench.layer("a", Some(&base), &script())?, bench.sealed("b", Some(&base), &script())?];
    for child in &children {
        driver.remove(child)?;
    }
    driver.remove(&base)?;
    ensure!(driver.layers()?.is_empty(), "layers are left: {:?}", driver.layers()?);
    Ok(())
}

fn mounted_is_not_removed(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let sealed = bench.sealed("sealed", None, &script().file("f", "1"))?;
    let writable = bench.layer("writable", Some(&sealed), &script())?;
    let other = bench.sealed("other", None, &script().file("f", "1"))?;
    for (layer, options) in [(&writable, read_write()), (&other, read_only())] {
        let mount = bench.mount_with(layer, &options)?;
        ensure_refused!(driver.remove(layer), InUse, "removing {layer}, which is mounted");
        ensure_eq!(mount.tree()?.at("f")?.data, b"1", "a file in the mount after the refused remove");
        if options.access == Access::ReadWrite {
            mount.write("new", "2")?;
        }
        mount.unmount()?;
        driver.remove(layer)?;
    }
    Ok(())
}

fn detached_is_not_removed(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = bench.sealed("layer", None, &script().file("f", "1"))?;
    let mount = driver.mount_detached(&layer, &read_only())?;
    ensure_refused!(driver.remove(&layer), InUse, "removing a layer in a detached mount");
    let tree = Tree::read(&crate::hands::open_mount(&mount)?)?;
    ensure_eq!(tree.at("f")?.data, b"1", "a file in the mount after the refused remove");
    drop(mount);
    Ok(driver.remove(&layer)?)
}
