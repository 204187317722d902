//! `cargo xtask crash`: the crash laboratory.
//!
//! It breaks the store in every way that a machine can break it, and asks an oracle (see [`verify`]) what is left:
//!
//! | section | what is done |
//! |---|---|
//! | errno at a fail point | every call of `layerstore-sys` that a step reaches fails, is interrupted or cut short |
//! | errno in SQLite's calls | the same for SQLite's own, from outside |
//! | abort at a fail point | the process ends there |
//! | kill -9 before a call | the process is killed before its n-th call that changes something |
//! | kill -9 while recovering | then recoveries are, up to three times |
//! | kill -9 among eight workers | eight processes on one store, killed at random times |
//! | power cut | the disk as it was at that moment is mounted again (ext4, xfs, btrfs) |
//! | reordered writes | the same of a disk that lost, reordered or tore what was not flushed |
//! | control | the product with a safeguard left out: it has to fail |
//!
//! Invariant: the command succeeds only when nothing was lost, nothing had to be done by hand, every site was
//! reached or is listed with a reason, and every control was caught.

mod busy;
mod controls;
mod job;
mod kill;
mod lab;
mod points;
mod power;
mod replay;
mod report;
mod sample;
mod scenario;
mod verify;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use job::Job;
use lab::{Lab, Tally};

/// What most functions here give: an error is a text for whoever runs the laboratory.
type Outcome<T> = Result<T, String>;

fn explain(error: impl Display) -> String {
    error.to_string()
}

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The whole of it: every site in every step with every answer, 2,000 kill points, 500 power cuts on each file
    /// system, 200 reordered disks. Without it a part, in under five minutes.
    #[arg(long)]
    long: bool,
    /// Only these sections.
    #[arg(long, value_name = "SECTION", value_parser = SECTIONS)]
    only: Vec<String>,
    /// Only these drivers.
    #[arg(long = "driver", value_name = "NAME")]
    drivers: Vec<String>,
    /// Only these file systems.
    #[arg(long = "file-system", value_name = "TYPE", value_parser = ["ext4", "xfs", "btrfs"])]
    file_systems: Vec<String>,
    /// Chooses points and times; the same number chooses the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds at once.
    #[arg(long, default_value_t = default_jobs())]
    jobs: usize,
    /// Takes this part of the points, in percent of what would be run.
    #[arg(long, default_value_t = 100)]
    percent: u64,
    /// Plays one round again, as a failure names it.
    #[arg(long, value_name = "ROUND")]
    replay: Option<String>,
    /// Writes everything as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const SECTIONS: [&str; 9] =
    ["points", "database", "abort", "kill", "recovery", "crowd", "power", "reorder", "controls"];

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match laboratory(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many rounds each section plays.
struct Amounts {
    /// Of all pairs of a step and a site, one in so many.
    share: u64,
    database: u64,
    kill: u64,
    recovery: u64,
    crowd: u64,
    power: u64,
    reorder: u64,
    controls: u64,
}

impl Amounts {
    fn of(arguments: &Arguments) -> Self {
        let percent = arguments.percent.max(1);
        let part = |long: u64, short: u64| {
            (if arguments.long { long } else { short } * percent).div_ceil(100).max(1)
        };
        // For each driver; and for each file system and driver.
        Self {
            share: (if arguments.long { 1 } else { 16 } * 100 / percent).max(1),
            database: part(400, 4),
            kill: part(1000, 40),
            recovery: part(150, 10),
            crowd: part(40, 1),
            power: part(250, 10),
            reorder: part(34, 4),
            controls: part(60, 30),
        }
    }
}

fn laboratory(arguments: &Arguments) -> Outcome<bool> {
    // What is mounted here is seen by nobody else, and gone with this process.
    layerstore_sys::mount::legacy::unshare_mounts().map_err(|error| format!("needs root: {error}"))?;
    let registry = layerstore_builtin::registry();
    let known: Vec<String> = registry.factories().map(|factory| factory.name().to_owned()).collect();
    let drivers = if arguments.drivers.is_empty() { known } else { arguments.drivers.clone() };
    let lab = Lab::new(drivers, arguments.jobs.max(1), arguments.seed)?;
    if let Some(round) = &arguments.replay {
        return replay::run(&lab, round);
    }
    println!("seed {}, {} rounds at once", lab.seed, lab.jobs);
    let wants =
        |section: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == section);
    let amounts = Amounts::of(arguments);
    let file_systems: Vec<_> = power::FILE_SYSTEMS
        .into_iter()
        .filter(|it| {
            arguments.file_systems.is_empty() || arguments.file_systems.iter().any(|name| name == it.name())
        })
        .collect();
    let profile = points::profile(&lab)?;
    let mut answers = BTreeMap::new();
    let mut tallies: Vec<Tally> = Vec::new();
    let mut keep = |tally: Tally| {
        report::told(&tally);
        tallies.push(tally);
    };
    for driver in &lab.drivers {
        if wants("points") {
            keep(points::failures(&lab, &profile, driver, amounts.share, arguments.long, &mut answers));
        }
        if wants("database") {
            keep(points::database(&lab, driver, amounts.database)?);
        }
        if wants("abort") {
            keep(kill::at_sites(&lab, &profile, driver, amounts.share));
        }
        if wants("kill") {
            keep(kill::calls(&lab, driver, amounts.kill)?);
        }
        if wants("recovery") {
            keep(kill::recoveries(&lab, driver, amounts.recovery)?);
        }
        if wants("crowd") {
            keep(kill::crowds(&lab, driver, amounts.crowd, ""));
        }
        for file_system in &file_systems {
            if wants("power") {
                keep(power::cuts(&lab, *file_system, driver, amounts.power, power::Wrong::default())?);
            }
            if wants("reorder") {
                keep(power::reordered(&lab, *file_system, driver, amounts.reorder, power::Wrong::default())?);
            }
        }
    }
    if wants("controls") {
        controls::run(&lab, amounts.controls)?.into_iter().for_each(&mut keep);
    }
    let lines = profile.lines(&answers)?;
    report::print(&lab, &tallies, &lines, wants("points"), arguments.json.as_deref())
}

/// What a child does; see [`job`].
pub(crate) fn work(job: &str) -> ExitCode {
    let outcome = serde_json::from_str::<Job>(job).map_err(explain).and_then(|job| match job {
        Job::Scenario { place, watched, plan, faulty, late_sync } => {
            scenario::run(&place, watched.as_deref(), &plan, faulty.as_ref(), late_sync)
        }
        Job::Verify(wanted) => {
            let report = serde_json::to_string(&verify::verify(&wanted)?).map_err(explain)?;
            scenario::say(&format!("report {report}"))
        }
        Job::Recover { place, watched } => {
            if watched {
                use layerstore_testkit::crash::supervised;
                supervised::announce(&supervised::changing()).map_err(explain)?;
            }
            place.open().and_then(|store| store.gc(false)).map(drop).map_err(explain)
        }
        Job::Busy { place, worker, seed, plan } => busy::run(&place, worker, seed, &plan),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
