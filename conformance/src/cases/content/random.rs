//! Random changesets and random edits, compared with the oracle. A failure is shrunk and prints what to do again.
//!
//! The seed is fixed, so that a run is repeatable; `LAYERSTORE_CONFORMANCE_SEED` gives another, and
//! `LAYERSTORE_CONFORMANCE_CASES` another number of cases (32).

use std::cell::Cell;

use layerstore_testkit::edit::Edit;
use layerstore_testkit::model::{self, Change};
use layerstore_testkit::strategy::{self, Options};
use layerstore_testkit::{Tree, disk};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::super::prelude::*;
use super::kit;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "A4",
        name: "random_changesets_mean_what_the_oracle_says",
        title: "puts, links, whiteouts and opaque marks in any order give the oracle's view, or are refused with its code",
        needs: &[Has(Feature::UserXattrs), Has(Feature::Owners), Has(Feature::Acls), Has(Feature::WideTimes)],
        run: changesets,
    },
    Case {
        clause: "N1",
        name: "random_trees_are_diffed_as_the_oracle_says",
        title: "the diff between two random layers, and against nothing, is the oracle's",
        needs: &[Has(Feature::UserXattrs), Has(Feature::Owners), Has(Feature::Acls), Has(Feature::WideTimes)],
        run: diffs,
    },
    Case {
        clause: "V2",
        name: "random_edits_give_what_a_plain_directory_gives",
        title: "what programs do at random in a view gives the same answers, tree and diff as in a plain directory",
        needs: &[
            Has(Feature::Mounts),
            Has(Feature::UserXattrs),
            Has(Feature::Owners),
            Has(Feature::Acls),
            Has(Feature::WideTimes),
        ],
        run: edits,
    },
];

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(format!("LAYERSTORE_CONFORMANCE_{variable}"));
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn options(bench: &Bench) -> Options {
    let capabilities = bench.driver().capabilities();
    let trusted = bench.has(Feature::TrustedXattrs) && bench.has(Feature::FileCapabilities);
    Options {
        devices: capabilities.devices && bench.has(Feature::DeviceNodes),
        privileged_xattrs: capabilities.privileged_xattrs && trusted,
        ..Options::default()
    }
}

/// Runs a property; each attempt gets a number of its own for the names of its layers.
fn property<S: Strategy>(strategy: S, check: impl Fn(u64, S::Value) -> Outcome) -> Outcome
where
    S::Value: std::fmt::Debug,
{
    let seed = number("SEED", 1);
    let config = Config {
        cases: u32::try_from(number("CASES", 32)).unwrap_or(32),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let attempt = Cell::new(0);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&strategy, |value| {
        attempt.set(attempt.get() + 1);
        check(attempt.get(), value).map_err(|failure| TestCaseError::fail(failure.message))
    });
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, value)) => {
            let shown: String = format!("{value:#?}").chars().take(6000).collect();
            Err(Failure::new(format!("{reason}\nseed {seed}, least input: {shown}")))
        }
        Err(TestError::Abort(reason)) => Err(Failure::new(format!("the property was given up: {reason}"))),
    }
}

fn with_root(mut tree: Tree) -> Tree {
    tree.put("", kit::root());
    tree
}

fn changesets(bench: &Bench) -> Outcome {
    let options = options(bench);
    let input = (
        strategy::tree(options, 20),
        strategy::changeset(options, 20),
        strategy::changeset(options, 12),
        proptest::bool::weighted(0.2),
    );
    property(input, |attempt, (lower, first, second, raw)| {
        let lower = with_root(lower);
        let driver = &**bench.driver();
        let base = kit::sealed(driver, &format!("base{attempt}"), None, &kit::whole(&lower))?;
        let child = kit::layer(driver, &format!("child{attempt}"), Some(&base), &[])?;
        let mut expected = lower;
        for changes in [first, second] {
            // Most random changesets are refused somewhere: mostly without what is, now and then as they are.
            let changes = if raw { changes } else { model::accepted(&expected, &changes) };
            let outcome = driver.apply(&child, &mut kit::stream(&changes), &Context::new());
            match model::apply(&expected, &changes) {
                Ok(view) => expected = view,
                Err(refused) => {
                    let error = ensure_refused!(outcome, InvalidInput, "applying {changes:?}");
                    ensure_eq!(
                        error.code().map(|code| code.as_str()),
                        Some(refused.0),
                        "the code of {error}"
                    );
                    return Ok(());
                }
            }
            outcome?;
            kit::ensure_same(&expected, &kit::show(bench, &child)?, "the layer")?;
        }
        driver.remove(&child)?;
        Ok(driver.remove(&base)?)
    })
}

