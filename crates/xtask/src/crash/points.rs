//! Fail points: every site that a step reaches, with every errno; SQLite's own calls, failed from outside; and
//! which sites nothing reaches.

use std::collections::{BTreeMap, BTreeSet};

use layerstore_sys::Errno;
use layerstore_testkit::crash::sites;
use layerstore_testkit::crash::supervised::Verdict;
use serde::Serialize;

use super::job::{Faulty, Job, undisturbed};
use super::kill::scenario;
use super::lab::{Lab, Round1, Tally, random, some};
use super::scenario::STEPS;
use super::{Outcome, explain};

/// What each site is made to answer; `EINTR` and short counts have to go unnoticed.
const ANSWERS: [&str; 5] = ["EIO", "ENOSPC", "EMFILE", "EINTR", "short"];

/// Functions of `layerstore-sys` whose sites the scenario does not reach, and why that is fine.
const UNREACHED: &[(&str, &str, &str)] = &[
    ("btrfs.rs", "*", "limits of size on btrfs with quotas: the conformance suite drives them"),
    ("project.rs", "*", "limits of size on xfs and ext4 with project quotas: `cargo xtask vm` drives them"),
    ("protect.rs", "*", "files that a container made immutable: the conformance suite makes some (L7)"),
    ("privilege.rs", "*", "writing into layers of limited size on ext4: `cargo xtask vm` drives it"),
    ("dir.rs", "exchange", "a sound layer takes a damaged one's place: check --repair does that"),
    ("dir.rs", "set_mode", "fixtures of tests; the product sets modes through descriptors"),
    ("file.rs", "clone_from_file", "a reflink: where the file system has them"),
    ("file.rs", "copy_range", "a copy inside the kernel: between stores of one file system"),
    ("file.rs", "sync_file_system", "the store syncs by its directory"),
    ("file.rs", "seek", "archives are read by position"),
    ("fs.rs", "remove_file", "drivers of the conformance suite that are broken on purpose"),
    ("idmap.rs", "*", "id-mapped mounts: the conformance suite drives them"),
    ("listing.rs", "read_entries", "its seek: directories of more entries than are read at once"),
    ("mount/flags.rs", "flags_of", "kernels before 5.12: the matrix runs them with these calls missing"),
    ("mount/legacy.rs", "*", "kernels before 5.2: the matrix runs them with these calls missing"),
    ("pipe.rs", "stdout", "where the command line writes an archive"),
    ("process.rs", "*", "facts about the process, asked by the command line"),
    ("remove.rs", "is_inner_subvolume", "layers with a limit of size, on btrfs"),
    ("resolve.rs", "walk", "kernels before 5.6"),
    ("resolve.rs", "directory", "mount plans with a subdirectory"),
    ("signal.rs", "*", "the command line's own: before an operation begins"),
    ("temporary.rs", "link", "its second call is for processes without CAP_DAC_READ_SEARCH"),
    ("mount/mod.rs", "unmount_lazily", "a mount that somebody else holds"),
];

/// Which sites each step reaches, on each driver, and how often.
#[derive(Debug, Default, Serialize)]
pub(super) struct Profile {
    /// Driver, step, `FILE:LINE`: hits.
    hits: BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>,
    /// `FILE:LINE`: the call's name.
    calls: BTreeMap<String, String>,
}

/// A site as the sources have it, with what was reached.
#[derive(Debug, Serialize)]
pub(super) struct SiteLine {
    pub(super) site: String,
    pub(super) function: String,
    pub(super) call: String,
    pub(super) hits: u64,
    /// Steps that reach it, over all drivers.
    pub(super) steps: usize,
    /// Answers that it was made to give.
    pub(super) answers: u64,
    /// Why nothing reaches it.
    pub(super) unreached: Option<String>,
}

