//! What outlives a handle, a process, and a process killed in the middle (L13-L15, L22).

use std::time::Duration;

use layerstore_changeset as changeset;
use layerstore_changeset::{ChangeSource, Item};

use super::prelude::*;
use crate::script::ScriptSource;
use layerstore_driver::Look;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "L13",
        name: "another_handle_finds_every_layer",
        title: "sealed and writable layers are there, unchanged, when the driver is opened again",
        needs: &[],
        run: another_handle,
    },
    Case {
        clause: "L13",
        name: "another_process_finds_every_layer",
        title: "what one process made another reads, and the other way round",
        needs: &[],
        run: another_process,
    },
    Case {
        clause: "L14",
        name: "killed_in_create",
        title: "a process killed in create leaves the new layer absent or whole",
        needs: &[],
        run: killed_in_create,
    },
    Case {
        clause: "L14",
        name: "killed_in_apply",
        title: "a process killed in apply leaves a layer that can be removed, and all others as they were",
        needs: &[],
        run: killed_in_apply,
    },
    Case {
        clause: "L14",
        name: "killed_in_seal",
        title: "a process killed in seal leaves the layer as it was before or after",
        needs: &[],
        run: killed_in_seal,
    },
    Case {
        clause: "L14",
        name: "killed_in_remove",
        title: "a process killed in remove leaves the layer whole or its id free",
        needs: &[],
        run: killed_in_remove,
    },
    Case {
        clause: "L22",
        name: "a_part_of_a_changeset_is_told",
        title: "a layer into which a killed process applied a part is told as half applied, and no sooner",
        needs: &[],
        run: a_part_is_told,
    },
    Case {
        clause: "L15",
        name: "recover_leaves_live_ids_alone",
        title: "recover does not touch what others work on, and does when nobody does",
        needs: &[],
        run: live_ids_are_left_alone,
    },
    Case {
        clause: "L15",
        name: "recovering_twice_finds_nothing_new",
        title: "a second recover in a row reports nothing",
        needs: &[],
        run: second_recover_finds_nothing,
    },
];

pub(super) const ACTIONS: &[Action] = &[
    Action { name: "make_layers", run: make_layers },
    Action { name: "create", run: create },
    Action { name: "apply_half", run: apply_half },
    Action { name: "seal", run: seal },
    Action { name: "remove", run: remove },
];

/// Enough files that copying or removing them takes a few milliseconds.
fn many_files() -> Script {
    (0..200).fold(script().dir("dir"), |all, number| all.file(format!("dir/{number}"), format!("{number}")))
}

fn another_handle(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &many_files())?;
    let mut layers = vec![base.clone()];
    for number in 0..6 {
        layers.push(bench.layer(&format!("w{number}"), Some(&base), &script().file("own", [number]))?);
    }
    let before: Vec<_> = layers.iter().map(|layer| bench.view(layer)).collect::<Outcome<_>>()?;
    let again = bench.reopen()?;
    for (layer, before) in layers.iter().zip(&before) {
        ensure!(again.exists(layer)?, "{layer} does not exist when the driver is opened again");
        bench.view_of(&*again, layer)?.ensure_same(before, &format!("{layer} after opening again"))?;
    }
    // Writable means writable, and sealed means a child can be built.
    let more = script().file("more", "2");
    let last = layers.last().unwrap_or(&base);
    again.apply(last, &mut more.source(), &Context::new())?;
    again.create(&id("child")?, Some(&base), &CreateOptions::default(), &Context::new())?;
    ensure_eq!(bench.view(last)?.at("more")?.data, b"2", "what the other handle applied");
    Ok(())
}

fn another_process(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &many_files())?;
    bench.spawn("make_layers", &["base"])?.finish()?;
    let (sealed, writable) = (id("theirs-sealed")?, id("theirs-writable")?);
    ensure_eq!(bench.view(&sealed)?.at("theirs")?.data, b"1", "a file of the other process");
    bench.driver().apply(&writable, &mut script().file("ours", "3").source(), &Context::new())?;
    let view = bench.view(&writable)?;
    ensure_eq!(view.at("theirs2")?.data, b"2", "a file of the other process in its writable layer");
    ensure_eq!(view.at("ours")?.data, b"3", "a file put into the other process's layer");
    ensure!(bench.view(&base)?.has("dir/7"), "the base layer lost a file");
    Ok(())
}

fn make_layers(bench: &ActionBench) -> Outcome {
    let base = id(bench.argument(0)?)?;
    let driver = &**bench.driver();
    let sealed = crate::hands::sealed(driver, "theirs-sealed", Some(&base), &script().file("theirs", "1"))?;
    crate::hands::layer(driver, "theirs-writable", Some(&sealed), &script().file("theirs2", "2"))?;
    Ok(())
}

