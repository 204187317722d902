//! What the suite makes of drivers that crash, hang, leak, lie or cannot run: never a silent pass.
//!
//! A program of its own, because it starts itself again for every worker.

#![allow(clippy::disallowed_methods, clippy::panic, reason = "a test program")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use layerstore_changeset::Context;
use layerstore_conformance::case::Failure;
use layerstore_conformance::pin::Pins;
use layerstore_conformance::report::{self, Verdict};
use layerstore_conformance::saboteur::{Sabotage, broken, named};
use layerstore_conformance::{Report, RunOptions, child_entry, reference, run};
use layerstore_driver::{Driver, DriverFactory, LayerId, LayerInfo, OpenOptions, Probe, Registry, Result};
use layerstore_sys::mount::{Flags, legacy};
use libtest_mimic::{Arguments, Failed, Trial};

/// The one case that these drivers meet.
const CASE: &str = "l10::*";

fn main() -> ExitCode {
    let whole: Arc<dyn DriverFactory> = Arc::new(reference::Factory);
    let registry = Registry::new()
        .with(reference::Factory)
        .with(named("panics", broken::<Panics>(Arc::clone(&whole))))
        .with(named("aborts", broken::<Aborts>(Arc::clone(&whole))))
        .with(named("hangs", broken::<Hangs>(Arc::clone(&whole))))
        .with(named("litters", broken::<Litters>(Arc::clone(&whole))))
        .with(named("unusable", broken::<Unusable>(Arc::clone(&whole))));
    child_entry(&registry);
    let arguments = Arguments::from_args();
    let registry = Arc::new(registry);
    let trials = TRIALS.iter().map(|&(name, trial)| {
        let registry = Arc::clone(&registry);
        Trial::test(name, move || trial(&registry))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

type Test = fn(&Registry) -> Result<(), Failed>;

const TRIALS: &[(&str, Test)] = &[
    ("a_panic_is_a_failure_and_a_crash", panic_is_a_crash),
    ("an_aborted_process_is_a_failure_and_a_crash", abort_is_a_crash),
    ("a_case_that_hangs_is_ended_at_the_time_limit", hang_is_ended),
    ("a_cancelled_run_ends_its_cases_and_leaves_no_result_and_no_file", cancelled),
    ("a_leaked_descriptor_breaks_m12_and_not_the_cases_own_clause", leak_is_m12),
    ("a_strangers_mount_may_have_any_bytes_in_its_path", strangers_mount),
    ("a_run_without_a_case_fails", nothing_ran),
    ("a_driver_that_cannot_run_is_skipped_with_the_reason_and_the_run_fails", unusable_is_skipped),
    ("a_known_failure_that_passes_fails_the_run", passed_unexpectedly),
    ("a_known_failure_that_fails_is_a_skip", known_failure),
    ("claims_that_differ_from_the_pinned_ones_fail_the_run", other_claims),
    ("every_format_says_the_same", formats_agree),
];

fn options() -> RunOptions {
    let shm = std::path::Path::new("/dev/shm");
    let scratch = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    RunOptions { scratch, threads: 1, cases: vec![CASE.to_owned()], ..RunOptions::default() }
}

fn report(registry: &Registry, driver: &str, options: &RunOptions) -> Result<Report, Failed> {
    Ok(run(&**registry.get(driver)?, options))
}

/// The failure of the one case.
fn failure(report: &Report) -> Result<Failure, Failed> {
    match report.cases.as_slice() {
        [case] => match &case.verdict {
            Verdict::Failed(failure) if !report.is_success() => Ok(failure.clone()),
            other => Err(format!("{}: {other:?}", case.case).into()),
        },
        cases => Err(format!("{} cases: {:?}", cases.len(), report.problems).into()),
    }
}

fn expect(condition: bool, what: impl std::fmt::Debug) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(format!("{what:?}").into()) }
}

#[derive(Debug, Default)]
struct Panics;

impl Sabotage for Panics {
    fn layers(&self, _: &dyn Driver) -> Result<Vec<LayerInfo>> {
        panic!("this driver panics")
    }
}

fn panic_is_a_crash(registry: &Registry) -> Result<(), Failed> {
    let failure = failure(&report(registry, "panics", &options())?)?;
    expect(failure.crash && failure.message.contains("this driver panics"), failure)
}

#[derive(Debug, Default)]
struct Aborts;

impl Sabotage for Aborts {
    fn layers(&self, _: &dyn Driver) -> Result<Vec<LayerInfo>> {
        std::process::abort()
    }
}

fn abort_is_a_crash(registry: &Registry) -> Result<(), Failed> {
    let failure = failure(&report(registry, "aborts", &options())?)?;
    expect(failure.crash && failure.message.contains("SIGABRT"), failure)
}

#[derive(Debug, Default)]
struct Hangs;

impl Sabotage for Hangs {
    fn layers(&self, _: &dyn Driver) -> Result<Vec<LayerInfo>> {
        loop {
            std::thread::park();
        }
    }
}

fn hang_is_ended(registry: &Registry) -> Result<(), Failed> {
    let options = RunOptions { time_limit: Duration::from_secs(2), ..options() };
    let failure = failure(&report(registry, "hangs", &options)?)?;
    expect(failure.crash && failure.message.contains("time limit"), failure)
}

fn cancelled(registry: &Registry) -> Result<(), Failed> {
    let scratch = tempfile::tempdir_in(options().scratch)?;
    let context = Context::new();
    let options = RunOptions {
        scratch: scratch.path().to_owned(),
        cases: Vec::new(),
        threads: 2,
        context: context.clone(),
        ..options()
    };
    let begun = Instant::now();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Two cases hang by now.
            std::thread::sleep(Duration::from_secs(2));
            context.cancel();
        });
        report(registry, "hangs", &options)
    })?;
    expect(begun.elapsed() < Duration::from_secs(30), begun.elapsed())?;
    expect(report.counts().failed == 0 && !report.is_success(), &report.cases)?;
    expect(report.problems == ["the run was cancelled"], &report.problems)?;
    let left: Vec<_> = std::fs::read_dir(scratch.path())?.collect();
    expect(left.is_empty(), left)?;
    // Before it has begun, too.
    let report = self::report(registry, "reference", &options)?;
    expect(report.cases.is_empty() && report.problems == ["the run was cancelled"], &report)?;
    expect(std::fs::read_dir(scratch.path())?.next().is_none(), "something is left")
}

