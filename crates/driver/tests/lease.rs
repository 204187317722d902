//! Mounts of layers: who may have which, and what is left when somebody dies.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unimplemented,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{Kernel, Plain, id, names, nothing_is_left, read_only, scratch, writable};
use layerstore_driver::lease::Place;
use layerstore_driver::{DriverExt as _, Kind, PlanOptions};
use rstest::rstest;

/// Another process that works on the same root, told what to do by its environment.
struct Process {
    child: Child,
    // Kept open, because the test runner writes to it at the end.
    output: BufReader<ChildStdout>,
    said: String,
}

impl Process {
    /// Starts it and waits until it has said what came of it; it then waits for its end.
    fn start(root: &Path, todo: &str, target: Option<&Path>) -> Self {
        let mut process = Self::begin(root, todo, target);
        process.listen();
        process
    }

    fn begin(root: &Path, todo: &str, target: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "another_process", "--ignored", "--nocapture"])
            .env("LAYERSTORE_TEST_ROOT", root)
            .env("LAYERSTORE_TEST_TODO", todo)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(target) = target {
            command.env("LAYERSTORE_TEST_TARGET", target);
        }
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, said: String::new() }
    }

    fn listen(&mut self) {
        for line in self.output.by_ref().lines() {
            let line = line.unwrap();
            // The test runner writes on the same line.
            if let Some((_, said)) = line.split_once("SAID ") {
                self.said = said.to_owned();
                return;
            }
        }
        panic!("the other process said nothing");
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What [`Process`] runs.
#[test]
#[ignore = "started by other tests"]
fn another_process() {
    let root = PathBuf::from(std::env::var_os("LAYERSTORE_TEST_ROOT").unwrap());
    let target = std::env::var_os("LAYERSTORE_TEST_TARGET").map(PathBuf::from).unwrap_or_default();
    let todo = std::env::var("LAYERSTORE_TEST_TODO").unwrap();
    if todo == "mount elsewhere" || todo == "copy" {
        layerstore_sys::mount::legacy::unshare_mounts().unwrap();
    }
    let driver = Plain::open(&root);
    let layer = id("layer");
    let wait = |said: &str| {
        println!("SAID {said}");
        std::io::stdout().flush().unwrap();
        std::io::stdin().read_line(&mut String::new()).unwrap();
    };
    match todo.as_str() {
        "detached" => match driver.mount_detached(&layer, &writable()) {
            Ok(_mount) => wait("won"),
            Err(error) => wait(error.kind().as_str()),
        },
        "mount" | "mount elsewhere" => {
            driver.mount(&layer, &writable(), &target).unwrap();
            wait("mounted");
        }
        "copy" => wait("copied"),
        "unmount" => {
            driver.unmount(&layer, &target).unwrap();
            wait("unmounted");
        }
        "lock" => {
            let _lock = driver.leases.lock(&layer).unwrap();
            wait("locked");
        }
        _ => panic!("{todo}?"),
    }
}

#[rstest]
fn a_mount_at_a_path_is_there_until_it_is_unmounted(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values(true, false)] write: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt ,:\\\n");
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
        nothing_is_left(&driver);
    });
}

#[rstest]
fn an_overview_says_what_asking_for_each_layer_says_and_ends_no_later_mount(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let (first, second, third) =
            (driver.target("first"), driver.target("second"), driver.target("third"));
        let (layer, other) = (id("layer"), id("other"));
        driver.mount(&layer, &writable(), &first).unwrap();
        driver.mount(&other, &read_only(), &second).unwrap();
        let overview = driver.leases.overview().unwrap();
        for id in [&layer, &other, &id("neither")] {
            assert_eq!(overview.uses(id).unwrap(), driver.leases.uses(id).unwrap());
        }
        // What is mounted after the overview has looked at the mount table is no dead use.
        driver.mount(&other, &read_only(), &third).unwrap();
        assert_eq!(overview.uses(&other).unwrap().len(), 2);
        assert_eq!(driver.mounts(&other).unwrap().len(), 2);
        driver.unmount(&layer, &first).unwrap();
        assert_eq!(overview.uses(&layer).unwrap(), []);
        driver.unmount(&other, &second).unwrap();
        driver.unmount(&other, &third).unwrap();
        nothing_is_left(&driver);
    });
}

