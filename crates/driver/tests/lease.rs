//! Mounts of layers: who may have which, and what is left when somebody dies.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use common::{Kernel, Plain, id, names, read_only, scratch, writable};
use layerstore_driver::{DriverExt as _, Kind, PlanOptions};
use rstest::rstest;

#[rstest]
fn a_mount_at_a_path_is_there_until_it_is_unmounted(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values(true, false)] write: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt ,:\\");
        let options = if write { writable() } else { read_only() };
        let layer = id("layer");
        let mounted = driver.mount(&layer, &options, &target).unwrap();
        assert_eq!(mounted.target, target);
        assert!(target.join("from-base").exists());
        assert_eq!(std::fs::write(target.join("new"), "new").is_ok(), write);
        // The same again is the same.
        assert_eq!(driver.mount(&layer, &options, &target).unwrap(), mounted);
        assert_eq!(driver.mounts(&layer).unwrap(), [mounted]);
        let in_use = driver.leases.in_use(&layer).unwrap();
        assert_eq!((in_use.writable, in_use.read_only), (write, u32::from(!write)));
        // Somebody else who opens the book sees it too.
        let other = Plain::open(top.path());
        assert_eq!(other.leases.in_use(&layer).unwrap(), in_use);
        other.unmount(&layer, &target).unwrap();
        assert_eq!(other.released(), 1);
        assert!(!target.join("from-base").exists());
        assert!(!driver.leases.in_use(&layer).unwrap().any());
        driver.unmount(&layer, &target).unwrap();
        assert_eq!(top.path().join("run/uses").read_dir().unwrap().count(), 0);
        assert_eq!(top.path().join("run/locks").read_dir().unwrap().count(), 0);
    });
}
