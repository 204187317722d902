//! Who uses a layer, across threads, processes and mount namespaces, and what is left when they go (M4, M5, M8,
//! M12).

use std::sync::{Arc, Barrier};

use layerstore_driver::mount::MountString;

use super::prelude::*;
use crate::leak::{self, Holdings};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "M4",
        name: "a_second_writable_mount_is_refused",
        title: "one writable mount at a time: the second is InUse, attached or detached, also by another handle",
        needs: &[Has(Feature::Mounts)],
        run: second_writable_mount,
    },
    Case {
        clause: "M4",
        name: "another_process_is_refused_too",
        title: "a writable mount of another process, in this mount namespace or another, keeps others out",
        needs: &[Has(Feature::Mounts)],
        run: other_processes,
    },
    Case {
        clause: "M4",
        name: "of_many_threads_one_mounts",
        title: "of 50 threads that mount one layer writable, one succeeds and the others get InUse",
        needs: &[Has(Feature::Mounts)],
        run: many_threads,
    },
    Case {
        clause: "M4",
        name: "read_only_views_are_not_limited",
        title: "a sealed layer can be mounted read-only many times at once",
        needs: &[Has(Feature::Mounts)],
        run: many_readers,
    },
    Case {
        clause: "M5",
        name: "a_detached_mount_dies_with_its_process",
        title: "a killed process's detached mount holds the layer no longer",
        needs: &[Has(Feature::Mounts)],
        run: detached_dies,
    },
    Case {
        clause: "M5",
        name: "an_attached_mount_outlives_its_process",
        title: "a killed process's attached mount is still there, counts as use, and the next process undoes it",
        needs: &[Has(Feature::Mounts)],
        run: attached_lives,
    },
    Case {
        clause: "M5",
        name: "a_mount_in_a_dead_namespace_is_no_use",
        title: "an attached mount whose mount namespace died holds the layer no longer",
        needs: &[Has(Feature::Mounts)],
        run: namespace_dies,
    },
    Case {
        clause: "M8",
        name: "strings_mounted_by_hand_show_the_view",
        title: "mount strings, mounted by mount(2) in another process, show the view, and count until released",
        needs: &[Claims(Claim::MountStrings), Has(Feature::Mounts)],
        run: strings_by_hand,
    },
    Case {
        clause: "M12",
        name: "errors_leave_nothing_behind",
        title: "after refused and failed operations no descriptor and no mount is left",
        needs: &[],
        run: errors_leave_nothing,
    },
    Case {
        clause: "M12",
        name: "many_mounts_leave_nothing_behind",
        title: "after a hundred mounts and unmounts no descriptor, mount or lease is left",
        needs: &[Has(Feature::Mounts)],
        run: mounts_leave_nothing,
    },
];

pub(super) const ACTIONS: &[Action] = &[
    Action { name: "mount_attached", run: mount_attached },
    Action { name: "mount_detached", run: mount_detached },
    Action { name: "mount_strings", run: mount_strings },
];

fn writable(bench: &Bench) -> Outcome<LayerId> {
    let base = bench.sealed("base", None, &script().file("base", "1"))?;
    let middle = bench.sealed("middle", Some(&base), &script().file("middle", "2"))?;
    bench.layer("layer", Some(&middle), &script())
}

/// Fails unless every way to mount the layer writable is refused.
fn ensure_taken(bench: &Bench, driver: &dyn Driver, layer: &LayerId, what: &str) -> Outcome {
    let target = bench.target("second")?;
    ensure_refused!(driver.mount(layer, &read_write(), &target), InUse, "a second writable mount, {what}");
    let detached = driver.mount_detached(layer, &read_write()).map(drop);
    ensure_refused!(detached, InUse, "a second writable detached mount, {what}");
    Ok(())
}

/// Fails unless the layer can be mounted writable.
fn ensure_free(bench: &Bench, layer: &LayerId, what: &str) -> Outcome {
    let mount = bench.mount(layer).map_err(|failure| failure.context(what))?;
    mount.write("written", what)?;
    mount.unmount()
}

fn second_writable_mount(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = writable(bench)?;
    let other = bench.reopen()?;
    let mount = bench.mount(&layer)?;
    ensure_taken(bench, &**driver, &layer, "by the same handle")?;
    ensure_taken(bench, &*other, &layer, "by another handle")?;
    mount.write("first", "still works")?;
    mount.unmount()?;
    let detached = driver.mount_detached(&layer, &read_write())?;
    ensure_taken(bench, &**driver, &layer, "beside a detached one")?;
    ensure_taken(bench, &*other, &layer, "beside a detached one of another handle")?;
    drop(detached);
    ensure_free(bench, &layer, "after both were undone")
}