#[rstest]
fn plans_of_every_shape_can_be_attached(
    #[values(Kernel::This, Kernel::V6_12, Kernel::V6_1, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values("bind-of-plan", "overlay-of-plan", "mapped", "mapped-bind")] layer: &str,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        match driver.mount(&id(layer), &writable(), &target) {
            Ok(_) => {
                assert!(target.join("from-sub").exists());
                std::fs::write(target.join("from-sub"), "written").unwrap();
                driver.unmount(&id(layer), &target).unwrap();
            }
            Err(error) => {
                let old = matches!(kernel, Kernel::V5_11 | Kernel::V5_1);
                assert!(old && layer.starts_with("mapped"), "{error}");
                assert_eq!(error.kind(), Kind::Unsupported);
            }
        }
        assert!(!target.join("from-sub").exists());
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_base_layer_is_bound_and_cannot_be_written(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        driver.mount(&id("base"), &read_only(), &target).unwrap();
        assert!(std::fs::write(target.join("new"), "new").is_err());
        driver.unmount(&id("base"), &target).unwrap();
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_layer_is_written_through_one_mount_and_the_error_says_which(
    #[values(Kernel::This, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let layer = id("layer");
        let refused = |expected: &str| {
            for error in [
                driver.mount_detached(&layer, &writable()).unwrap_err(),
                driver.mount(&layer, &writable(), &driver.target("other")).unwrap_err(),
                driver.mount_strings(&layer, &PlanOptions { volatile: true, ..writable() }).unwrap_err(),
            ] {
                assert_eq!(error.kind(), Kind::InUse);
                assert!(error.to_string().contains(expected), "{error}");
            }
        };
        let target = driver.target("mnt");
        driver.mount(&layer, &writable(), &target).unwrap();
        refused("mnt");
        let error = driver.mount(&layer, &read_only(), &target).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse, "{error}");
        // Reading it elsewhere is fine, and so is another layer.
        let reader = driver.mount_detached(&layer, &read_only()).unwrap();
        assert!(names(&reader).contains(&"from-base".to_owned()));
        drop(driver.mount_detached(&id("other"), &writable()).unwrap());
        driver.unmount(&layer, &target).unwrap();
        drop(reader);

        let detached = driver.mount_detached(&layer, &writable()).unwrap();
        refused(&format!("process {}", std::process::id()));
        detached.close(&driver, &layer).unwrap();

        driver.mount_strings(&layer, &writable()).unwrap();
        refused("mount strings");
        driver.release_strings(&layer).unwrap();
        nothing_is_left(&driver);
    });
}

#[test]
fn the_driver_is_told_when_the_last_mount_is_gone() {
    Kernel::This.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let layer = id("layer");
        let [one, two] = ["one", "two"].map(|name| driver.target(name));
        driver.mount(&layer, &read_only(), &one).unwrap();
        driver.mount(&layer, &read_only(), &two).unwrap();
        driver.mount_strings(&layer, &read_only()).unwrap();
        driver.mount_strings(&layer, &read_only()).unwrap();
        assert_eq!(driver.leases.in_use(&layer).unwrap().read_only, 3);
        driver.unmount(&layer, &one).unwrap();
        driver.release_strings(&layer).unwrap();
        assert_eq!(driver.released(), 0);
        driver.unmount(&layer, &two).unwrap();
        assert_eq!(driver.released(), 1);
        driver.mount_detached(&layer, &read_only()).unwrap().close(&driver, &layer).unwrap();
        assert_eq!(driver.released(), 2);
        nothing_is_left(&driver);
    });
}

