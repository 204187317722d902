//! The life of a container, again and again: nothing leaks, and the database stays whole.
//!
//! `LAYERSTORE_SOAK=100000` is the store's promise (`cargo xtask soak`); without it, a few hundred rounds.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::*;
use layerstore::{CheckOptions, ContainerOptions, Context, MountOptions};

/// Threads with a handle of their own, as programs would have.
const WORKERS: usize = 4;

fn rounds() -> usize {
    std::env::var("LAYERSTORE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// How many descriptors this process has open.
fn open_files() -> usize {
    listing("/proc/self/fd").len()
}

/// Processes that this one started and that are still there, as the kernel names them.
fn children() -> Vec<String> {
    let own = format!(" {} ", std::process::id());
    let is_child = |process: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // Behind the name: the state and the number of the parent.
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.chars().skip(2).collect::<String>().starts_with(&own))
    };
    let processes =
        listing("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.filter(is_child).collect()
}

fn mounts(scratch: &Scratch) -> usize {
    let table = String::from_utf8_lossy(&std::fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    table.lines().filter(|line| line.contains(&*scratch.path().to_string_lossy())).count()
}

/// One after the other: they count what the process has.
#[test]
fn rounds_of_create_mount_unmount_remove_leave_nothing() {
    for driver in ["overlay2", "vfs"] {
        soak(driver);
    }
}

fn soak(driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let space = || store.space().unwrap().total;
    let (space_before, threads_before) = (space(), listing("/proc/self/task").len());
    let handles: Vec<_> = (0..WORKERS).map(|_| scratch.open(driver)).collect();
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let mut files_before = 0;
    // The first rounds fill pools of connections; after that nothing grows.
    for rounds in [40, rounds()] {
        next.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for store in &handles {
                let next = &next;
                scope.spawn(move || {
                    let context = Context::new();
                    while next.fetch_add(1, Ordering::SeqCst) < rounds {
                        let made =
                            store.create_container("small", &ContainerOptions::default(), &context).unwrap();
                        let place = store.mount(&made.id, &MountOptions::default()).unwrap();
                        std::fs::write(place.join("new"), &made.id).unwrap();
                        store.unmount(&made.id, None).unwrap();
                        store.remove_container(&made.id, false).unwrap();
                    }
                });
            }
        });
        if rounds == 40 {
            files_before = open_files();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{driver}: {} rounds in {seconds:.1} s, {:.2} ms each",
        rounds(),
        seconds * 1000.0 / rounds() as f64
    );
    assert_eq!(mounts(&scratch), 0, "mounts");
    assert!(open_files() <= files_before, "open files: {files_before}, then {}", open_files());
    assert!(children().is_empty(), "processes: {:?}", children());
    // A thread that was joined may take a moment to vanish.
    let end = Instant::now() + std::time::Duration::from_secs(10);
    while listing("/proc/self/task").len() > threads_before {
        assert!(Instant::now() < end, "threads are left");
    }
    for folder in ["root/staging", "root/containers", "run/mnt"] {
        assert!(listing(scratch.path().join(folder)).is_empty(), "{folder}");
    }
    for folder in ["root/DRIVER/trash", "root/DRIVER/staging", "run/DRIVER/uses", "run/DRIVER/locks"] {
        let folder = folder.replace("DRIVER", driver);
        assert!(listing(scratch.path().join(&folder)).is_empty(), "{folder}");
    }
    assert_eq!(space(), space_before);
    assert!(store.gc(false).unwrap().freed.is_empty());
    let check = store.check(CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
}
