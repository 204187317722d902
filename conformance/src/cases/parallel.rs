//! Many threads and processes at once (P).

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use layerstore_changeset as changeset;
use layerstore_changeset::{ChangeSource, Item};

use super::prelude::*;
use crate::script::ScriptSource;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "P1",
        name: "a_long_apply_stops_nothing_else",
        title: "while one layer is applied, others are made, applied, diffed, sealed, mounted and removed",
        needs: &[],
        run: long_apply,
    },
    Case {
        clause: "P1",
        name: "a_long_apply_of_another_process_stops_nothing_else",
        title: "the same while another process applies",
        needs: &[],
        run: long_apply_elsewhere,
    },
    Case {
        clause: "P1",
        name: "fifty_threads_do_not_disturb_each_other",
        title: "50 threads make, apply, seal, read and remove layers of their own, and each is right",
        needs: &[],
        run: fifty_threads,
    },
    Case {
        clause: "P2",
        name: "of_fifty_threads_one_creates",
        title: "of 50 threads that create one id, one succeeds and the others get AlreadyExists",
        needs: &[],
        run: one_thread_creates,
    },
    Case {
        clause: "P2",
        name: "of_eight_processes_one_creates",
        title: "of 8 processes that create one id, one succeeds and the others get AlreadyExists",
        needs: &[],
        run: one_process_creates,
    },
    Case {
        clause: "P3",
        name: "removing_a_parent_races_with_making_a_child",
        title: "of a racing remove and create of a child, either the child has its parent or there is no child",
        needs: &[],
        run: remove_races_create,
    },
    Case {
        clause: "P4",
        name: "two_roots_know_nothing_of_each_other",
        title: "drivers on two roots have layers of the same ids and different content",
        needs: &[],
        run: two_roots,
    },
];

pub(super) const ACTIONS: &[Action] =
    &[Action { name: "apply_slowly", run: apply_slowly }, Action { name: "create_one", run: create_one }];

/// A script that stops at its first step until it is let go.
struct Stopping<'a, R: FnMut()> {
    script: ScriptSource<'a>,
    stop: Option<R>,
}

impl<R: FnMut()> ChangeSource for Stopping<'_, R> {
    fn next(&mut self) -> changeset::Result<Option<Item<'_>>> {
        let item = self.script.next()?;
        if let Some(mut stop) = self.stop.take() {
            stop();
        }
        Ok(item)
    }
}

/// How long others may take while one layer is busy. Only a driver that waits for it takes this long.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything that others may do meanwhile.
fn everything_else(bench: &Bench, base: &LayerId) -> Outcome {
    let driver = bench.driver();
    let layer = bench.layer("other", Some(base), &script().file("new", "1").remove("f"))?;
    ensure_eq!(bench.diff(&layer)?.steps().len(), 2, "entries of a diff");
    driver.seal(&layer, None, &Context::new())?;
    ensure_eq!(bench.view(&layer)?.names(), "new", "names in a view");
    bench.layer("child", Some(&layer), &script())?;
    if bench.has(Feature::Mounts) {
        let mount = bench.mount(&id("child")?)?;
        mount.write("written", "2")?;
        mount.unmount()?;
    }
    driver.layers()?;
    driver.remove(&id("child")?)?;
    driver.remove(&layer)?;
    Ok(())
}

/// Runs [`everything_else`] and fails when it does not come to its end before the patience does; `let_go` is
/// called in any case.
fn in_time(bench: &Bench, base: &LayerId, let_go: impl FnOnce() -> Outcome) -> Outcome {
    std::thread::scope(|scope| {
        let (done, finished): (Sender<Outcome>, Receiver<Outcome>) = channel();
        scope.spawn(move || {
            // The case may have given up; then nobody listens.
            let _ = done.send(everything_else(bench, base));
        });
        let result = finished.recv_timeout(PATIENCE);
        let_go()?;
        result.unwrap_or_else(|_| {
            Err(Failure::new(format!(
                "other layers waited more than {PATIENCE:?} for a layer that is being applied"
            )))
        })
    })
}