/// How long after the go the process is killed. The first ones hit an operation of a millisecond, the last ones
/// one that takes longer on a slow disk; some come after the end, which has to be right as well.
const DELAYS: [u64; 12] = [0, 100, 200, 400, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000];

/// Starts `action` on `layer` in another process and kills it after so many microseconds.
fn kill_in(bench: &Bench, action: &str, arguments: &[&str], delay: u64) -> Outcome {
    let mut child = bench.spawn(action, arguments)?;
    child.expect("ready")?;
    child.go()?;
    std::thread::sleep(Duration::from_micros(delay));
    child.kill()
}

/// Opens the root as the next process would, and recovers.
fn recovered(bench: &Bench) -> Outcome<std::sync::Arc<dyn Driver>> {
    let driver = bench.reopen()?;
    driver.recover(&|_| false, Look::Leftovers)?;
    Ok(driver)
}

/// The layer, or none when it does not exist: then its id must be free and unlisted.
fn whole_or_absent(driver: &dyn Driver, layer: &LayerId) -> Outcome<Option<layerstore_driver::LayerInfo>> {
    let listed = driver.layers()?.into_iter().find(|info| info.id == *layer);
    match driver.layer(layer) {
        Ok(info) => {
            ensure!(listed.is_some(), "{layer} exists but is not listed");
            Ok(Some(info))
        }
        Err(error) => {
            ensure_eq!(error.kind(), layerstore_driver::Kind::NotFound, "kind of error for {layer}: {error}");
            ensure!(listed.is_none(), "{layer} is listed but not found");
            driver.create(layer, None, &CreateOptions::default(), &Context::new())?;
            driver.remove(layer)?;
            Ok(None)
        }
    }
}

fn killed_in_create(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &many_files())?;
    let before = bench.view(&base)?;
    for (round, delay) in DELAYS.into_iter().enumerate() {
        let name = format!("child{round}");
        let child = id(&name)?;
        kill_in(bench, "create", &[&name, "base"], delay)?;
        let driver = recovered(bench)?;
        if let Some(info) = whole_or_absent(&*driver, &child)? {
            ensure_eq!(info.parent, Some(base.clone()), "parent of a layer whose maker was killed");
            bench.view_of(&*driver, &child)?.ensure_same(&before, "a layer whose maker was killed")?;
            driver.apply(&child, &mut script().file("new", "1").source(), &Context::new())?;
            driver.seal(&child, None, &Context::new())?;
            driver.remove(&child)?;
        }
    }
    bench.view(&base)?.ensure_same(&before, "the parent")?;
    // Had a killed create left a child behind, its parent would be in use for ever.
    Ok(bench.driver().remove(&base)?)
}

fn create(bench: &ActionBench) -> Outcome {
    let (layer, parent) = (id(bench.argument(0)?)?, id(bench.argument(1)?)?);
    bench.say("ready")?;
    bench.wait()?;
    Ok(bench.driver().create(&layer, Some(&parent), &CreateOptions::default(), &Context::new())?)
}

fn killed_in_apply(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &many_files())?;
    let before = bench.view(&base)?;
    for parent in [None, Some(&base)] {
        let layer = bench.layer("layer", parent, &script())?;
        let mut child = bench.spawn("apply_half", &["layer"])?;
        child.expect("half")?;
        child.kill()?;
        let driver = recovered(bench)?;
        if driver.layers()?.iter().any(|info| info.id == layer) {
            driver.remove(&layer)?;
        }
        let again = crate::hands::layer(&*driver, "layer", parent, &script().file("new", "1"))?;
        ensure!(!bench.view_of(&*driver, &again)?.has("half0"), "a new layer shows what was applied before");
        driver.remove(&again)?;
    }
    bench.view(&base)?.ensure_same(&before, "the parent")
}

fn a_part_is_told(bench: &Bench) -> Outcome {
    // On a busy machine nothing of what the driver was given may be on disk yet; such a round shows nothing.
    for milliseconds in [0, 50, 500, 2_000] {
        let layer = bench.layer("layer", None, &script())?;
        let mut child = bench.spawn("apply_half", &["layer"])?;
        child.expect("half")?;
        ensure!(!bench.driver().layer(&layer)?.half_applied, "half applied, while somebody is at it");
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill()?;
        let driver = bench.reopen()?;
        let Some(info) = whole_or_absent(&*driver, &layer)? else { return Ok(()) };
        ensure!(driver.layers()?.contains(&info), "the list says otherwise than {info:?}");
        if !info.half_applied {
            let shown = bench.view_of(&*driver, &layer)?;
            ensure!(!shown.has("half0"), "a layer shows a part of a changeset, and is not half applied");
        }
        driver.remove(&layer)?;
        if info.half_applied {
            return Ok(());
        }
    }
    Ok(())
}

/// Gives a script, and says a word and waits before its end.
struct Halting<'a> {
    bench: &'a ActionBench,
    script: ScriptSource<'a>,
    left: usize,
}

