//! Clauses X1 to X3: what drivers make of each other's changesets. The other driver is the suite's own full copy,
//! and every driver of the run that can be opened here.

use std::sync::Arc;

use layerstore_changeset::{Limits, stream, tar};
use layerstore_driver::{DriverFactory, DriverOptions, OpenOptions, Probe};
use layerstore_testkit::build::*;
use layerstore_testkit::model::{self, Change};
use layerstore_testkit::tree::{Entry, Kind};
use layerstore_testkit::{Tree, tree};

use super::super::prelude::*;
use super::kit;
use super::scenarios::{Scene, scenes};
use crate::{reference, saboteur};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "X1",
        name: "what_one_driver_diffs_every_other_applies",
        title: "a chain diffed here and applied elsewhere shows the same views and gives the same diffs, and back again",
        needs: &[],
        run: round_trips,
    },
    Case {
        clause: "X1",
        name: "what_was_written_through_a_view_travels",
        title: "a layer written through a mount is diffed, applied elsewhere, and diffs the same there",
        needs: &[Has(Feature::Mounts)],
        run: written,
    },
    Case {
        clause: "X2",
        name: "the_tar_is_the_same_from_every_driver",
        title: "the tar of a layer's diff is the same, byte for byte, from this driver and the others",
        needs: &[],
        run: same_tar,
    },
    Case {
        clause: "X3",
        name: "a_changeset_comes_back_from_tar",
        title: "written as tar and read again it is the same changeset, but for sockets",
        needs: &[],
        run: tar_and_back,
    },
];

/// The other drivers, each opened on a root of its own.
fn others(bench: &Bench, name: &str) -> Outcome<Vec<Arc<dyn Driver>>> {
    let broken: Vec<String> = saboteur::all().iter().map(|one| saboteur::driver_name(one.clause)).collect();
    let mut factories: Vec<Arc<dyn DriverFactory>> = vec![Arc::new(reference::Factory)];
    let more = bench.registry().factories().filter(|factory| {
        !Arc::ptr_eq(factory, bench.factory()) && !broken.iter().any(|name| name == factory.name())
    });
    factories.extend(more.cloned());
    let mut drivers = Vec::new();
    for (number, factory) in factories.iter().enumerate() {
        let directory = bench.directory().join(format!("{name}{number}"));
        layerstore_sys::fs::make_dirs(&directory, 0o700)?;
        let options = DriverOptions::check(factory.options(), std::iter::empty::<(&str, String)>())?;
        let open = OpenOptions { root: directory.join("root"), runroot: directory.join("run"), options };
        if factory.probe(&open)? == Probe::Usable {
            drivers.push(factory.open(&open)?);
        }
    }
    Ok(drivers)
}

/// Diffs a layer of `from` over a base of `lower`, applies that to `to`, and compares view and diff.
fn travel(bench: &Bench, from: &dyn Driver, to: &dyn Driver, name: &str, scene: &Scene) -> Outcome {
    let step = |layer: &str| format!("{name}-{layer}");
    let base = kit::sealed(from, &step("base"), None, &kit::whole(&scene.lower))?;
    let child = kit::sealed(from, &step("child"), Some(&base), &scene.changes)?;
    let diffs = [kit::diff_of(from, &base, Base::Parent)?, kit::diff_of(from, &child, Base::Parent)?];
    let far_base = kit::sealed(to, &step("base"), None, &diffs[0])?;
    let far = kit::sealed(to, &step("child"), Some(&far_base), &diffs[1])?;
    let (here, there) = (kit::show_of(bench, from, &child)?, kit::show_of(bench, to, &far)?);
    kit::ensure_same(&here, &there, &format!("the other driver ({})", scene.name))?;
    kit::ensure_changes(
        &diffs[1],
        &kit::diff_of(to, &far, Base::Parent)?,
        &format!("its diff ({})", scene.name),
    )?;
    kit::ensure_changes(
        &kit::diff_of(from, &child, Base::Empty)?,
        &kit::diff_of(to, &far, Base::Empty)?,
        &format!("its diff against nothing ({})", scene.name),
    )
}

/// The scenes, with a root that has a time and a name of the clause.
fn marked(bench: &Bench, mark: &str) -> Vec<Scene> {
    let mut all = scenes(bench);
    for scene in &mut all {
        scene.lower.put("", kit::root()).put(mark, file("lower").mtime(1, 23));
        scene.changes.push(put(mark, file("upper").mtime(4, 56)));
    }
    all
}