#[derive(Debug, Default)]
struct Litters;

impl Sabotage for Litters {
    fn layer(&self, driver: &dyn Driver, id: &LayerId) -> Result<LayerInfo> {
        std::mem::forget(layerstore_sys::Dir::open("/dev"));
        driver.layer(id)
    }
}

fn leak_is_m12(registry: &Registry) -> Result<(), Failed> {
    let failure = failure(&report(registry, "litters", &options())?)?;
    expect(failure.clause.as_deref() == Some("M12") && failure.message.contains("/dev"), failure)
}

fn strangers_mount(registry: &Registry) -> Result<(), Failed> {
    use std::os::unix::ffi::OsStrExt as _;
    let run = || -> Result<(), Failed> {
        legacy::unshare_mounts()?;
        let scratch = tempfile::tempdir_in(options().scratch)?;
        let odd = scratch.path().join(std::ffi::OsStr::from_bytes(b"\xff \n\\"));
        std::fs::create_dir(&odd)?;
        legacy::mount("tmpfs", "tmpfs", &odd, Flags::default(), b"size=4k")?;
        let report = report(registry, "reference", &options());
        layerstore_sys::mount::unmount(&odd)?;
        let report = report?;
        expect(report.is_success() && report.counts().passed > 0, &report.cases)
    };
    std::thread::scope(|scope| scope.spawn(run).join()).map_err(|_| "it panicked")?
}

