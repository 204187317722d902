//! Clauses N10 to N13: marks of drivers, mounted layers, cancellation and the cost of a diff.

use std::time::{Duration, Instant};

use layerstore_changeset::{self as changeset, ChangeSink, Code, FileData};
use layerstore_sys::xattr::{self, On};
use layerstore_testkit::build::*;
use layerstore_testkit::model::{self, Change};
use layerstore_testkit::tree;

use super::super::prelude::*;
use super::kit;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "N10",
        name: "a_drivers_marks_are_in_no_changeset_and_no_view",
        title: "after copy-ups, whiteouts, renames and new directories neither view nor diff shows a reserved xattr or a driver's file",
        needs: &[Has(Feature::Mounts)],
        run: marks,
    },
    Case {
        clause: "N10",
        name: "a_reserved_xattr_set_in_a_mount_is_in_no_changeset",
        title: "what a program in the container sets of the reserved names is left out of the diff",
        needs: &[Has(Feature::Mounts), Has(Feature::UserXattrs)],
        run: set_in_mount,
    },
    Case {
        clause: "N11",
        name: "a_mounted_layer_can_be_diffed",
        title: "the diff of a mounted layer is the oracle's, the same twice, and the same after unmounting",
        needs: &[Has(Feature::Mounts)],
        run: mounted,
    },
    Case {
        clause: "N11",
        name: "a_diff_meanwhile_is_in_or_out",
        title: "diffs of a layer that is written to meanwhile end well, and each file is whole",
        needs: &[Has(Feature::Mounts)],
        run: meanwhile,
    },
    Case {
        clause: "N12",
        name: "a_cancelled_diff_ends_within_a_second",
        title: "a diff whose context is cancelled before or during it is Cancelled",
        needs: &[],
        run: cancelled,
    },
    Case {
        clause: "N12",
        name: "the_sinks_error_comes_back",
        title: "a sink that refuses ends the diff with its own code and reason, and the next diff works",
        needs: &[],
        run: sink_error,
    },
    Case {
        clause: "N13",
        name: "the_cost_follows_the_changes",
        title: "a diff of ten changes makes as many system calls over a large base as over a small one",
        needs: &[Claims(Claim::DiffFollowsChanges), Has(Feature::Tracing)],
        run: cost,
    },
];

pub(super) const ACTIONS: &[Action] = &[Action { name: "diff_ten_changes", run: diff_ten_changes }];

fn marks(bench: &Bench) -> Outcome {
    let lower = tree! {
        "n10-dir/a" => file("a"), "n10-dir/b/c" => file("c"), "n10-file" => file("f"), "n10-other/x" => file("x"),
        "n10-move/deep/x" => file("x"),
    };
    let (base, _) = kit::base(bench, &lower)?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    {
        let root = view.dir()?;
        root.set_mode(b"n10-file", 0o600)?;
        root.open_dir(b"n10-dir")?.unlink(b"a")?;
        layerstore_sys::remove::tree(&root, b"n10-other")?;
        root.make_dir(b"n10-other", 0o755)?;
        root.rename(b"n10-file", &root, b"n10-renamed")?;
        // Where it cannot be done, V6 says so.
        let _ = root.rename(b"n10-move", &root, b"n10-moved");
    }
    let check = |names: Vec<Vec<u8>>, what: &str| {
        let foreign = names.iter().find(|name| model::is_reserved(name));
        let Some(name) = foreign else { return Ok(()) };
        Err(Failure::new(format!("{what} has the reserved xattr {}", name.escape_ascii())))
    };
    let shown = kit::shown(&view)?;
    view.unmount()?;
    for tree in [&shown, &kit::show(bench, &child)?] {
        for (path, inode) in tree.iter() {
            check(inode.meta.xattrs.keys().cloned().collect(), &format!("{path} in the view"))?;
            let ours = path.is_root() || path.to_bytes().starts_with(b"n10-");
            ensure!(ours, "the view shows {path}, which nobody put there");
        }
    }
    for base in [Base::Parent, Base::Empty] {
        for change in kit::diff(bench, &child, base)? {
            let path = change.path().clone();
            ensure!(path.is_root() || path.to_bytes().starts_with(b"n10-"), "the diff tells of {path}");
            if let Change::Put(_, layerstore_testkit::Entry::Inode(inode)) = change {
                check(inode.meta.xattrs.keys().cloned().collect(), &format!("{path} in the diff"))?;
            }
        }
    }
    Ok(())
}