/// Runs the scenario once on each driver and sees what it reaches.
pub(super) fn profile(lab: &Lab) -> Outcome<Profile> {
    let mut profile = Profile::default();
    for driver in &lab.drivers {
        let round = lab.round()?;
        let done = scenario(&lab.place(&round.path, &round.path, driver), None, "").run(&mut undisturbed)?;
        if let Some(failure) = done.failure() {
            return Err(format!("the scenario on {driver}, with nothing failing: {failure}"));
        }
        for line in done.said.all("site") {
            let words: Vec<&str> = line.split(' ').collect();
            let [step, site, call, count] = words.as_slice() else { return Err(format!("odd line: {line}")) };
            let site = site.split_once("sys/src/").map_or(*site, |(_, below)| below);
            profile.calls.insert(site.to_owned(), (*call).to_owned());
            let steps = profile.hits.entry(driver.clone()).or_default();
            let hits = steps.entry((*step).to_owned()).or_default().entry(site.to_owned()).or_default();
            *hits += count.parse::<u64>().map_err(explain)?;
        }
    }
    Ok(profile)
}

impl Profile {
    /// Every step with every site that it reaches.
    pub(super) fn reached(&self, driver: &str) -> impl Iterator<Item = (usize, String)> {
        let steps = self.hits.get(driver).into_iter().flatten();
        steps.flat_map(|(step, sites)| {
            let step = STEPS.iter().position(|name| name == step).unwrap_or_default();
            sites.keys().map(move |site| (step, site.clone()))
        })
    }

    /// Every site of the sources with what reached it.
    pub(super) fn lines(&self, answers: &BTreeMap<String, u64>) -> Outcome<Vec<SiteLine>> {
        let line = |place: sites::Place| {
            let site = format!("{}:{}", place.file, place.line);
            let steps: Vec<u64> = self
                .hits
                .values()
                .flat_map(|steps| steps.values().filter_map(|sites| sites.get(&site).copied()))
                .collect();
            let why = UNREACHED
                .iter()
                .find(|(file, function, _)| {
                    *file == place.file && (*function == "*" || *function == place.function)
                })
                .map(|(.., why)| (*why).to_owned());
            SiteLine {
                call: self.calls.get(&site).cloned().unwrap_or_default(),
                hits: steps.iter().sum(),
                steps: steps.len(),
                answers: answers.get(&site).copied().unwrap_or_default(),
                unreached: why.filter(|_| steps.is_empty()),
                function: place.function,
                site,
            }
        };
        Ok(sites::all().map_err(explain)?.into_iter().map(line).collect())
    }
}

/// Makes every site that a step reaches give every answer, `share`-th of them; once at its first hit, and with
/// `long` every time from then on. Adds to `answers` what was given.
pub(super) fn failures(
    lab: &Lab,
    profile: &Profile,
    driver: &str,
    share: u64,
    long: bool,
    answers: &mut BTreeMap<String, u64>,
) -> Tally {
    let mut points: Vec<(usize, String)> = profile.reached(driver).collect();
    if share > 1 {
        // Each site in one of its steps on one driver at least.
        let mut seen: BTreeSet<String> = answers.keys().cloned().collect();
        let mut random = random(lab.seed, "points");
        points.retain(|(_, site)| seen.insert(site.clone()) || random.below(share) == 0);
    }
    let given = std::sync::Mutex::new(BTreeMap::<String, u64>::new());
    let tally = lab.play("errno at a fail point", driver, &points, |(step, site)| {
        let times: &[&str] = if long { &["times=1", "times=0"] } else { &["times=1"] };
        let mut plans: Vec<String> = ANSWERS
            .iter()
            .flat_map(|answer| times.iter().map(move |times| (times, answer)))
            // A call that is interrupted for ever never ends.
            .filter(|(times, answer)| **answer != "EINTR" || **times == "times=1")
            .map(|(times, answer)| format!("site={site},{times},action={answer}"))
            .collect();
        let mut rounds = Vec::new();
        while !plans.is_empty() {
            let (round, tried) = attempt(lab, driver, *step, &plans)?;
            rounds.push(round);
            plans.drain(..tried.max(1));
            if let Ok(mut given) = given.lock() {
                *given.entry(site.clone()).or_default() += tried as u64;
            }
        }
        Ok(rounds)
    });
    for (site, count) in given.into_inner().unwrap_or_default() {
        *answers.entry(site).or_default() += count;
    }
    tally
}

