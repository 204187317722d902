//! Putting a sound layer in the place of another one (L20).

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "L20",
        name: "a_layer_takes_another_one_s_content",
        title: "replace gives a layer the content of another one, which is gone then; children stay",
        needs: &[],
        run: takes_content,
    },
    Case {
        clause: "L20",
        name: "what_does_not_fit_replaces_nothing",
        title: "replace by a layer that is writable, has another parent or has children is refused",
        needs: &[],
        run: unfit_is_refused,
    },
    Case {
        clause: "L20",
        name: "a_mounted_layer_is_not_replaced",
        title: "replace of a mounted layer, or by one, is InUse, and works after the unmount",
        needs: &[Has(Feature::Mounts)],
        run: mounted_is_refused,
    },
];

fn takes_content(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("below", "1"))?;
    let old = bench.sealed("old", Some(&base), &script().file("data", "old").file("lost", "x"))?;
    let child = bench.sealed("child", Some(&old), &script().file("own", "1"))?;
    let new = bench.sealed("new", Some(&base), &script().file("data", "new"))?;
    let wanted = bench.view(&new)?;
    driver.replace(&old, &new)?;
    bench.view(&old)?.ensure_same(&wanted, "the replaced layer")?;
    ensure!(!driver.exists(&new)?, "{new} is there still");
    ensure_eq!(driver.layers()?.len(), 3, "layers");
    ensure_refused!(driver.remove(&old), InUse, "removing the replaced layer, which has a child");
    let seen = bench.view(&child)?;
    ensure!(seen.has("own"), "the child lost its own content");
    // Full copies do not follow, all others do.
    if !driver.capabilities().last_resort {
        ensure!(!seen.has("lost"), "the child shows what was replaced");
    }
    let again = bench.reopen()?;
    bench.view_of(&*again, &old)?.ensure_same(&wanted, "the replaced layer, seen by another handle")?;
    for layer in [&child, &old, &base] {
        driver.remove(layer)?;
    }
    ensure_eq!(driver.layers()?.len(), 0, "layers at the end");
    Ok(())
}

fn unfit_is_refused(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("below", "1"))?;
    let old = bench.sealed("old", Some(&base), &script().file("data", "old"))?;
    let before = bench.view(&old)?;
    let writable = bench.layer("writable", Some(&base), &script())?;
    let orphan = bench.sealed("orphan", None, &script())?;
    let parent = bench.sealed("parent", Some(&base), &script())?;
    bench.layer("child", Some(&parent), &script())?;
    for (with, what) in [(&writable, "a writable layer"), (&orphan, "a base layer"), (&parent, "a parent")] {
        ensure_refused!(driver.replace(&old, with), InvalidInput, "replacing by {what}");
        ensure!(driver.exists(with)?, "{what} is gone after a refusal");
    }
    ensure_refused!(
        driver.replace(&old, &id("missing")?),
        NotFound,
        "replacing by a layer that is not there"
    );
    bench.view(&old)?.ensure_same(&before, "the layer after every refusal")
}

fn mounted_is_refused(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("below", "1"))?;
    let old = bench.sealed("old", Some(&base), &script().file("data", "old"))?;
    let new = bench.sealed("new", Some(&base), &script().file("data", "new"))?;
    for mounted in [&old, &new] {
        let mount = bench.mount_with(mounted, &read_only())?;
        ensure_refused!(driver.replace(&old, &new), InUse, "replacing while {mounted} is mounted");
        mount.unmount()?;
    }
    driver.replace(&old, &new)?;
    ensure_eq!(bench.view(&old)?.at("data")?.data, b"new", "data after the unmount");
    Ok(())
}