fn other_processes(bench: &Bench) -> Outcome {
    let layer = writable(bench)?;
    let target = bench.target("theirs")?;
    let target = target.to_str().unwrap_or_default();
    for namespace in [false, true] {
        for action in ["mount_attached", "mount_detached"] {
            let arguments = [layer.as_str(), target];
            let mut child = if namespace {
                bench.spawn_in_namespace(action, &arguments)?
            } else {
                bench.spawn(action, &arguments)?
            };
            child.expect("mounted")?;
            let what = format!("beside {action} of another process (own mount namespace: {namespace})");
            ensure_taken(bench, &**bench.driver(), &layer, &what)?;
            child.go()?;
            child.finish()?;
            ensure_free(bench, &layer, &what)?;
        }
    }
    // And the other way round.
    let mount = bench.mount(&layer)?;
    for namespace in [false, true] {
        let arguments = [layer.as_str(), target];
        let mut child = if namespace {
            bench.spawn_in_namespace("mount_detached", &arguments)?
        } else {
            bench.spawn("mount_detached", &arguments)?
        };
        child.expect("InUse")?;
        child.finish()?;
    }
    mount.unmount()
}

fn mount_attached(bench: &ActionBench) -> Outcome {
    let (layer, target) = (id(bench.argument(0)?)?, std::path::PathBuf::from(bench.argument(1)?));
    bench.driver().mount(&layer, &read_write(), &target)?;
    layerstore_sys::Dir::open(&target)?.open_or_create_file(b"theirs", 0o644)?;
    bench.say("mounted")?;
    bench.wait()?;
    Ok(bench.driver().unmount(&layer, &target)?)
}

fn mount_detached(bench: &ActionBench) -> Outcome {
    let layer = id(bench.argument(0)?)?;
    match bench.driver().mount_detached(&layer, &read_write()) {
        Ok(mount) => {
            bench.say("mounted")?;
            bench.wait()?;
            mount.close(&**bench.driver(), &layer)?;
        }
        Err(error) => bench.say(error.kind())?,
    }
    Ok(())
}

fn many_threads(bench: &Bench) -> Outcome {
    const THREADS: usize = 50;
    let layer = writable(bench)?;
    let barrier = Barrier::new(THREADS);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    bench.driver().mount_detached(&layer, &read_write())
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    ensure_eq!(results.len(), THREADS, "threads that came back");
    let mounted = results.iter().filter(|result| result.is_ok()).count();
    ensure_eq!(mounted, 1, "threads that have a writable mount");
    for result in results {
        if let Err(error) = result {
            ensure_eq!(error.kind(), layerstore_driver::Kind::InUse, "kind of error: {error}");
        }
    }
    ensure_free(bench, &layer, "after all threads are gone")
}

fn many_readers(bench: &Bench) -> Outcome {
    let layer = bench.sealed("layer", None, &script().file("f", "1"))?;
    let child = bench.sealed("child", Some(&layer), &script().file("g", "2"))?;
    for layer in [&layer, &child] {
        let mut mounts = Vec::new();
        for number in 0..20 {
            let target = bench.target(&format!("{layer}{number}"))?;
            mounts.push(View::mount(Arc::clone(bench.driver()), layer, &read_only(), &target)?);
            mounts.push(View::mount(
                bench.reopen()?,
                layer,
                &read_only(),
                &bench.target(&format!("{layer}{number}b"))?,
            )?);
        }
        ensure_eq!(bench.driver().mounts(layer)?.len(), 40, "mounts of {layer}");
        for mount in mounts {
            ensure!(mount.tree()?.has("f"), "a mount of {layer} lacks a file");
            mount.unmount()?;
        }
    }
    Ok(())
}

fn detached_dies(bench: &Bench) -> Outcome {
    let layer = writable(bench)?;
    for _ in 0..2 {
        let mut child = bench.spawn("mount_detached", &[layer.as_str()])?;
        child.expect("mounted")?;
        child.kill()?;
        ensure_free(bench, &layer, "after the process with the detached mount was killed")?;
    }
    bench.driver().seal(&layer, None, &Context::new())?;
    Ok(bench.driver().remove(&layer)?)
}

fn attached_lives(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = writable(bench)?;
    let target = bench.target("theirs")?;
    let mut child = bench.spawn("mount_attached", &[layer.as_str(), target.to_str().unwrap_or_default()])?;
    child.expect("mounted")?;
    child.kill()?;
    let tree = Tree::read(&layerstore_sys::Dir::open(&target)?)?;
    ensure_eq!(tree.names(), "base middle theirs", "names in the mount of the dead process");
    ensure_taken(bench, &**driver, &layer, "beside the mount of a dead process")?;
    let found: Vec<_> = driver.mounts(&layer)?.into_iter().map(|mounted| mounted.target).collect();
    ensure_eq!(found.as_slice(), std::slice::from_ref(&target), "where the layer is mounted");
    driver.unmount(&layer, &target)?;
    ensure_free(bench, &layer, "after this process undid the mount of the dead one")
}

