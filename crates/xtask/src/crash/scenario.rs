//! What a store goes through: every operation once, in an order that a person might choose. Runs in a child.
//!
//! Each step opens the store anew, as a command line does. What a step promised holds from its acknowledgement
//! on; [`State`] says what that is.

use std::io::Write as _;
use std::path::PathBuf;

use layerstore::{
    CheckOptions, CommitOptions, Config, ContainerOptions, Context, MountOptions, PullOptions, PushOptions,
    Store, StoreOptions,
};
use layerstore_sys::fault;
use layerstore_testkit::crash::{plan, supervised};

use super::job::{Faulty, Place};
use super::{Outcome, explain, sample};

/// The steps, by the operation that each is about.
pub(super) const STEPS: [&str; 16] = [
    "open",
    "pull",
    "pull-archive",
    "create",
    "mount",
    "write",
    "diff",
    "commit",
    "unmount",
    "push",
    "push-archive",
    "tag",
    "check",
    "rm",
    "rmi",
    "gc",
];

/// What is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) one: bool,
    pub(super) two: bool,
    pub(super) three: bool,
    pub(super) kept: bool,
    pub(super) container: bool,
    pub(super) written: bool,
    pub(super) pushed: bool,
    pub(super) archived: bool,
}

/// What is in the store after so many steps.
pub(super) fn state(steps: usize) -> State {
    let after = |step: &str| STEPS[..steps.min(STEPS.len())].contains(&step);
    State {
        one: after("pull"),
        two: after("pull-archive") && !after("rmi"),
        three: after("commit"),
        kept: after("tag"),
        container: after("create") && !after("rm"),
        written: after("write"),
        pushed: after("push"),
        archived: after("push-archive"),
    }
}

impl Place {
    pub(super) fn open(&self) -> layerstore::Result<Store> {
        let config = Config::at(&self.graphroot, &self.runroot).with_driver(self.driver.clone());
        Store::open(StoreOptions { config, registry: layerstore_builtin::registry() })
    }

    /// Where `push` and `push-archive` write.
    pub(super) fn pushed(&self, archive: bool) -> String {
        if archive {
            format!("docker-archive:{}", self.out.join("three.tar").display())
        } else {
            format!("oci:{}:three", self.out.join("three").display())
        }
    }
}

/// Says a line at once.
pub(super) fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(explain)
}

/// Runs the scenario; see [`super::job::Job::Scenario`].
pub(super) fn run(
    place: &Place,
    watched: Option<&str>,
    rules: &str,
    faulty: Option<&Faulty>,
    late_sync: bool,
) -> Outcome<()> {
    match watched {
        Some("database") => supervised::announce(&supervised::database()).map_err(explain)?,
        Some(_) => supervised::announce(&supervised::changing()).map_err(explain)?,
        None => {}
    }
    fault::set(plan::parse(rules)?);
    for (step, name) in STEPS.iter().enumerate() {
        say(&format!("begin {step}"))?;
        if let Some(faulty) = faulty.filter(|faulty| faulty.step == step) {
            return attempts(place, faulty);
        }
        perform(place, name).map_err(|error| format!("{name}: {error}"))?;
        if late_sync {
            // The data follows the row that it should have gone before.
            sync(place)?;
        }
        say(&format!("done {step}"))?;
        if rules.is_empty() {
            for (site, count) in fault::counts() {
                say(&format!("site {name} {}:{} {} {count}", site.file, site.line, site.call))?;
            }
            fault::set(Vec::new());
        }
    }
    Ok(())
}

fn sync(place: &Place) -> Outcome<()> {
    rustix::fs::syncfs(std::fs::File::open(&place.graphroot).map_err(explain)?).map_err(explain)
}

/// Tries a step under each plan until one lets it succeed, and then without any.
fn attempts(place: &Place, faulty: &Faulty) -> Outcome<()> {
    let name = STEPS[faulty.step];
    // A removal that is visible but could not free everything says so; what is left goes later.
    let mut failed = false;
    let removed = |failed: bool, error: &str| {
        failed && name.starts_with("rm") && error.to_lowercase().contains("no such")
    };
    for text in &faulty.plans {
        fault::set(plan::parse(text)?);
        let mut outcome = perform(place, name);
        let fired = fault::clear();
        if outcome.as_ref().is_err_and(|error| removed(failed, error)) {
            outcome = Ok(());
        }
        failed = true;
        match outcome {
            Ok(()) => {
                say(&format!("tried {text}: ok, {fired} fired"))?;
                return say(&format!("done {}", faulty.step));
            }
            Err(error) => say(&format!("tried {text}: {fired} fired, {}", error.replace('\n', " ")))?,
        }
    }
    match perform(place, name) {
        Err(error) if !removed(failed, &error) => {
            return Err(format!("{name}, once nothing fails any more: {error}"));
        }
        _ => {}
    }
    say(&format!("done {}", faulty.step))
}

/// One operation.
pub(super) fn perform(place: &Place, step: &str) -> Outcome<()> {
    let store = place.open().map_err(|error| format!("open: {error}"))?;
    let context = Context::new();
    let named = |name: &str| PullOptions { names: vec![format!("{name}:1")], ..PullOptions::default() };
    let done = match step {
        "pull" => store.pull(&sample::source(&place.source, "one"), &named("one"), &context).map(drop),
        "pull-archive" => {
            store.pull(&sample::source(&place.source, "two"), &named("two"), &context).map(drop)
        }
        "create" => {
            let options = ContainerOptions { name: Some("c1".to_owned()), ..ContainerOptions::default() };
            store.create_container("one:1", &options, &context).map(drop)
        }
        "mount" => store.mount("c1", &MountOptions::default()).map(drop),
        "write" => return sample::write(&mount_point(&store, "c1")?),
        "diff" => store.diff("c1", &context).map(drop),
        "commit" => {
            let options = CommitOptions { name: Some("three:1".to_owned()), ..CommitOptions::default() };
            store.commit("c1", &options, &context).map(drop)
        }
        "unmount" => store.unmount("c1", None).map(drop),
        "push" | "push-archive" => {
            let destination = place.pushed(step == "push-archive");
            store.push("three:1", &destination, &PushOptions::default(), &context).map(drop)
        }
        "tag" => store.tag("three:1", "kept:1").map(drop),
        "check" => {
            let report = store.check(CheckOptions::default(), &context).map_err(explain)?;
            if let Some(finding) = report.findings.first() {
                return Err(format!("a finding in a healthy store: {finding:?}"));
            }
            Ok(())
        }
        "rm" => store.remove_container("c1", false).map(drop),
        "rmi" => store.remove_image("two:1", false).map(drop),
        "gc" => store.gc(false).map(drop),
        _ => Ok(()),
    };
    done.map_err(explain)
}

fn mount_point(store: &Store, container: &str) -> Outcome<PathBuf> {
    store.mount(container, &MountOptions::default()).map_err(explain)
}
