//! The power goes: a disk as it was at some moment is mounted again, with an empty run root as after a boot, and
//! the oracle looks at the store on it.

use std::path::{Path, PathBuf};

use layerstore_testkit::crash::disk::{self, Mounted};
use layerstore_testkit::crash::log;
use layerstore_testkit::crash::supervised::{Call, Verdict};
use layerstore_testkit::scratch::FileSystem;

use super::job::Job;
use super::lab::{Lab, Round1, Tally, random, some};
use super::verify::Wanted;
use super::{Outcome, explain, kill};

/// The file systems, none of which writes anything by itself for a long time.
pub(super) const FILE_SYSTEMS: [FileSystem; 3] =
    [FileSystem::Ext4 { commit: 1000 }, FileSystem::Xfs, FileSystem::Btrfs];

/// Most copies of a disk that are kept at once.
const BATCH: u64 = 25;

/// How the store is to be mistreated: for the negative controls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wrong<'a> {
    /// Fail points for the whole scenario.
    pub(super) plan: &'a str,
    /// The row first, then the data.
    pub(super) late_sync: bool,
    /// The database's files are never synced.
    pub(super) loose_database: bool,
}

impl Wrong<'_> {
    /// What becomes of a call.
    fn judge(self, call: &Call) -> Verdict {
        let syncs = matches!(call.number(), libc::SYS_fsync | libc::SYS_fdatasync);
        if self.loose_database && syncs && call.path().is_some_and(|path| path.contains("layerstore.db")) {
            return Verdict::Pretend;
        }
        Verdict::Go
    }
}

fn job(place: &super::job::Place, wrong: Wrong<'_>) -> Job {
    Job::Scenario {
        place: place.clone(),
        watched: Some("changing".to_owned()),
        plan: wrong.plan.to_owned(),
        faulty: None,
        late_sync: wrong.late_sync,
    }
}

/// A copy of a disk, and what was acknowledged when it was taken.
struct Cut {
    image: PathBuf,
    point: u64,
    begun: usize,
    done: usize,
}

/// Cuts the power at `wanted` moments of the scenario.
pub(super) fn cuts(
    lab: &Lab,
    file_system: FileSystem,
    driver: &str,
    wanted: u64,
    wrong: Wrong<'_>,
) -> Outcome<Tally> {
    let subject = format!("{} {driver}", file_system.name());
    let most = kill::count(lab, driver)?;
    let points = some(random(lab.seed, &format!("power {subject}")), most + 1, wanted);
    let batches: Vec<&[u64]> = points.chunks(BATCH as usize).collect();
    Ok(lab.play_in_turn("power cut", &subject, &batches, |batch| cut(lab, file_system, driver, batch, wrong)))
}

/// Cuts the power before these calls of one run, and for every number past its last when all is done: runs differ by
/// a call or two.
pub(super) fn cut(
    lab: &Lab,
    file_system: FileSystem,
    driver: &str,
    points: &[u64],
    wrong: Wrong<'_>,
) -> Outcome<Vec<Round1>> {
    let round = lab.round()?;
    let image = round.path.join("image");
    disk::make(file_system, &image).map_err(explain)?;
    let mounted = Mounted::new(file_system, &image, &round.path.join("disk")).map_err(explain)?;
    let place = lab.place(mounted.path(), &round.path, driver);
    let mut cuts = Vec::new();
    let mut failed = None;
    let mut take = |point: u64, begun: usize, done: usize| {
        let copy = round.path.join(format!("cut-{point}"));
        match disk::copy(&image, &copy) {
            Ok(()) => cuts.push(Cut { image: copy, point, begun, done }),
            Err(error) => failed = Some(error.to_string()),
        }
    };
    let done = job(&place, wrong).run(&mut |said, call| {
        if points.contains(&call.index) {
            take(call.index, said.begun, said.done);
        }
        wrong.judge(call)
    })?;
    if let Some(failure) = done.failure() {
        return Err(format!("the scenario on {}: {failure}", file_system.name()));
    }
    for point in points.iter().filter(|point| **point > done.ended.calls) {
        take(*point, done.said.begun, done.said.done);
    }
    drop(mounted);
    if let Some(error) = failed {
        return Err(error);
    }
    cuts.into_iter()
        .map(|cut| {
            let replay = format!("power:{}:{driver}:{}", file_system.name(), cut.point);
            let round = after(lab, file_system, driver, &cut.image, (cut.begun, cut.done), replay);
            let _ = std::fs::remove_file(&cut.image);
            round
        })
        .collect()
}

