//! Mounts, attached and detached, and plans (M1-M3, M6, M7, M11).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use layerstore_sys as sys;

use super::prelude::*;
use crate::hands::open_mount;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "M1",
        name: "planning_twice_gives_the_same_plan_and_mounts_nothing",
        title: "plan is idempotent and leaves the mount table alone",
        needs: &[],
        run: plan_is_idempotent,
    },
    Case {
        clause: "M1",
        name: "a_mount_shows_the_view_until_it_is_undone",
        title: "mount shows the view at the directory, unmount takes it away, and again does no harm",
        needs: &[Has(Feature::Mounts)],
        run: mount_and_unmount,
    },
    Case {
        clause: "M2",
        name: "a_detached_mount_is_nowhere_and_goes_with_its_descriptor",
        title: "a detached mount shows the view, is not in the mount table, and is gone when it is dropped",
        needs: &[Has(Feature::Mounts)],
        run: detached_mount,
    },
    Case {
        clause: "M3",
        name: "a_read_only_view_refuses_every_write",
        title: "every write to a read-only view is EROFS: of a sealed, a writable and a base layer",
        needs: &[Has(Feature::Mounts)],
        run: read_only_refuses_writes,
    },
    Case {
        clause: "M6",
        name: "release_is_idempotent",
        title: "release does no harm when repeated, with a mount that is still there, or on an unknown id",
        needs: &[Has(Feature::Mounts)],
        run: release_is_idempotent,
    },
    Case {
        clause: "M7",
        name: "any_byte_may_be_in_the_paths",
        title: "root, runroot and target may hold spaces, commas, colons, backslashes, newlines and what is no UTF-8",
        needs: &[Has(Feature::Mounts)],
        run: odd_paths,
    },
    Case {
        clause: "M11",
        name: "a_sealed_layer_has_no_writable_view",
        title: "a writable plan or mount of a sealed layer is InvalidInput",
        needs: &[],
        run: sealed_is_not_writable,
    },
];

fn mount_table() -> Outcome<String> {
    Ok(sys::fs::read_to_string("/proc/self/mountinfo", 64 << 20)?)
}

fn layers(bench: &Bench) -> Outcome<[LayerId; 3]> {
    let base = bench.sealed("base", None, &script().file("base", "1").dir("dir").file("dir/f", "1"))?;
    let sealed = bench.sealed("sealed", Some(&base), &script().file("sealed", "2").remove("dir/f"))?;
    let writable = bench.layer("writable", Some(&sealed), &script().file("writable", "3"))?;
    Ok([base, sealed, writable])
}

fn plan_is_idempotent(bench: &Bench) -> Outcome {
    let [base, sealed, writable] = layers(bench)?;
    let before = mount_table()?;
    let wanted = [(&base, read_only()), (&sealed, read_only()), (&writable, read_write())];
    for (layer, options) in wanted {
        let first = bench.driver().plan(layer, &options)?;
        for _ in 0..2 {
            ensure_eq!(bench.driver().plan(layer, &options)?, first, "a second plan of {layer}");
        }
        ensure_eq!(mount_table()?, before, "mount table after planning {layer}");
        bench.driver().release(layer)?;
    }
    Ok(())
}

fn mount_and_unmount(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let [base, sealed, writable] = layers(bench)?;
    let before = mount_table()?;
    let wanted = [
        (&base, read_only(), "base dir dir/f"),
        (&sealed, read_only(), "base dir sealed"),
        (&writable, read_write(), "base dir sealed writable"),
    ];
    for (layer, options, names) in wanted {
        let target = bench.target(layer.as_str())?;
        // Unmounting what is not mounted, first: it is no error.
        driver.unmount(layer, &target)?;
        let mounted = driver.mount(layer, &options, &target)?;
        ensure_eq!(mounted.target, target, "where {layer} is mounted");
        let again = driver.mount(layer, &options, &target)?;
        ensure_eq!(again, mounted, "mounting {layer} at the same place again");
        ensure_eq!(Tree::read(&sys::Dir::open(&target)?)?.names(), names, "names in the mount of {layer}");
        ensure_eq!(driver.mounts(layer)?, [mounted], "where the kernel has {layer}");
        for _ in 0..2 {
            driver.unmount(layer, &target)?;
            ensure_eq!(mount_table()?, before, "mount table after unmounting {layer}");
        }
        ensure!(driver.mounts(layer)?.is_empty(), "{layer} is mounted after its unmount");
    }
    Ok(())
}

fn detached_mount(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let [_, sealed, writable] = layers(bench)?;
    let before = mount_table()?;
    for (layer, options, names) in [
        (&sealed, read_only(), "base dir sealed"),
        (&writable, read_only(), "base dir sealed writable"),
        (&writable, read_write(), "base dir sealed writable"),
    ] {
        let mount = driver.mount_detached(layer, &options)?;
        let root = open_mount(&mount)?;
        ensure_eq!(mount_table()?, before, "mount table while {layer} is mounted detached");
        ensure_eq!(Tree::read(&root)?.names(), names, "names in the detached mount of {layer}");
        ensure!(driver.mounts(layer)?.is_empty(), "a detached mount has a place");
        if options.access == Access::ReadWrite {
            root.create_file(b"made", 0o644)?.write_all_at(b"4", 0)?;
        }
        drop(root);
        drop(mount);
        let in_use = driver.leases().in_use(layer)?;
        ensure!(!in_use.writable && in_use.read_only == 0, "a dropped mount is in use: {in_use:?}");
    }
    ensure_eq!(bench.view(&writable)?.at("made")?.data, b"4", "what was written through the detached mount");
    Ok(driver.remove(&writable)?)
}