fn namespace_dies(bench: &Bench) -> Outcome {
    let layer = writable(bench)?;
    let target = bench.target("theirs")?;
    let mut child =
        bench.spawn_in_namespace("mount_attached", &[layer.as_str(), target.to_str().unwrap_or_default()])?;
    child.expect("mounted")?;
    child.kill()?;
    // The kernel takes a namespace apart after its last process is gone, not before the wait for it returns.
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while bench.driver().leases().in_use(&layer)?.writable && std::time::Instant::now() < give_up {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ensure_free(bench, &layer, "after the mount namespace with the mount died")
}

fn strings_by_hand(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = writable(bench)?;
    let middle = id("middle")?;
    let base = id("base")?;
    for (layer, options, names) in [
        (&base, read_only(), "base"),
        (&middle, read_only(), "base middle"),
        (&layer, read_write(), "base middle"),
    ] {
        let strings = driver.mount_strings(layer, &options)?;
        ensure!(!strings.is_empty(), "no mount strings for {layer}");
        let in_use = driver.leases().in_use(layer)?;
        ensure!(in_use.writable || in_use.read_only > 0, "handed-out strings of {layer} are no use");
        let target = bench.target(&format!("strings-{layer}"))?;
        let json = serde_json::to_string(&strings)?;
        let mut child =
            bench.spawn_in_namespace("mount_strings", &[&json, target.to_str().unwrap_or_default()])?;
        let heard = child.hear()?;
        ensure_eq!(heard, names, "names in the mount that the strings of {layer} make");
        child.finish()?;
        driver.release_strings(layer)?;
        driver.release_strings(layer)?;
        let in_use = driver.leases().in_use(layer)?;
        ensure!(
            !in_use.writable && in_use.read_only == 0,
            "released strings of {layer} are a use: {in_use:?}"
        );
    }
    ensure_free(bench, &layer, "after the strings were released")
}

fn mount_strings(bench: &ActionBench) -> Outcome {
    use nix::mount::{MsFlags, mount};
    let strings: Vec<serde_json::Value> = serde_json::from_str(bench.argument(0)?)?;
    let target = bench.argument(1)?;
    let text = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    for string in &strings {
        let mut flags = MsFlags::empty();
        let mut data = Vec::new();
        let options = string.get("options").and_then(serde_json::Value::as_array);
        for option in options.into_iter().flatten().filter_map(serde_json::Value::as_str) {
            match option {
                "bind" => flags |= MsFlags::MS_BIND,
                "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
                "ro" => flags |= MsFlags::MS_RDONLY,
                "rw" => {}
                other => data.push(other),
            }
        }
        let (source, kind, data) = (text(string, "source"), text(string, "type"), data.join(","));
        let data = (!data.is_empty()).then_some(data.as_str());
        mount(Some(source.as_str()), target, Some(kind.as_str()), flags, data)
            .map_err(|errno| Failure::new(format!("mount(2) of {string}: {errno}")))?;
    }
    let dir = layerstore_sys::Dir::open(target)?;
    bench.say(Tree::read(&dir)?.names())
}

/// Mount strings are read back in the case's other process by their keys.
const _: fn(MountString) -> (String, String, Vec<String>) =
    |string| (string.r#type, string.source, string.options);

fn errors_leave_nothing(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("base", "1"))?;
    let context = Context::new();
    let missing = id("missing")?;
    // Once for what is opened at the first use and kept; what grows afterwards is a leak.
    let mut before = None;
    for _ in 0..3 {
        // Whether each is refused, and how, is what other clauses are about.
        let options = CreateOptions::default();
        let _ = driver.create(&base, None, &options, &context);
        let _ = driver.create(&missing, Some(&id("none")?), &options, &context);
        let _ = driver.apply(&base, &mut script().file("x", "1").source(), &context);
        let layer = bench.layer("layer", Some(&base), &script())?;
        let _ = driver.apply(&layer, &mut script().file("x", "1").link("y", "not-there").source(), &context);
        let _ = driver.remove(&base);
        driver.remove(&layer)?;
        let _ = driver.remove(&missing);
        let _ = driver.diff(&missing, Base::Parent, &mut script(), &context);
        let _ = driver.plan(&base, &read_write());
        let _ = driver.mount(&base, &read_only(), &bench.directory().join("no-such"));
        let held = Holdings::now()?;
        match &before {
            None => before = Some(held),
            Some(before) => {
                let left = Holdings::since(before)?;
                ensure!(left.is_empty(), "left behind by refused operations: {}", leak::text(&left));
            }
        }
    }
    Ok(())
}

fn mounts_leave_nothing(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = writable(bench)?;
    let sealed = id("middle")?;
    ensure_free(bench, &layer, "first")?;
    let before = Holdings::now()?;
    for number in 0..100 {
        match number % 3 {
            0 => bench.mount(&layer)?.unmount()?,
            1 => bench.mount_with(&sealed, &read_only())?.unmount()?,
            _ => drop(driver.mount_detached(&layer, &read_write())?),
        }
    }
    let left = Holdings::since(&before)?;
    ensure!(left.is_empty(), "left behind by a hundred mounts: {}", leak::text(&left));
    for layer in [&layer, &sealed] {
        let in_use = driver.leases().in_use(layer)?;
        ensure!(!in_use.writable && in_use.read_only == 0, "{layer} is in use after all: {in_use:?}");
    }
    Ok(())
}