/// Boots with a disk and asks the oracle.
fn after(
    lab: &Lab,
    file_system: FileSystem,
    driver: &str,
    image: &Path,
    (begun, done): (usize, usize),
    replay: String,
) -> Outcome<Round1> {
    let round = lab.round()?;
    let mounted = Mounted::new(file_system, image, &round.path.join("disk"))
        .map_err(|error| format!("{replay}: the file system does not mount again: {error}"))?;
    let place = lab.place(mounted.path(), &round.path, driver);
    let boot = round.path.join("boot");
    std::fs::write(&boot, "5eedb007-0000-4000-8000-000000000001\n").map_err(explain)?;
    let report = lab.verify(Wanted { boot: Some(boot), ..lab.wanted(&place, begun, done) });
    Ok(Round1 { replay, report })
}

/// Writes `wanted` disks that lost, reordered or tore what was not flushed.
pub(super) fn reordered(
    lab: &Lab,
    file_system: FileSystem,
    driver: &str,
    wanted: u64,
    wrong: Wrong<'_>,
) -> Outcome<Tally> {
    let subject = format!("{} {driver}", file_system.name());
    let started = std::time::Instant::now();
    let mut tally = Tally::new("reordered writes", &subject);
    for round in reorder(lab, file_system, driver, wanted, None, wrong)? {
        tally.add(round);
    }
    tally.seconds = started.elapsed().as_secs_f64();
    Ok(tally)
}

/// The disks of one run; with `only`, the one of this number after so many writes.
pub(super) fn reorder(
    lab: &Lab,
    file_system: FileSystem,
    driver: &str,
    wanted: u64,
    only: Option<(u64, u64)>,
    wrong: Wrong<'_>,
) -> Outcome<Vec<Round1>> {
    let round = lab.round()?;
    let image = round.path.join("image");
    disk::make(file_system, &image).map_err(explain)?;
    let (served, log) = log::serve(&image, &round.path.join("served")).map_err(explain)?;
    let mounted = Mounted::new(file_system, &served.disk(), &round.path.join("disk")).map_err(explain)?;
    let place = lab.place(mounted.path(), &round.path, driver);
    // How long the log was when so much had begun and so much was acknowledged.
    let mut marks: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
    let done = job(&place, wrong).run(&mut |said, call| {
        marks.push((log.len(), said.begun, said.done));
        wrong.judge(call)
    })?;
    if let Some(failure) = done.failure() {
        return Err(format!("the scenario on {}: {failure}", file_system.name()));
    }
    let most = log.len() as u64;
    marks.push((log.len(), done.said.begun, done.said.done));
    drop(mounted);
    drop(served);
    let lengths = some(random(lab.seed, &format!("reorder {}", file_system.name())), most, wanted);
    let disks: Vec<(u64, u64)> = match only {
        Some((number, length)) => vec![(number, length.min(most))],
        None => (0..).zip(lengths).collect(),
    };
    let mut rounds = Vec::new();
    for (number, length) in disks {
        let acknowledged =
            marks.iter().take_while(|(at, ..)| *at as u64 <= length).last().map_or(0, |mark| mark.2);
        let begun = marks.iter().find(|(at, ..)| *at as u64 > length).map_or(done.said.begun, |mark| mark.1);
        let mut random = random(lab.seed ^ number, "order");
        let copy = round.path.join(format!("disk-{number}"));
        let (open, lost) = log.crash(length as usize, || random.number(), &copy).map_err(explain)?;
        let replay = format!(
            "reorder:{}:{driver}:{number}@{length} (of {most} writes; {lost} of {open} unflushed ones lost)",
            file_system.name()
        );
        rounds.push(after(lab, file_system, driver, &copy, (begun, acknowledged), replay)?);
        let _ = std::fs::remove_file(&copy);
    }
    Ok(rounds)
}