fn diffs(bench: &Bench) -> Outcome {
    let options = options(bench);
    let input =
        (strategy::tree(options, 20), strategy::changeset(options, 20), strategy::changeset(options, 12));
    property(input, |attempt, (lower, first, second)| {
        let lower = with_root(lower);
        let driver = &**bench.driver();
        let mut views: Vec<(LayerId, Tree)> = Vec::new();
        let mut now = lower;
        let base = kit::sealed(driver, &format!("base{attempt}"), None, &kit::whole(&now))?;
        views.push((base, now.clone()));
        for (name, changes) in [("first", first), ("second", second)] {
            let changes = model::accepted(&now, &changes);
            now = model::apply(&now, &changes).map_err(|refused| Failure::new(refused.0))?;
            let parent = views.last().map(|(id, _)| id);
            views.push((kit::sealed(driver, &format!("{name}{attempt}"), parent, &changes)?, now.clone()));
        }
        for (to, is) in &views {
            let found = kit::diff(bench, to, Base::Empty)?;
            kit::ensure_changes(&kit::whole(is), &found, &format!("the diff of {to} against nothing"))?;
            for (from, was) in &views {
                let found = kit::diff(bench, to, Base::Layer(from))?;
                kit::ensure_changes(&model::diff(was, is), &found, &format!("the diff from {from} to {to}"))?;
            }
        }
        for (id, _) in views.iter().rev() {
            driver.remove(id)?;
        }
        Ok(())
    })
}

fn edits(bench: &Bench) -> Outcome {
    const YEAR_2020: i64 = 1_577_836_800;
    let capabilities = bench.driver().capabilities();
    // A group that breaks at copy-up looks different from a plain directory: V8 is about that.
    let options = Options { links: capabilities.links_survive_copy_up, ..options(bench) };
    let input = (strategy::tree(options, 20), strategy::changeset(options, 8), strategy::edits(options, 30));
    property(input, |attempt, (lower, changes, edits): (Tree, Vec<Change>, Vec<Edit>)| {
        let lower = with_root(lower);
        let driver = &**bench.driver();
        let base = kit::sealed(driver, &format!("base{attempt}"), None, &kit::whole(&lower))?;
        let changes = model::accepted(&lower, &changes);
        let middle = kit::sealed(driver, &format!("middle{attempt}"), Some(&base), &changes)?;
        let lower = model::apply(&lower, &changes).map_err(|refused| Failure::new(refused.0))?;
        let (child, view) = kit::writable(bench, &format!("child{attempt}"), Some(&middle))?;
        let (_, plain) = kit::folder(bench, &format!("plain{attempt}"))?;
        disk::write_tree(&lower, &plain)?;
        let root = view.dir()?;
        for edit in &edits {
            let found = edit.perform(&root);
            let lower_directory = matches!(edit, Edit::Rename(..)) && !capabilities.rename_lower_directory;
            if lower_directory && found == Err(layerstore_sys::Errno::XDEV) {
                continue;
            }
            ensure_eq!(found, edit.perform(&plain), "the answer to {edit:?}");
        }
        let now = kit::shown(&view)?;
        drop(root);
        view.unmount()?;
        let expected = layerstore_testkit::read_tree(&plain)?.with_times_capped(YEAR_2020);
        kit::ensure_same(&expected, &now.clone().with_times_capped(YEAR_2020), "the view")?;
        kit::ensure_same(&now, &kit::show(bench, &child)?, "the view, mounted again,")?;
        kit::ensure_changes(
            &model::diff(&lower, &now),
            &kit::diff(bench, &child, Base::Parent)?,
            "its diff",
        )?;
        for id in [&child, &middle, &base] {
            driver.remove(id)?;
        }
        Ok(())
    })
}
