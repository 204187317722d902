//! Many processes on one store: nobody fails, nobody waits long, nothing is done twice, nothing is left.
//!
//! `LAYERSTORE_CROWD=300` makes the crowd as large as the store's promise; without it, it is a small one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use layerstore::{CheckOptions, CommitOptions, ContainerOptions, Context, MountOptions, Store};
use rstest::rstest;

/// What a program without optimisation may take longer, on a machine that does other things too.
const SLOWER: u64 = if cfg!(debug_assertions) { 20 } else { 1 };

/// How many processes.
fn crowd() -> usize {
    std::env::var("LAYERSTORE_CROWD").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// What a child of this program works on.
struct Work {
    path: PathBuf,
    driver: String,
    task: String,
}

fn spawn(scratch: &Scratch, driver: &str, task: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("LAYERSTORE_TEST_CHILD", scratch.path())
        .env("LAYERSTORE_TEST_DRIVER", driver)
        .env("LAYERSTORE_TEST_TASK", task)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the other processes run.
#[test]
fn child() {
    let Some(path) = std::env::var_os("LAYERSTORE_TEST_CHILD") else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let work = Work {
        path: path.into(),
        driver: variable("LAYERSTORE_TEST_DRIVER"),
        task: variable("LAYERSTORE_TEST_TASK"),
    };
    let store = open(config_at(&work.path, &work.driver)).unwrap();
    let result = match work.task.as_str() {
        "pull" => small().pull(&store, &["small"]).unwrap().layers_new.to_string(),
        _ => twenty_operations(&store),
    };
    std::fs::write(work.path.join(format!("done-{}", std::process::id())), result).unwrap();
}

/// Twenty things that people do; returns the milliseconds of those that are one transaction.
fn twenty_operations(store: &Store) -> String {
    let context = Context::new();
    let own = format!("own-{}", std::process::id());
    let mut times = Vec::new();
    for round in 0..2 {
        let mut timed = |what: &str, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            times.push(format!("{what}={}", start.elapsed().as_millis()));
        };
        let made = store.create_container("small", &ContainerOptions::default(), &context).unwrap();
        timed("tag", &mut || drop(store.tag("small", &format!("{own}:{round}")).unwrap()));
        timed("containers", &mut || drop(store.containers().unwrap()));
        timed("images", &mut || drop(store.images().unwrap()));
        let place = store.mount(&made.id, &MountOptions::default()).unwrap();
        std::fs::write(place.join(&own), &made.id).unwrap();
        assert_eq!(store.diff(&made.id, &context).unwrap().len(), 1);
        if round == 0 {
            let options = CommitOptions { name: Some(own.clone()), ..CommitOptions::default() };
            store.commit(&made.id, &options, &context).unwrap();
        } else {
            store.remove_image(&own, false).unwrap();
        }
        store.unmount(&made.id, None).unwrap();
        timed("untag", &mut || drop(store.untag(&format!("{own}:{round}")).unwrap()));
        store.remove_container(&made.id, false).unwrap();
    }
    times.join(" ")
}

/// Waits for every child and returns what each one wrote.
fn results(scratch: &Scratch, children: Vec<Child>) -> Vec<String> {
    children
        .into_iter()
        .map(|mut child| {
            assert!(child.wait().unwrap().success(), "a process failed");
            std::fs::read_to_string(scratch.path().join(format!("done-{}", child.id()))).unwrap()
        })
        .collect()
}

fn nothing_is_wrong(store: &Store) {
    let check = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    let gc = store.gc(false).unwrap();
    assert!(gc.freed.is_empty(), "{:?}", gc.freed);
}

#[test]
fn a_crowd_of_processes_does_what_it_wants_without_an_error() {
    let scratch = Scratch::new();
    let store = scratch.open("overlay2");
    small().pull(&store, &["small"]).unwrap();
    let children: Vec<_> = (0..crowd()).map(|_| spawn(&scratch, "overlay2", "operations")).collect();
    let results = results(&scratch, children);
    let pairs: Vec<(&str, u64)> = results
        .iter()
        .flat_map(|line| line.split(' ').map(|pair| pair.split_once('=').unwrap()))
        .map(|(what, time)| (what, time.parse().unwrap()))
        .collect();
    for what in ["tag", "untag", "images", "containers"] {
        let mut times: Vec<u64> = pairs.iter().filter(|pair| pair.0 == what).map(|pair| pair.1).collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{} processes: {what}: median {} ms, 99 % {} ms", crowd(), at(50), at(99));
        // A list asks the kernel about every mount: no transaction.
        assert!(what == "containers" || at(99) < 1000 * SLOWER, "99 % of {what} took up to {} ms", at(99));
    }
    let images = store.images().unwrap();
    assert_eq!((images.len(), store.containers().unwrap().len()), (1, 0));
    // Whoever left a name's record to somebody else was right to.
    let record = scratch.path().join("root/images").join(images[0].id.hex()).join("names.json");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let names: Vec<String> = images[0].names.iter().map(ToString::to_string).collect();
    assert_eq!(record["names"], serde_json::json!(names));
    assert_eq!(store.driver().layers().unwrap().len(), 2);
    assert!(listing(scratch.path().join("run/mnt")).is_empty());
    nothing_is_wrong(&store);
}

#[rstest]
#[case("overlay2")]
#[case("vfs")]
fn a_crowd_that_pulls_one_image_unpacks_each_layer_once(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let children: Vec<_> = (0..crowd()).map(|_| spawn(&scratch, driver, "pull")).collect();
    let new: usize = results(&scratch, children).iter().map(|text| text.parse::<usize>().unwrap()).sum();
    assert_eq!(new, 2);
    assert_eq!(exported(&store, "small"), small().tars());
    nothing_is_wrong(&store);
}

/// Full checks, one after the other, while others pull, create, mount, commit and remove.
#[rstest]
#[case("overlay2")]
#[case("vfs")]
fn a_check_of_a_healthy_store_in_use_finds_nothing_and_disturbs_nobody(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let end = AtomicBool::new(false);
    let checks = std::thread::scope(|scope| {
        for worker in 0..4 {
            let (scratch, end) = (&scratch, &end);
            scope.spawn(move || {
                let store = scratch.open(driver);
                let context = Context::new();
                let mut round = 0;
                while !end.load(Ordering::SeqCst) {
                    round += 1;
                    let name = format!("image-{worker}-{round}");
                    let image = Memory::new([base_tar(), Tar::new().file("own", &name).bytes()], &name);
                    image.pull(&store, &[&name]).unwrap();
                    let made = store.create_container(&name, &ContainerOptions::default(), &context).unwrap();
                    let place = store.mount(&made.id, &MountOptions::default()).unwrap();
                    std::fs::write(place.join("new"), &name).unwrap();
                    let options =
                        CommitOptions { name: Some(format!("{name}:2")), ..CommitOptions::default() };
                    store.commit(&made.id, &options, &context).unwrap();
                    let layer = format!("layer-{worker}-{round}");
                    store
                        .layer_create(Some(&layer), None, &layerstore::CreateOptions::default(), &context)
                        .unwrap();
                    store.layer_seal(&layer, &context).unwrap();
                    store.layer_remove(&layer).unwrap();
                    store.remove_container(&made.id, true).unwrap();
                    store.remove_image(&format!("{name}:2"), false).unwrap();
                    store.remove_image(&name, false).unwrap();
                }
            });
        }
        let start = Instant::now();
        let mut checks = 0;
        while start.elapsed() < Duration::from_secs(5) || checks < 3 {
            let options = CheckOptions { quick: checks % 3 == 2, repair: checks % 2 == 1 };
            let check = store.check(options, &Context::new());
            if check.as_ref().is_ok_and(|check| check.findings.is_empty()) {
                checks += 1;
                continue;
            }
            end.store(true, Ordering::SeqCst);
            panic!("{:?}", check.map(|check| check.findings));
        }
        end.store(true, Ordering::SeqCst);
        checks
    });
    println!("{checks} checks");
    assert_eq!(store.images().unwrap().len(), 1);
    nothing_is_wrong(&store);
    assert_eq!(store.driver().layers().unwrap().len(), 2, "what a check held for a while was freed");
}