fn round_trips(bench: &Bench) -> Outcome {
    for (number, scene) in marked(bench, "x1-mark").iter().enumerate() {
        let here = bench.another(&format!("here{number}"))?;
        for (other, there) in others(bench, &format!("there{number}-"))?.iter().enumerate() {
            travel(bench, &*here, &**there, &format!("out{other}"), scene)?;
            travel(bench, &**there, &*here, &format!("back{other}"), scene)?;
        }
    }
    Ok(())
}

fn written(bench: &Bench) -> Outcome {
    let lower = tree! { "x1-dir/a" => file("a"), "x1-dir/b/c" => file("c"), "x1-file" => file("f"), "x1-gone/x" => file("x") };
    let (base, lower) = kit::base(bench, &lower)?;
    let (child, view) = kit::writable(bench, "child", Some(&base))?;
    view.write("x1-file", "written")?;
    {
        let root = view.dir()?;
        layerstore_sys::remove::tree(&root, b"x1-gone")?;
        root.make_dir(b"x1-gone", 0o700)?;
        let dir = root.open_dir(b"x1-dir")?;
        dir.rename(b"a", &root, b"x1-moved")?;
        dir.make_symlink(b"new", b"../x1-file")?;
    }
    let now = kit::shown(&view)?;
    view.unmount()?;
    let diff = kit::diff(bench, &child, Base::Parent)?;
    for there in others(bench, "there")? {
        let far_base = kit::sealed(&*there, "base", None, &kit::whole(&lower))?;
        let far = kit::sealed(&*there, "child", Some(&far_base), &diff)?;
        kit::ensure_same(&now, &kit::show_of(bench, &*there, &far)?, "the other driver")?;
        kit::ensure_changes(&diff, &kit::diff_of(&*there, &far, Base::Parent)?, "its diff")?;
    }
    Ok(())
}

fn tar_of(driver: &dyn Driver, id: &LayerId, base: Base<'_>) -> Outcome<Vec<u8>> {
    let mut writer = tar::Writer::new(Vec::new());
    driver.diff(id, base, &mut writer, &Context::new())?;
    Ok(writer.finish()?)
}

fn same_tar(bench: &Bench) -> Outcome {
    for (number, scene) in marked(bench, "x2-mark").iter().enumerate() {
        let here = bench.another(&format!("here{number}"))?;
        let make = |driver: &dyn Driver| -> Outcome<[Vec<u8>; 2]> {
            let base = kit::sealed(driver, "base", None, &kit::whole(&scene.lower))?;
            let child = kit::sealed(driver, "child", Some(&base), &scene.changes)?;
            Ok([tar_of(driver, &child, Base::Parent)?, tar_of(driver, &child, Base::Empty)?])
        };
        let mine = make(&*here)?;
        for there in others(bench, &format!("there{number}-"))? {
            for (mine, theirs) in mine.iter().zip(make(&*there)?) {
                let differ = mine.iter().zip(&theirs).position(|(a, b)| a != b);
                ensure!(
                    *mine == theirs,
                    "the tars of {} differ: {} and {} bytes, first at {differ:?}",
                    scene.name,
                    mine.len(),
                    theirs.len()
                );
            }
        }
    }
    Ok(())
}

fn tar_and_back(bench: &Bench) -> Outcome {
    for (number, scene) in marked(bench, "x3-mark").iter().enumerate() {
        let driver = bench.another(&format!("here{number}"))?;
        let base = kit::sealed(&*driver, "base", None, &kit::whole(&scene.lower))?;
        let child = kit::sealed(&*driver, "child", Some(&base), &scene.changes)?;
        for from in [Base::Parent, Base::Empty] {
            let archive = tar_of(&*driver, &child, from)?;
            let mut reader = tar::Reader::new(archive.as_slice(), Limits::default());
            let mut found = kit::Recorder::default();
            stream::copy(&mut reader, &mut found)?;
            let mut expected = kit::diff_of(&*driver, &child, from)?;
            expected.retain(|change| !is_socket(change));
            kit::ensure_changes(&expected, &found.0, &format!("the tar ({}), read again,", scene.name))?;
        }
        // What is read is what the oracle expects, so that both halves being wrong alike would be seen.
        let expected =
            model::apply(&scene.lower, &scene.changes).map_err(|refused| Failure::new(refused.0))?;
        let diff = kit::diff_of(&*driver, &child, Base::Empty)?;
        kit::ensure_changes(&model::diff(&Tree::nothing(), &expected), &diff, scene.name)?;
    }
    Ok(())
}

fn is_socket(change: &Change) -> bool {
    matches!(change, Change::Put(_, Entry::Inode(inode)) if inode.kind == Kind::Socket)
}