fn set_in_mount(bench: &Bench) -> Outcome {
    let (base, _) = kit::base(bench, &tree! { "n10-dir/x" => file("x") })?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    {
        let dir = view.dir()?.open_dir(b"n10-dir")?;
        for name in
            ["user.overlay.opaque", "user.rootlesscontainers", "user.containers.override_stat", "user.n10"]
        {
            // An overlay may refuse its own names, which is as good.
            let set = xattr::set(On::Entry(&dir, b"x"), name.as_bytes(), b"y");
            ensure!(set.is_ok() || name != "user.n10", "user.n10 cannot be set: {set:?}");
        }
        dir.set_mtime(b"x", layerstore_sys::Timestamp { seconds: 0, nanos: 0 })?;
        dir.set_mtime(b".", layerstore_sys::Timestamp { seconds: 0, nanos: 0 })?;
    }
    view.unmount()?;
    let expected = [put("n10-dir/x", file("x").xattr("user.n10", "y"))];
    kit::ensure_changes(&expected, &kit::diff(bench, &child, Base::Parent)?, "the diff")
}

fn mounted(bench: &Bench) -> Outcome {
    let lower = tree! { "n11-dir/a" => file("a"), "n11-file" => file("f"), "n11-gone/x" => file("x") };
    let (base, lower) = kit::base(bench, &lower)?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    view.write("n11-file", "written in the mount")?;
    {
        let root = view.dir()?;
        root.open_dir(b"n11-dir")?.make_symlink(b"new", b"a")?;
        layerstore_sys::remove::tree(&root, b"n11-gone")?;
    }
    let now = kit::shown(&view)?;
    let expected = model::diff(&lower, &now);
    kit::ensure_changes(&expected, &kit::diff(bench, &child, Base::Parent)?, "the diff while mounted")?;
    kit::ensure_changes(
        &expected,
        &kit::diff(bench, &child, Base::Parent)?,
        "the second diff while mounted",
    )?;
    kit::ensure_same(&now, &kit::shown(&view)?, "the view after two diffs")?;
    view.unmount()?;
    kit::ensure_changes(&expected, &kit::diff(bench, &child, Base::Parent)?, "the diff after unmounting")?;
    bench.driver().seal(&child, None, &Context::new())?;
    kit::ensure_changes(&expected, &kit::diff(bench, &child, Base::Parent)?, "the diff after sealing")
}

fn meanwhile(bench: &Bench) -> Outcome {
    let (base, _) = kit::base(bench, &tree! { "n11-dir/a" => file("a") })?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    let dir = view.dir()?.open_dir(b"n11-dir")?;
    let until = Instant::now() + Duration::from_millis(500);
    let writer = std::thread::spawn(move || -> Result<(), layerstore_sys::Error> {
        let mut number = 0_u64;
        while Instant::now() < until {
            let name = format!("file{}", number % 50);
            let _ = dir.unlink(name.as_bytes());
            dir.create_file(b"temporary", 0o600)?.write_all_at(&[b'x'; 5000], 0)?;
            dir.rename(b"temporary", &dir, name.as_bytes())?;
            number += 1;
        }
        Ok(())
    });
    let mut result = Ok(());
    while result.is_ok() && Instant::now() < until {
        result = kit::diff(bench, &child, Base::Parent).map(drop);
    }
    writer.join().map_err(|_| Failure::new("the writer failed"))??;
    result?;
    view.unmount()
}

/// Cancels in the middle, then takes whatever comes.
struct Canceller(Context, Option<Instant>);

