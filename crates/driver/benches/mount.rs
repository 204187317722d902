//! What mounting and unmounting through the contract costs beside the bare calls: `cargo bench -p layerstore-driver`.
//!
//! The bare pair is mount(2) and umount2(2) of the same overlay, in the same place, in the same run. Medians of 201.

#![allow(clippy::print_stdout, reason = "a measurement prints")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "no part of the product"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Kernel, Plain, id, writable};
use layerstore_driver::DriverExt as _;
use layerstore_sys::mount::{Flags, legacy, unmount};

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..201)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    Kernel::This.run(|| {
        for place in ["/dev/shm", "/var/tmp"] {
            let top = tempfile::tempdir_in(place).unwrap();
            let driver = Plain::open(&top.path().join("root"));
            let target = driver.target("mnt");
            common::upper(&driver.root.join("bare"));
            let root = driver.root.display().to_string();
            let options = format!("lowerdir={root}/base,upperdir={root}/bare/diff,workdir={root}/bare/work");
            let bare = median(|| {
                legacy::mount("overlay", "overlay", &target, Flags::default(), options.as_bytes()).unwrap();
                unmount(&target).unwrap();
            });
            let ours = median(|| {
                driver.mount(&id("layer"), &writable(), &target).unwrap();
                driver.unmount(&id("layer"), &target).unwrap();
            });
            let detached = median(|| drop(driver.mount_detached(&id("layer"), &writable()).unwrap()));
            let ratio = ours.as_secs_f64() / bare.as_secs_f64();
            println!(
                "{place}: bare {bare:?}, mount and unmount {ours:?} ({ratio:.2} times), detached {detached:?}"
            );
        }
    });
}