fn long_apply(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let busy = bench.layer("busy", Some(&base), &script())?;
    let (started, wait_started) = channel();
    let (go, wait_go) = channel::<()>();
    std::thread::scope(|scope| {
        let busy = &busy;
        let applying = scope.spawn(move || {
            let changes = script().file("a", "1").file("b", "2");
            let stop = || {
                let _ = started.send(());
                // Ends also when the case is gone and with it the other side.
                let _ = wait_go.recv();
            };
            let mut source = Stopping { script: changes.source(), stop: Some(stop) };
            bench.driver().apply(busy, &mut source, &Context::new()).map(drop)
        });
        wait_started.recv_timeout(PATIENCE)?;
        in_time(bench, &base, || {
            drop(go);
            Ok(())
        })?;
        applying.join().map_err(|_| Failure::crash("the applying thread panicked"))??;
        ensure_eq!(bench.view(busy)?.names(), "a b f", "names in the layer that took long");
        Ok(())
    })
}

fn long_apply_elsewhere(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let busy = bench.layer("busy", Some(&base), &script())?;
    let mut child = bench.spawn("apply_slowly", &["busy"])?;
    child.expect("started")?;
    in_time(bench, &base, || child.go())?;
    child.finish()?;
    ensure_eq!(bench.view(&busy)?.names(), "a b f", "names in the layer that took long");
    Ok(())
}

fn apply_slowly(bench: &ActionBench) -> Outcome {
    let layer = id(bench.argument(0)?)?;
    let changes = script().file("a", "1").file("b", "2");
    let mut said = Ok(());
    let stop = || said = bench.say("started").and_then(|()| bench.wait());
    let mut source = Stopping { script: changes.source(), stop: Some(stop) };
    bench.driver().apply(&layer, &mut source, &Context::new())?;
    drop(source);
    said
}

const THREADS: usize = 50;

/// Runs `work` in 50 threads that begin at the same moment, and gives what each returns.
fn at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Outcome<Vec<T>> {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(number)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Failure::crash("a thread panicked")))
            .collect()
    })
}

fn fifty_threads(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("f", "1").dir("dir").file("dir/g", "1"))?;
    let results = at_once(|number| -> Outcome {
        let name = format!("layer{number}");
        let changes = script().file("own", &name).remove("f").noise("data", 10_000, number as u64);
        let layer = bench.layer(&name, Some(&base), &changes)?;
        bench.driver().seal(&layer, None, &Context::new())?;
        let view = bench.view(&layer)?;
        ensure_eq!(view.names(), "data dir dir/g own", "names in {layer}");
        ensure_eq!(view.at("own")?.data, name.as_bytes(), "the file of {layer}");
        let child = bench.layer(&format!("child{number}"), Some(&layer), &script().file("own", "2"))?;
        ensure_eq!(bench.diff(&child)?.steps().len(), 1, "entries of the diff of {child}");
        bench.driver().remove(&child)?;
        if number % 2 == 0 {
            bench.driver().remove(&layer)?;
        }
        Ok(())
    })?;
    results.into_iter().collect::<Outcome<()>>()?;
    ensure_eq!(bench.driver().layers()?.len(), 1 + THREADS / 2, "layers that are left");
    Ok(())
}

/// Fails unless exactly one of many that created one id succeeded.
fn ensure_one_winner(results: Vec<Result<(), String>>) -> Outcome {
    let winners = results.iter().filter(|result| result.is_ok()).count();
    ensure_eq!(winners, 1, "how many of {} created the same id", results.len());
    for kind in results.into_iter().filter_map(Result::err) {
        ensure_eq!(kind, "AlreadyExists", "what the others got");
    }
    Ok(())
}

fn one_thread_creates(bench: &Bench) -> Outcome {
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    for round in 0..5 {
        let layer = id(&format!("layer{round}"))?;
        let results = at_once(|_| {
            let made = bench.driver().create(&layer, Some(&base), &CreateOptions::default(), &Context::new());
            made.map_err(|error| error.kind().to_string())
        })?;
        ensure_one_winner(results)?;
        ensure_eq!(bench.view(&layer)?.names(), "f", "names in the layer");
    }
    Ok(())
}