#[rstest]
#[case::layer("missing", "mnt", Kind::NotFound)]
#[case::target("layer", "nowhere", Kind::NotFound)]
#[case::file("layer", "base/from-base", Kind::InvalidInput)]
fn a_mount_that_fails_leaves_nothing(#[case] layer: &str, #[case] target: &str, #[case] kind: Kind) {
    Kernel::This.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        driver.target("mnt");
        let error = driver.mount(&id(layer), &writable(), &top.path().join(target)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.layer(), Some(&id(layer)));
        driver.unmount(&id(layer), &top.path().join(target)).unwrap();
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_busy_mount_stays_and_so_does_its_lease(#[values(Kernel::This, Kernel::V5_1)] kernel: Kernel) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        let layer = id("layer");
        driver.mount(&layer, &writable(), &target).unwrap();
        let busy = std::fs::File::create(target.join("open")).unwrap();
        let error = driver.unmount(&layer, &target).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert!(error.to_string().contains("mnt"), "{error}");
        assert!(driver.leases.in_use(&layer).unwrap().writable);
        assert_eq!(driver.released(), 0);
        drop(busy);
        driver.unmount(&layer, &target).unwrap();
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_mount_that_another_covers_is_not_taken_for_it(#[values(Kernel::This, Kernel::V5_1)] kernel: Kernel) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        driver.mount(&id("layer"), &writable(), &target).unwrap();
        driver.mount(&id("cover"), &writable(), &target).unwrap();
        let error = driver.unmount(&id("layer"), &target).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert!(error.to_string().contains("covers"), "{error}");
        driver.unmount(&id("cover"), &target).unwrap();
        driver.unmount(&id("layer"), &target).unwrap();
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_mount_taken_down_by_hand_counts_no_more(#[values(Kernel::This, Kernel::V5_1)] kernel: Kernel) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        driver.mount(&id("layer"), &writable(), &target).unwrap();
        layerstore_sys::mount::unmount(&target).unwrap();
        assert!(!driver.leases.in_use(&id("layer")).unwrap().any());
        // The numbers of the dead mount go to the next one.
        driver.mount(&id("other"), &writable(), &driver.target("elsewhere")).unwrap();
        assert!(!driver.leases.in_use(&id("layer")).unwrap().any());
        driver.unmount(&id("other"), &driver.target("elsewhere")).unwrap();
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_killed_process_frees_what_it_had(
    #[values(Kernel::This, Kernel::V5_1)] kernel: Kernel,
    #[values("detached", "lock")] what: &str,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let layer = id("layer");
        let other = Process::start(top.path(), what, None);
        if what == "lock" {
            assert!(driver.leases.try_lock(&layer).unwrap().is_none());
        } else {
            assert_eq!(other.said, "won");
            let error = driver.mount_detached(&layer, &writable()).unwrap_err();
            assert!(error.to_string().contains(&format!("process {}", other.child.id())), "{error}");
        }
        other.kill();
        assert!(driver.leases.try_lock(&layer).unwrap().is_some());
        assert!(!driver.leases.in_use(&layer).unwrap().any());
        drop(driver.mount_detached(&layer, &writable()).unwrap());
        nothing_is_left(&driver);
    });
}

#[rstest]
fn an_attached_mount_outlives_its_process_and_any_process_unmounts_it(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
    #[values(true, false)] killed: bool,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        let layer = id("layer");
        let other = Process::start(top.path(), "mount", Some(&target));
        if killed {
            other.kill()
        } else {
            other.end()
        }
        assert!(target.join("from-base").exists());
        assert!(driver.leases.in_use(&layer).unwrap().writable);
        assert_eq!(driver.mount(&layer, &writable(), &target).unwrap().target, target);
        Process::start(top.path(), "unmount", Some(&target)).end();
        assert!(!target.join("from-base").exists());
        assert!(!driver.leases.in_use(&layer).unwrap().any());
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_mount_in_another_namespace_counts_as_long_as_that_lives(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        let layer = id("layer");
        let other = Process::start(top.path(), "mount elsewhere", Some(&target));
        assert!(!target.join("from-base").exists());
        let uses = driver.leases.uses(&layer).unwrap();
        assert!(matches!(&uses[..], [only] if only.place == Place::Attached { target: target.clone(), here: false }));
        assert!(driver.mounts(&layer).unwrap().is_empty());
        for error in [
            driver.unmount(&layer, &target).unwrap_err(),
            driver.mount_detached(&layer, &writable()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::InUse);
            assert!(error.to_string().contains("another mount namespace"), "{error}");
        }
        other.kill();
        await_free(&driver, &layer);
        drop(driver.mount_detached(&layer, &writable()).unwrap());
        nothing_is_left(&driver);
    });
}

#[rstest]
fn a_copy_in_another_namespace_keeps_a_layer_in_use(
    #[values(Kernel::This, Kernel::V5_11, Kernel::V5_1)] kernel: Kernel,
) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let target = driver.target("mnt");
        let layer = id("layer");
        driver.mount(&layer, &writable(), &target).unwrap();
        let other = Process::start(top.path(), "copy", None);
        driver.unmount(&layer, &target).unwrap();
        driver.unmount(&layer, &target).unwrap();
        assert_eq!(driver.released(), 0);
        let error = driver.mount_detached(&layer, &writable()).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert!(error.to_string().contains("another mount namespace"), "{error}");
        other.kill();
        await_free(&driver, &layer);
        drop(driver.mount_detached(&layer, &writable()).unwrap());
        nothing_is_left(&driver);
    });
}

