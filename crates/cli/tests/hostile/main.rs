//! Every hostile layer of the corpus, through the public door: pulled as an image into a store, with every
//! compiled-in driver, as root and inside a user namespace.
//!
//! | checked of each case | how |
//! |---|---|
//! | outcome | accepted, or refused with the case's stable code |
//! | tree | what the mount shows is what `trees.txt` says, or, where file systems differ, the same on every driver |
//! | outside | not a byte, name or inode of the canaries changes |
//! | nothing left | after a refusal, and after the image is removed, the store's files are those from before; `check` is clean |
//! | cost | under a second (ten for those that make much from little) and under 64 MiB of memory more than before |
//!
//! A worker (this program again, with a driver's name in its environment) does a driver's cases one after the other,
//! so that memory is measured by itself. `HOSTILE_BLESS=1` writes `trees.txt` anew; read the difference then.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::print_stdout, reason = "workers talk to the test by their stdout")]

mod archives;
mod layout;
mod program;
mod race;
mod truncated;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use layerstore_testkit::hostile::{self, Expected, trees};
use layerstore_testkit::{sandbox, scratch};
use libtest_mimic::{Arguments, Failed, Trial};

use worker::Ended;

/// The environment variable that makes this program a worker.
const WORKER: &str = "LAYERSTORE_HOSTILE_WORKER";

fn main() -> ExitCode {
    if let Ok(job) = std::env::var(WORKER) {
        worker::run(&job);
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test("every_case_ends_as_it_should_on_every_driver_as_root", || every_driver(false)),
        Trial::test("every_case_ends_as_it_should_on_every_driver_in_a_user_namespace", || {
            every_driver(true)
        }),
    ];
    trials.extend(program::trials());
    trials.extend(archives::trials());
    trials.extend(truncated::trials());
    trials.extend(race::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a job in a process of its own.
fn start(job: &str, directory: &Path, in_namespace: bool) -> Result<String, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(WORKER, job).current_dir(directory);
    let output = if in_namespace { sandbox::in_user_namespace(&command)? } else { command.output()? };
    let text = String::from_utf8(output.stdout)?;
    if output.status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!(
        "the worker {job} ended with {}: {said}\nafter: {}",
        output.status,
        text.lines().last().unwrap_or("")
    )
    .into())
}

/// A directory that root of the user namespace owns as well.
fn directory(in_namespace: bool) -> Result<tempfile::TempDir, Failed> {
    let directory = scratch::scratch_dir()?;
    if in_namespace {
        std::os::unix::fs::chown(directory.path(), Some(100_000), Some(100_000))?;
    }
    Ok(directory)
}

fn every_driver(in_namespace: bool) -> Result<(), Failed> {
    let registry = layerstore_builtin::registry();
    let mut wrong = Vec::new();
    let mut first: BTreeMap<String, (String, Ended)> = BTreeMap::new();
    for factory in registry.factories() {
        let driver = factory.name();
        let directory = directory(in_namespace)?;
        let answers = start(&format!("cases {driver}"), directory.path(), in_namespace)?;
        let ended: Vec<Ended> = answers.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        if ended.len() != hostile::all().count() {
            wrong.push(format!("{driver}: {} cases ended", ended.len()));
        }
        for (case, ended) in hostile::all().zip(ended) {
            let mut say = |what: String| wrong.push(format!("{driver}: {}: {what}", case.name));
            judge(case, &ended, in_namespace, &mut say);
            if let Some((other, theirs)) = first.get(case.name) {
                if theirs.outcome != ended.outcome || theirs.tree != ended.tree {
                    let (tree, outcome) = (&ended.tree, &ended.outcome);
                    say(format!(
                        "{outcome}, but {} on {other}:\n{tree}but there\n{}",
                        theirs.outcome, theirs.tree
                    ));
                }
            } else {
                first.insert(case.name.to_owned(), (driver.to_owned(), ended));
            }
        }
    }
    if !in_namespace && std::env::var_os("HOSTILE_BLESS").is_some() {
        bless(&first)?;
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn judge(case: &hostile::Case, ended: &Ended, in_namespace: bool, say: &mut dyn FnMut(String)) {
    let accepted = ended.outcome == "accepted";
    match case.expected {
        Expected::Refused(code) if ended.outcome == code => {}
        Expected::Refused(code) => say(format!("{} instead of {code}: {}", ended.outcome, ended.message)),
        Expected::Either(codes) if accepted || codes.contains(&&*ended.outcome) => {}
        Expected::Either(codes) => say(format!("{} and none of {codes:?}: {}", ended.outcome, ended.message)),
        Expected::Accepted if !accepted => say(format!("{}: {}", ended.outcome, ended.message)),
        Expected::Accepted => {
            let mut wanted = trees::expected(case.name).unwrap_or_default();
            if in_namespace {
                wanted = trees::without_devices(&wanted);
            }
            if ended.tree != wanted {
                say(format!("the tree differs from the recorded one:\n{}instead of\n{wanted}", ended.tree));
            }
        }
    }
    if !accepted && !ended.message.contains(&ended.outcome) {
        say(format!("the message does not say the code: {}", ended.message));
    }
    let message = &ended.message;
    if message.chars().any(char::is_control) || message.contains("\\\"") || message.len() > 10_000 {
        say(format!("the message is not one clean line: {message:?}"));
    }
    for line in ended.outside.iter().chain(&ended.left) {
        say(line.clone());
    }
    let most = if case.is_bomb { 10_000 } else { 1000 };
    if ended.milliseconds > most {
        say(format!("took {} ms", ended.milliseconds));
    }
    if ended.kibibytes > 64 << 10 {
        say(format!("took {} MiB", ended.kibibytes >> 10));
    }
}

/// Writes down what accepted cases look like.
fn bless(first: &BTreeMap<String, (String, Ended)>) -> Result<(), Failed> {
    let mut text = String::new();
    for case in hostile::all().filter(|case| case.expected == Expected::Accepted) {
        let tree = first.get(case.name).map_or("", |(_, ended)| &ended.tree);
        text.push_str(&format!("= {}\n{tree}", case.name));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/src/hostile/trees.txt");
    Ok(std::fs::write(path, text)?)
}