impl ChangeSource for Halting<'_> {
    fn next(&mut self) -> changeset::Result<Option<Item<'_>>> {
        if self.left == 0 {
            let stop =
                |failure: Failure| changeset::Error::stream("halt", std::io::Error::other(failure.message));
            self.bench.say("half").map_err(stop)?;
            self.bench.wait().map_err(stop)?;
        }
        self.left = self.left.wrapping_sub(1);
        self.script.next()
    }
}

fn apply_half(bench: &ActionBench) -> Outcome {
    let layer = id(bench.argument(0)?)?;
    let changes = (0..100).fold(script(), |all, number| all.file(format!("half{number}"), "data"));
    let mut source = Halting { bench, script: changes.source(), left: 50 };
    bench.driver().apply(&layer, &mut source, &Context::new())?;
    Ok(())
}

fn killed_in_seal(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &many_files())?;
    for (round, delay) in DELAYS.into_iter().enumerate() {
        let name = format!("layer{round}");
        let layer = bench.layer(&name, Some(&base), &many_files().file("own", "1"))?;
        let before = bench.view(&layer)?;
        kill_in(bench, "seal", &[&name], delay)?;
        let driver = recovered(bench)?;
        ensure!(whole_or_absent(&*driver, &layer)?.is_some(), "{layer} vanished in a seal");
        bench.view_of(&*driver, &layer)?.ensure_same(&before, "a layer whose sealing process was killed")?;
        let usage = driver.seal(&layer, None, &Context::new())?;
        ensure!(usage.inodes > 0, "the layer takes nothing: {usage:?}");
        driver.create(&id("child")?, Some(&layer), &CreateOptions::default(), &Context::new())?;
        driver.remove(&id("child")?)?;
        driver.remove(&layer)?;
    }
    Ok(())
}

fn seal(bench: &ActionBench) -> Outcome {
    let layer = id(bench.argument(0)?)?;
    bench.say("ready")?;
    bench.wait()?;
    bench.driver().seal(&layer, None, &Context::new())?;
    Ok(())
}

fn killed_in_remove(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("base", "1"))?;
    for (round, delay) in DELAYS.into_iter().enumerate() {
        let name = format!("layer{round}");
        let layer = bench.sealed(&name, Some(&base), &many_files())?;
        let before = bench.view(&layer)?;
        kill_in(bench, "remove", &[&name], delay)?;
        let driver = recovered(bench)?;
        if whole_or_absent(&*driver, &layer)?.is_some() {
            bench.view_of(&*driver, &layer)?.ensure_same(&before, "a layer whose remover was killed")?;
            driver.remove(&layer)?;
        }
    }
    // A half removed child must not keep its parent.
    Ok(bench.driver().remove(&base)?)
}

fn remove(bench: &ActionBench) -> Outcome {
    let layer = id(bench.argument(0)?)?;
    bench.say("ready")?;
    bench.wait()?;
    Ok(bench.driver().remove(&layer)?)
}

fn live_ids_are_left_alone(bench: &Bench) -> Outcome {
    let mine = bench.layer("mine", None, &script())?;
    let mut child = bench.spawn("apply_half", &["mine"])?;
    child.expect("half")?;
    let other = bench.reopen()?;
    // The other process is alive and well: neither what it claims nor anything else may be touched.
    other.recover(&|layer| *layer == mine, Look::Leftovers)?;
    child.go()?;
    child.finish()?;
    let view = bench.view(&mine)?;
    ensure!(
        view.has("half0") && view.has("half99"),
        "recovery took files from a live apply: {}",
        view.names()
    );
    other.seal(&mine, None, &Context::new())?;
    other.recover(&|_| false, Look::Leftovers)?;
    bench.view(&mine)?.ensure_same(&view, "a whole layer after a recovery")
}

fn second_recover_finds_nothing(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &many_files())?;
    bench.layer("layer", Some(&base), &script())?;
    let mut child = bench.spawn("apply_half", &["layer"])?;
    child.expect("half")?;
    child.kill()?;
    for action in ["create", "remove"] {
        bench.sealed(&format!("{action}-me"), Some(&base), &many_files())?;
        let name = if action == "create" { "created".to_owned() } else { format!("{action}-me") };
        kill_in(bench, action, &[&name, "base"], 500)?;
    }
    let driver = bench.reopen()?;
    let first = driver.recover(&|_| false, Look::Leftovers)?;
    for found in &first {
        ensure!(!found.what.trim().is_empty(), "recovery does not say what it found: {found:?}");
    }
    let second = driver.recover(&|_| false, Look::Leftovers)?;
    ensure!(second.is_empty(), "a second recovery finds {second:?} after {first:?}");
    let third = bench.reopen()?.recover(&|_| false, Look::Leftovers)?;
    ensure!(third.is_empty(), "a recovery by another handle finds {third:?}");
    Ok(())
}