/// A namespace goes with its last process, a moment later.
fn await_free(driver: &Plain, layer: &layerstore_driver::LayerId) {
    for _ in 0..500 {
        if !driver.leases.in_use(layer).unwrap().any() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{layer} stays in use");
}

#[rstest]
fn of_many_processes_that_want_to_write_one_may(#[values(Kernel::This, Kernel::V5_1)] kernel: Kernel) {
    kernel.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let mut all: Vec<_> = (0..6).map(|_| Process::begin(top.path(), "detached", None)).collect();
        all.iter_mut().for_each(Process::listen);
        let mut said: Vec<_> = all.iter().map(|process| process.said.clone()).collect();
        said.sort();
        assert_eq!(said, ["InUse", "InUse", "InUse", "InUse", "InUse", "won"]);
        all.into_iter().for_each(Process::end);
        assert!(!driver.leases.in_use(&id("layer")).unwrap().any());
        nothing_is_left(&driver);
    });
}

#[test]
fn threads_that_mount_and_unmount_one_layer_never_write_together() {
    Kernel::This.run(|| {
        let top = scratch();
        let driver = Plain::open(top.path());
        let writers = std::sync::atomic::AtomicI32::new(0);
        let won = std::sync::atomic::AtomicI32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(mount) = driver.mount_detached(&id("layer"), &writable()) else { continue };
                        assert_eq!(writers.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        won.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::yield_now();
                        writers.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(mount);
                    }
                });
            }
        });
        assert!(won.into_inner() > 0);
        assert!(!driver.leases.in_use(&id("layer")).unwrap().any());
        nothing_is_left(&driver);
    });
}

/// The number of a file system that is gone is free, and the next one has it at once.
#[test]
fn a_file_system_is_not_taken_for_an_earlier_one_with_its_device_number() {
    use layerstore_sys::mountinfo::{self, Root};
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let target = scratch.path().join("mnt");
    for part in ["lower", "mnt", "one", "one-work", "two", "two-work"] {
        std::fs::create_dir(scratch.path().join(part)).unwrap();
    }
    let run = |program: &str, arguments: &[&str]| {
        let status = std::process::Command::new(program).args(arguments).arg(&target).status().unwrap();
        assert!(status.success());
    };
    let mount = |name: &str| {
        let at = scratch.path().display();
        let options = format!("lowerdir={at}/lower,upperdir={at}/{name},workdir={at}/{name}-work");
        run("mount", &["-t", "overlay", "-o", &options, "overlay"]);
        let dir = layerstore_sys::Dir::open(&target).unwrap();
        (dir.stat_self().unwrap().device, Root::of(&dir).unwrap())
    };
    // Other tests mount, too, and may be faster.
    for _ in 0..100 {
        let (device, root) = mount("one");
        assert!(mountinfo::of_device(device, Some(root)).unwrap().is_some(), "it is there itself");
        run("umount", &[]);
        let (other, _) = mount("two");
        let found =
            (mountinfo::of_device(other, None).unwrap(), mountinfo::of_device(device, Some(root)).unwrap());
        run("umount", &[]);
        if other == device {
            assert!(matches!(found, (Some(_), None)), "{found:?}");
            return;
        }
    }
    panic!("the kernel gave no number twice");
}