fn nothing_ran(registry: &Registry) -> Result<(), Failed> {
    let options = RunOptions { cases: vec!["no-such-case".to_owned()], ..options() };
    let report = report(registry, "reference", &options)?;
    expect(
        !report.is_success() && report.problems[0].starts_with("no case is called no-such-case"),
        report.problems,
    )
}

#[derive(Debug, Default)]
struct Unusable;

impl Sabotage for Unusable {
    fn probe(&self, _: &dyn DriverFactory, _: &OpenOptions) -> Result<Probe> {
        Ok(Probe::Unusable { reason: "no moon".to_owned(), hint: None })
    }
}

fn unusable_is_skipped(registry: &Registry) -> Result<(), Failed> {
    let report = report(registry, "unusable", &RunOptions { required: true, ..options() })?;
    let [case] = report.cases.as_slice() else { return Err("not one case".into()) };
    let reason = matches!(&case.verdict, Verdict::Skipped { reason } if reason.contains("no moon"));
    expect(reason && report.counts().skipped == 1, &case.verdict)?;
    let required = report.problems.iter().any(|problem| problem.contains("is required"));
    expect(!report.is_success() && required, report.problems)
}

/// Runs with a pinned file: what was found, edited.
fn pinned(registry: &Registry, driver: &str, edit: impl Fn(String) -> String) -> Result<Report, Failed> {
    let directory = tempfile::tempdir()?;
    let pin = directory.path().join("conformance.toml");
    let plain = report(registry, driver, &options())?;
    let environment = plain.environment.as_ref().ok_or("no environment")?;
    Pins::default().write(&pin, &plain.setup, environment).map_err(|failure| failure.message)?;
    std::fs::write(&pin, edit(std::fs::read_to_string(&pin)?))?;
    report(registry, driver, &RunOptions { pin: Some(pin), ..options() })
}

fn with_known_failure(text: String) -> String {
    format!("{text}known_failures = [\"l10::every_layer_is_listed_once_with_parent_and_state\"]\n")
}

fn passed_unexpectedly(registry: &Registry) -> Result<(), Failed> {
    let failure = failure(&pinned(registry, "reference", with_known_failure)?)?;
    expect(failure.message.contains("passed unexpectedly"), failure)
}

fn known_failure(registry: &Registry) -> Result<(), Failed> {
    let report = pinned(registry, "panics", with_known_failure)?;
    expect(report.counts().failed == 0 && report.counts().skipped == 1, &report)
}

fn other_claims(registry: &Registry) -> Result<(), Failed> {
    let same = pinned(registry, "reference", |text| text)?;
    expect(same.is_success(), &same.problems)?;
    let report = pinned(registry, "reference", |text| text.replace("\"last_resort\", ", ""))?;
    let told =
        report.problems.iter().any(|problem| problem.contains("claims last_resort, which is not pinned"));
    expect(!report.is_success() && told, report.problems)
}

fn formats_agree(registry: &Registry) -> Result<(), Failed> {
    let reports = [report(registry, "reference", &options())?, report(registry, "panics", &options())?];
    let text = report::text(&reports);
    expect(text.ends_with("\n1 passed, 1 failed, 0 skipped\n"), &text)?;
    let json: serde_json::Value = serde_json::from_str(&report::json(&reports)?)?;
    expect(json["success"] == false && json["counts"]["failed"] == 1, &json)?;
    expect(json["runs"][1]["cases"][0]["result"] == "failed", &json)?;
    let junit = report::junit(&reports)?;
    expect(junit.contains(r#"tests="2""#) && junit.contains("this driver panics"), &junit)?;
    // Reports of several programs can be put together, and nothing of them is lost on the way.
    let again = report::parse(&report::json(&reports)?)?;
    expect(report::json(&again)? == report::json(&reports)?, &again)?;
    let page = report::html(&again);
    expect(page.contains("1 passed, 1 failed, 0 skipped in 2 runs"), &page)?;
    expect(page.contains("this driver panics") && page.contains("the contract is broken"), &page)?;
    expect(!page.contains("http:") && !page.contains("https:"), &page)
}
