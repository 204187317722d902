//! The laboratory: where rounds are played, how many at once, and what they added up to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use layerstore_testkit::Random;
use layerstore_testkit::crash::disk::unmount_below;
use serde::Serialize;

use super::job::{Job, Place, undisturbed};
use super::verify::{self, Report, Wanted};
use super::{Outcome, explain, sample};

/// Most failures of one section that are told in full.
const TOLD: usize = 5;

/// Where everything happens.
#[derive(Debug)]
pub(super) struct Lab {
    base: tempfile::TempDir,
    empty: BTreeMap<String, Vec<String>>,
    next: AtomicU64,
    pub(super) drivers: Vec<String>,
    pub(super) jobs: usize,
    pub(super) seed: u64,
}

/// One round: a directory that goes with everything that is mounted in it.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) path: PathBuf,
}

impl Drop for Round {
    fn drop(&mut self) {
        unmount_below(&self.path);
        // What cannot be removed goes with the laboratory, or shows as a leak there.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Lab {
    /// Prepares the sample and what an empty store of each driver holds.
    pub(super) fn new(drivers: Vec<String>, jobs: usize, seed: u64) -> Outcome<Self> {
        let memory = Path::new("/dev/shm");
        let mut base = tempfile::Builder::new();
        base.prefix("layerstore-crash-");
        let base = if memory.is_dir() { base.tempdir_in(memory) } else { base.tempdir() };
        let base = base.map_err(explain)?;
        std::fs::create_dir(base.path().join("sample")).map_err(explain)?;
        sample::prepare(&base.path().join("sample"), &layerstore_builtin::registry())?;
        let mut lab = Self { base, empty: BTreeMap::new(), next: AtomicU64::new(0), drivers, jobs, seed };
        for driver in lab.drivers.clone() {
            let round = lab.round()?;
            let empty = verify::empty(&lab.place(&round.path, &round.path, &driver))?;
            lab.empty.insert(driver, empty);
        }
        Ok(lab)
    }

    pub(super) fn round(&self) -> Outcome<Round> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.base.path().join(format!("round-{number}"));
        std::fs::create_dir(&path).map_err(explain)?;
        Ok(Round { path })
    }

    /// A store in `disk`, with its run root in `memory`.
    pub(super) fn place(&self, disk: &Path, memory: &Path, driver: &str) -> Place {
        Place {
            graphroot: disk.join("root"),
            runroot: memory.join("run"),
            out: disk.join("out"),
            driver: driver.to_owned(),
            source: self.base.path().join("sample"),
        }
    }

    /// What has to hold after so many steps.
    pub(super) fn wanted(&self, place: &Place, begun: usize, done: usize) -> Wanted {
        Wanted::after(place, begun, done, self.empty(&place.driver))
    }

    pub(super) fn empty(&self, driver: &str) -> &[String] {
        self.empty.get(driver).map(Vec::as_slice).unwrap_or_default()
    }

    /// Asks the oracle.
    pub(super) fn verify(&self, wanted: Wanted) -> Report {
        let asked = Job::Verify(wanted).run(&mut undisturbed);
        let answer = asked.and_then(|done| {
            let report = done.said.all("report").next().map(serde_json::from_str::<Report>);
            match (report, done.failure()) {
                (Some(report), None) => report.map_err(explain),
                (_, failure) => Err(failure.unwrap_or_else(|| "no report".to_owned())),
            }
        });
        answer.unwrap_or_else(|error| Report {
            manual: vec![format!("the oracle: {error}")],
            ..Report::default()
        })
    }

    /// Plays many rounds at once. `play` gives the rounds that it counts for, and what went wrong.
    pub(super) fn play<T: Sync>(
        &self,
        section: &'static str,
        subject: &str,
        items: &[T],
        play: impl Fn(&T) -> Outcome<Vec<Round1>> + Sync,
    ) -> Tally {
        self.play_with(self.jobs, section, subject, items, play)
    }