impl ChangeSink for Canceller {
    fn put(&mut self, _: changeset::Change, _: Option<&mut dyn FileData>) -> changeset::Result<()> {
        self.0.cancel();
        let since = self.1.get_or_insert_with(Instant::now);
        if since.elapsed() > Duration::from_secs(5) {
            return Err(changeset::Error::stream(
                "write",
                std::io::Error::other("nobody noticed for five seconds"),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    }
}

fn cancelled(bench: &Bench) -> Outcome {
    let many: Vec<Change> =
        (0..1000).map(|number| put(&format!("n12-dir/file{number}"), file("x"))).collect();
    let base = kit::sealed(&**bench.driver(), "n12-base", None, &many)?;
    let before = Context::new();
    before.cancel();
    let mut sink = kit::Recorder::default();
    ensure_refused!(
        bench.driver().diff(&base, Base::Empty, &mut sink, &before),
        Cancelled,
        "a diff that was cancelled before"
    );
    ensure_refused!(
        bench.driver().changes(&base, Base::Empty, &before),
        Cancelled,
        "changes that were cancelled before"
    );
    let during = Context::new();
    let mut sink = Canceller(during.clone(), None);
    let result = bench.driver().diff(&base, Base::Empty, &mut sink, &during);
    let late = sink.1.map_or(Duration::ZERO, |since| since.elapsed());
    ensure_refused!(result, Cancelled, "a diff that was cancelled in the middle");
    ensure!(late < Duration::from_secs(1), "it took {late:?} to notice that the diff was cancelled");
    Ok(())
}

/// Refuses the second change.
struct Refuser(u32);

impl ChangeSink for Refuser {
    fn put(&mut self, change: changeset::Change, _: Option<&mut dyn FileData>) -> changeset::Result<()> {
        self.0 += 1;
        if self.0 == 2 {
            let name = change.path().as_bytes();
            return Err(changeset::Error::refused(Code::CaseCollision, name, "this sink has had enough"));
        }
        Ok(())
    }
}

fn sink_error(bench: &Bench) -> Outcome {
    let tree = tree! { "" => kit::root(), "n12-a" => file("a"), "n12-b" => file("b"), "n12-c" => file("c") };
    let base = kit::sealed(&**bench.driver(), "base", None, &kit::whole(&tree))?;
    let result = bench.driver().diff(&base, Base::Empty, &mut Refuser(0), &Context::new());
    let error = ensure_refused!(result, InvalidInput, "a diff into a sink that refuses");
    ensure_eq!(error.code(), Some(Code::CaseCollision), "the code of {error}");
    ensure!(error.to_string().contains("had enough"), "the sink's reason is not in {error}");
    kit::ensure_changes(
        &kit::whole(&tree),
        &kit::diff(bench, &base, Base::Empty)?,
        "the diff after one that failed",
    )
}

/// Directories below the small base and below the large one, with ten files each.
const SMALL: usize = 2;
const LARGE: usize = 102;

fn cost(bench: &Bench) -> Outcome {
    let upper: Vec<Change> =
        (0..10).map(|number| put(&format!("n13-changed/file{number}"), file("new"))).collect();
    let driver = &**bench.driver();
    // A walk over the large base makes far more than one call for each directory that it has more; the least of
    // three runs is free of what threads and allocators add now and then.
    let more = u64::try_from(LARGE - SMALL)?;
    let mut allowed = u64::MAX;
    for (name, directories) in [("small", SMALL), ("large", LARGE)] {
        let mut lower = vec![put("", kit::root()), put("n13-changed", dir(0o755))];
        for directory in 0..directories {
            lower.extend((0..10).map(|number| put(&format!("n13-{directory}/{number}"), file("x"))));
        }
        let base = kit::sealed(driver, name, None, &lower)?;
        let child = kit::sealed(driver, &format!("{name}-child"), Some(&base), &upper)?;
        let mut least = u64::MAX;
        for _ in 0..3 {
            let mut process = bench.spawn("diff_ten_changes", &[child.as_str()])?;
            process.expect("ready")?;
            least = least.min(process.count_calls(allowed)?);
        }
        ensure!(
            least <= allowed,
            "10 changes over {LARGE} directories of 10 files: expected at most {allowed} system calls ({more} more \
             than over {SMALL} directories), found more"
        );
        allowed = least + more;
    }
    Ok(())
}

/// The other process of [`cost`]: everything between "go" and its end is counted.
fn diff_ten_changes(bench: &ActionBench) -> Outcome {
    let layer = id(bench.argument(0)?)?;
    bench.say("ready")?;
    bench.wait()?;
    let mut found = kit::Recorder::default();
    bench.driver().diff(&layer, Base::Parent, &mut found, &Context::new())?;
    ensure_eq!(found.0.len(), 10, "changes of the layer {layer}");
    Ok(())
}