fn one_process_creates(bench: &Bench) -> Outcome {
    bench.sealed("base", None, &script().file("f", "1"))?;
    let mut children = Vec::new();
    for _ in 0..8 {
        children.push(bench.spawn("create_one", &["layer", "base"])?);
    }
    for child in &mut children {
        child.expect("ready")?;
    }
    for child in &mut children {
        child.go()?;
    }
    let mut results = Vec::new();
    for mut child in children {
        let word = child.hear()?;
        results.push(if word == "created" { Ok(()) } else { Err(word) });
        child.finish()?;
    }
    ensure_one_winner(results)?;
    ensure_eq!(bench.view(&id("layer")?)?.names(), "f", "names in the layer");
    Ok(())
}

fn create_one(bench: &ActionBench) -> Outcome {
    let (layer, base) = (id(bench.argument(0)?)?, id(bench.argument(1)?)?);
    bench.say("ready")?;
    bench.wait()?;
    match bench.driver().create(&layer, Some(&base), &CreateOptions::default(), &Context::new()) {
        Ok(()) => bench.say("created"),
        Err(error) => bench.say(error.kind()),
    }
}

fn remove_races_create(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let context = Context::new();
    for round in 0..40 {
        let parent = bench.sealed(&format!("parent{round}"), None, &script().file("f", "1"))?;
        let child = id(&format!("child{round}"))?;
        let barrier = Barrier::new(2);
        let removed = Mutex::new(None);
        let created = std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                let result = driver.remove(&parent);
                if let Ok(mut removed) = removed.lock() {
                    *removed = Some(result);
                }
            });
            barrier.wait();
            driver.create(&child, Some(&parent), &CreateOptions::default(), &context)
        });
        let removed =
            removed.into_inner().ok().flatten().ok_or_else(|| Failure::crash("the thread panicked"))?;
        match (removed, created) {
            (Ok(()), Err(error)) => {
                ensure_eq!(
                    error.kind(),
                    layerstore_driver::Kind::NotFound,
                    "create after the remove: {error}"
                );
                ensure_refused!(driver.layer(&child), NotFound, "asking for the child that was not made");
                ensure_refused!(driver.layer(&parent), NotFound, "asking for the removed parent");
            }
            (Err(error), Ok(())) => {
                ensure_eq!(error.kind(), layerstore_driver::Kind::InUse, "remove after the create: {error}");
                ensure_eq!(driver.layer(&child)?.parent, Some(parent.clone()), "parent of the child");
                ensure_eq!(bench.view(&child)?.names(), "f", "names in the child");
            }
            (removed, created) => {
                let message = format!("remove and create of a child both end so: {removed:?}, {created:?}");
                return Err(Failure::new(message));
            }
        }
    }
    Ok(())
}

fn two_roots(bench: &Bench) -> Outcome {
    let place = |name: &str| {
        let directory = bench.directory().join(name);
        bench.open_at(&directory.join("store"), &directory.join("store-run"))
    };
    let (one, two) = (place("one")?, place("two")?);
    let a = crate::hands::sealed(&*one, "layer", None, &script().file("one", "1"))?;
    ensure!(two.layers()?.is_empty(), "the second root lists layers of the first");
    ensure!(!two.exists(&a)?, "a layer of the first root exists in the second");
    let b = crate::hands::sealed(&*two, "layer", None, &script().file("two", "2"))?;
    ensure_eq!(bench.view_of(&*one, &a)?.names(), "one", "names in the first root's layer");
    ensure_eq!(bench.view_of(&*two, &b)?.names(), "two", "names in the second root's layer");
    let child = crate::hands::layer(&*one, "child", Some(&a), &script())?;
    if bench.has(Feature::Mounts) {
        // Mounted in the one, free in the other.
        let mount = one.mount_detached(&child, &read_write())?;
        two.remove(&b)?;
        drop(mount);
    } else {
        two.remove(&b)?;
    }
    ensure!(one.exists(&a)?, "the first root lost a layer that the second removed");
    Ok(())
}