    /// The same one after another: two copies of one btrfs cannot be mounted at once.
    pub(super) fn play_in_turn<T: Sync>(
        &self,
        section: &'static str,
        subject: &str,
        items: &[T],
        play: impl Fn(&T) -> Outcome<Vec<Round1>> + Sync,
    ) -> Tally {
        self.play_with(1, section, subject, items, play)
    }

    fn play_with<T: Sync>(
        &self,
        jobs: usize,
        section: &'static str,
        subject: &str,
        items: &[T],
        play: impl Fn(&T) -> Outcome<Vec<Round1>> + Sync,
    ) -> Tally {
        let started = Instant::now();
        let tally = Mutex::new(Tally::new(section, subject));
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..jobs.min(items.len()).max(1) {
                scope.spawn(|| {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let rounds = play(item).unwrap_or_else(|error| vec![Round1::broken(error)]);
                        let Ok(mut tally) = tally.lock() else { return };
                        rounds.into_iter().for_each(|round| tally.add(round));
                    }
                });
            }
        });
        let mut tally = tally.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        tally.seconds = started.elapsed().as_secs_f64();
        tally
    }
}

/// What came of one round.
#[derive(Debug)]
pub(super) struct Round1 {
    /// How to play it again.
    pub(super) replay: String,
    pub(super) report: Report,
}

impl Round1 {
    /// A round that could not be played.
    pub(super) fn broken(error: String) -> Self {
        let report =
            Report { other: vec![format!("the round could not be played: {error}")], ..Report::default() };
        Self { replay: String::new(), report }
    }
}

/// A line of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Tally {
    pub(super) section: &'static str,
    pub(super) subject: String,
    pub(super) rounds: u64,
    /// Rounds with something acknowledged that is gone.
    pub(super) lost: u64,
    /// Rounds with an empty file that should not be.
    pub(super) empty_files: u64,
    /// Rounds after which something had to be done by hand.
    pub(super) manual: u64,
    /// Rounds with something visible that is not complete.
    pub(super) partial: u64,
    pub(super) other: u64,
    pub(super) seconds: f64,
    /// The first few, in full.
    pub(super) failures: Vec<String>,
    /// A negative control: it has to fail.
    pub(super) control: bool,
}

impl Tally {
    pub(super) fn new(section: &'static str, subject: &str) -> Self {
        Self { section, subject: subject.to_owned(), ..Self::default() }
    }

    pub(super) fn add(&mut self, round: Round1) {
        let Round1 { replay, report } = round;
        self.rounds += 1;
        self.lost += u64::from(!report.lost.is_empty());
        self.empty_files += u64::from(!report.empty_files.is_empty());
        self.manual += u64::from(!report.manual.is_empty());
        self.partial += u64::from(!report.partial.is_empty());
        self.other += u64::from(!report.other.is_empty());
        let lines = report.lines();
        if !lines.is_empty() && self.failures.len() < TOLD {
            self.failures.push(format!("{replay}\n    {}", lines.join("\n    ")));
        }
    }

    pub(super) fn wrong(&self) -> u64 {
        self.lost + self.empty_files + self.manual + self.partial + self.other
    }

    /// Whether it is as it should be: nothing wrong, or for a control something.
    pub(super) fn passed(&self) -> bool {
        self.rounds > 0 && (self.wrong() > 0) == self.control
    }
}

/// Numbers for one purpose: other ones than for another purpose with the same seed.
pub(super) fn random(seed: u64, salt: &str) -> Random {
    let salt = salt
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    Random::new(seed ^ salt)
}

/// Some of `1..=most`, in order: all of them when `wanted` is as many.
pub(super) fn some(mut random: Random, most: u64, wanted: u64) -> Vec<u64> {
    if wanted >= most {
        return (1..=most).collect();
    }
    // One of each stretch, so that no part goes without.
    (0..wanted)
        .map(|part| {
            let (from, to) = (part * most / wanted, (part + 1) * most / wanted);
            from + 1 + random.below(to - from)
        })
        .collect()
}