/// Tries a step under plans until one lets it through; how many were tried.
pub(super) fn attempt(lab: &Lab, driver: &str, step: usize, plans: &[String]) -> Outcome<(Round1, usize)> {
    let round = lab.round()?;
    let place = lab.place(&round.path, &round.path, driver);
    let faulty = Faulty { step, plans: plans.to_vec() };
    let job = Job::Scenario {
        place: place.clone(),
        watched: None,
        plan: String::new(),
        faulty: Some(faulty),
        late_sync: false,
    };
    let done = job.run(&mut undisturbed)?;
    let tried = done.said.all("tried").count();
    let mut report = lab.verify(lab.wanted(&place, done.said.begun, done.said.done));
    let meant = done.was_killed() && plans.iter().any(|plan| plan.contains("action=abort"));
    if let Some(failure) = done.misbehaved().or_else(|| done.failure()).filter(|_| !meant) {
        report.manual.push(failure);
    }
    // What goes unnoticed must not be noticed.
    for line in done.said.all("tried").filter(|line| line.contains("=EINTR:") || line.contains("=short:")) {
        if !line.contains(": ok, ") {
            report.other.push(format!("a call that was cut short is an error: {line}"));
        }
    }
    let replay = format!("point:{driver}:{step}:{}", plans[..tried.clamp(1, plans.len())].join("; "));
    Ok((Round1 { replay, report }, tried))
}

/// What SQLite's calls are made to answer.
const DATABASE: [(&str, Verdict); 5] = [
    ("EIO", Verdict::Fail(Errno::IO)),
    ("ENOSPC", Verdict::Fail(Errno::NOSPC)),
    ("EMFILE", Verdict::Fail(Errno::MFILE)),
    ("EINTR", Verdict::Fail(Errno::INTR)),
    ("short", Verdict::Short),
];

/// Fails `wanted` of the calls that SQLite makes, each way.
pub(super) fn database(lab: &Lab, driver: &str, wanted: u64) -> Outcome<Tally> {
    let (_, most) = at_database(lab, driver, 0, "EIO")?;
    let points = some(random(lab.seed, "database"), most, wanted);
    let points: Vec<(u64, &str)> =
        points.iter().flat_map(|point| DATABASE.map(|(word, _)| (*point, word))).collect();
    Ok(lab.play("errno in SQLite's calls", driver, &points, |(point, word)| {
        at_database(lab, driver, *point, word).map(|(round, _)| vec![round])
    }))
}

/// Fails one of SQLite's calls (none for 0); how many there were.
pub(super) fn at_database(lab: &Lab, driver: &str, point: u64, word: &str) -> Outcome<(Round1, u64)> {
    let (_, verdict) = DATABASE.into_iter().find(|(name, _)| *name == word).ok_or("no such answer")?;
    let round = lab.round()?;
    let place = lab.place(&round.path, &round.path, driver);
    let mut count = 0;
    let done = scenario(&place, Some("database"), "").run(&mut |_, call| {
        if !call.path().is_some_and(|path| path.contains("layerstore.db")) {
            return Verdict::Go;
        }
        if call.is_unlock() {
            return Verdict::Go;
        }
        count += 1;
        if count == point { verdict } else { Verdict::Go }
    })?;
    let mut report = lab.verify(lab.wanted(&place, done.said.begun, done.said.done));
    report.manual.extend(done.misbehaved());
    if point == 0
        && let Some(failure) = done.failure()
    {
        return Err(failure);
    }
    Ok((Round1 { replay: format!("database:{driver}:{point}:{word}"), report }, count))
}