fn read_only_refuses_writes(bench: &Bench) -> Outcome {
    let [base, sealed, writable] = layers(bench)?;
    for layer in [&base, &sealed, &writable] {
        let before = bench.view(layer)?;
        let mount = bench.mount_with(layer, &read_only())?;
        let dir = mount.dir()?;
        let file = b"base".as_slice();
        let writes: [(&str, sys::Result<()>); 10] = [
            ("create", dir.create_file(b"new", 0o644).map(drop)),
            ("open for writing", dir.open_file_rw(file).map(drop)),
            ("mkdir", dir.make_dir(b"new", 0o755)),
            ("symlink", dir.make_symlink(b"new", b"base")),
            ("link", dir.link(file, &dir, b"new")),
            ("unlink", dir.unlink(file)),
            ("rename", dir.rename(file, &dir, b"new")),
            ("chmod", dir.set_mode(file, 0o600)),
            ("chown", dir.set_owner(file, 0, 0)),
            ("utimens", dir.set_mtime(file, sys::Timestamp { seconds: 1, nanos: 0 })),
        ];
        for (what, result) in writes {
            match result {
                Err(error) if error.errno() == sys::Errno::ROFS => {}
                other => {
                    let message =
                        format!("{what} in a read-only view of {layer}: expected EROFS, found {other:?}");
                    return Err(Failure::new(message));
                }
            }
        }
        drop(dir);
        mount.unmount()?;
        bench.view(layer)?.ensure_same(&before, &format!("{layer} after the writes were refused"))?;
    }
    Ok(())
}

fn release_is_idempotent(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let [_, sealed, writable] = layers(bench)?;
    driver.release(&id("unknown")?)?;
    for (layer, options) in [(&sealed, read_only()), (&writable, read_write())] {
        driver.release(layer)?;
        driver.plan(layer, &options)?;
        for _ in 0..2 {
            driver.release(layer)?;
        }
        let mount = bench.mount_with(layer, &options)?;
        driver.release(layer)?;
        ensure!(mount.tree()?.has("base"), "the mount of {layer} lost its content to a release");
        if options.access == Access::ReadWrite {
            mount.write("after-release", "4")?;
        }
        mount.unmount()?;
        driver.release(layer)?;
    }
    ensure_eq!(bench.view(&writable)?.at("after-release")?.data, b"4", "what was written after the release");
    Ok(())
}

fn odd_paths(bench: &Bench) -> Outcome {
    let names: [&[u8]; 5] = [
        b"plain",
        b"with space, comma:and\\colon",
        b"line\nfeed\ttab \"quoted\" 'too'",
        b"not \xff\xfe utf-8",
        b"[*]?$(a)%s\\040",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let place = bench.directory().join(format!("odd{number}")).join(OsStr::from_bytes(name));
        let driver = bench.open_at(&place.join("root"), &place.join("run"))?;
        let base = crate::hands::sealed(&*driver, "base", None, &script().file("base", "1"))?;
        let middle = crate::hands::sealed(&*driver, "middle", Some(&base), &script().file("middle", "2"))?;
        let top = crate::hands::layer(&*driver, "top", Some(&middle), &script())?;
        let target = place.join("target");
        sys::fs::make_dirs(&target, 0o755)?;
        for (layer, options, names) in [
            (&base, read_only(), "base"),
            (&middle, read_only(), "base middle"),
            (&top, read_write(), "base middle"),
        ] {
            let view = View::mount(Arc::clone(&driver), layer, &options, &target)
                .map_err(|failure| failure.context(format_args!("mounting {layer} below {place:?}")))?;
            ensure_eq!(view.tree()?.names(), names, "names in the mount of {layer} below {place:?}");
            if options.access == Access::ReadWrite {
                view.write("written", "3")?;
            }
            ensure_eq!(driver.mounts(layer)?.len(), 1, "mounts of {layer} below {place:?}");
            view.unmount()?;
        }
        ensure_eq!(
            bench.view_of(&*driver, &top)?.at("written")?.data,
            b"3",
            "what was written below {place:?}"
        );
    }
    Ok(())
}

fn sealed_is_not_writable(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let [base, sealed, _] = layers(bench)?;
    for layer in [&base, &sealed] {
        ensure_refused!(driver.plan(layer, &read_write()), InvalidInput, "a writable plan of {layer}");
        let target = bench.target("sealed")?;
        ensure_refused!(
            driver.mount(layer, &read_write(), &target),
            InvalidInput,
            "a writable mount of {layer}"
        );
        ensure_refused!(
            driver.mount_detached(layer, &read_write()).map(drop),
            InvalidInput,
            "a writable detached mount of {layer}"
        );
    }
    Ok(())
}
