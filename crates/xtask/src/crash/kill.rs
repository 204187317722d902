//! Processes that are killed: before each of their calls, at each fail point, again while they recover, and at
//! random times with eight of them at work.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use layerstore_testkit::crash::supervised::Verdict;

use super::job::{Job, Place, Said, undisturbed};
use super::lab::{Lab, Round1, Tally, random, some};
use super::points::{Profile, attempt};
use super::verify::{Thing, Wanted};
use super::{Outcome, busy, explain};

pub(super) fn scenario(place: &Place, watched: Option<&str>, plan: &str) -> Job {
    Job::Scenario {
        place: place.clone(),
        watched: watched.map(ToOwned::to_owned),
        plan: plan.to_owned(),
        faulty: None,
        late_sync: false,
    }
}

/// How many calls the scenario makes that change something.
pub(super) fn count(lab: &Lab, driver: &str) -> Outcome<u64> {
    let round = lab.round()?;
    let done =
        scenario(&lab.place(&round.path, &round.path, driver), Some("changing"), "").run(&mut undisturbed)?;
    match done.failure() {
        Some(failure) => Err(failure),
        None => Ok(done.ended.calls),
    }
}

/// Kills the scenario before `wanted` of its calls.
pub(super) fn calls(lab: &Lab, driver: &str, wanted: u64) -> Outcome<Tally> {
    let most = count(lab, driver)?;
    let points = some(random(lab.seed, "kill"), most, wanted);
    Ok(lab.play("kill -9 before a call", driver, &points, |point| Ok(vec![at_call(lab, driver, *point)?])))
}

pub(super) fn at_call(lab: &Lab, driver: &str, point: u64) -> Outcome<Round1> {
    let round = lab.round()?;
    let place = lab.place(&round.path, &round.path, driver);
    let done = scenario(&place, Some("changing"), "")
        .run(&mut |_, call| if call.index == point { Verdict::Kill } else { Verdict::Go })?;
    if !done.was_killed()
        && let Some(failure) = done.failure()
    {
        return Err(failure);
    }
    let report = lab.verify(lab.wanted(&place, done.said.begun, done.said.done));
    Ok(Round1 { replay: format!("kill:{driver}:{point}"), report })
}

/// Ends the process at each fail point that each step reaches.
pub(super) fn at_sites(lab: &Lab, profile: &Profile, driver: &str, share: u64) -> Tally {
    let points: Vec<(usize, String)> = profile
        .reached(driver)
        .enumerate()
        .filter(|(index, _)| (*index as u64).is_multiple_of(share))
        .map(|(_, it)| it)
        .collect();
    lab.play("abort at a fail point", driver, &points, |(step, site)| {
        let plan = format!("site={site},times=1,action=abort");
        Ok(vec![attempt(lab, driver, *step, &[plan])?.0])
    })
}

/// Kills the scenario somewhere, and then up to three recoveries somewhere.
pub(super) fn recoveries(lab: &Lab, driver: &str, wanted: u64) -> Outcome<Tally> {
    let most = count(lab, driver)?;
    let points = some(random(lab.seed, "recovery"), most, wanted);
    Ok(lab.play("kill -9 while recovering", driver, &points, |point| {
        let mut random = random(lab.seed ^ point, "recoveries");
        let round = lab.round()?;
        let place = lab.place(&round.path, &round.path, driver);
        let done = scenario(&place, Some("changing"), "")
            .run(&mut |_, call| if call.index == *point { Verdict::Kill } else { Verdict::Go })?;
        let Said { begun, done: acknowledged, .. } = done.said;
        let mut trace = String::new();
        for _ in 0..=random.below(3) {
            let at = 1 + random.below(40);
            trace = format!("{trace}:{at}");
            let recovery = Job::Recover { place: place.clone(), watched: true }
                .run(&mut |_, call| if call.index == at { Verdict::Kill } else { Verdict::Go })?;
            if !recovery.was_killed()
                && let Some(failure) = recovery.failure()
            {
                return Err(failure);
            }
        }
        let report = lab.verify(lab.wanted(&place, begun, acknowledged));
        Ok(vec![Round1 {
            replay: format!("recovery:{driver}:{point} (recoveries killed at{trace})"),
            report,
        }])
    }))
}

/// How many processes work at once.
const WORKERS: usize = 8;

/// Eight processes at work, some of them killed and started again at random times, all of them in the end.
pub(super) fn crowds(lab: &Lab, driver: &str, wanted: u64, plan: &str) -> Tally {
    let seeds: Vec<u64> = (0..wanted).map(|number| lab.seed ^ number.wrapping_mul(0x9e37)).collect();
    lab.play("kill -9 among eight workers", driver, &seeds, |seed| {
        let round = lab.round()?;
        let place = lab.place(&round.path, &round.path, driver);
        let report = crowd(lab, &place, &round.path, *seed, plan)?;
        Ok(vec![Round1 { replay: format!("crowd:{driver}:{seed}"), report }])
    })
}

fn crowd(lab: &Lab, place: &Place, path: &Path, seed: u64, plan: &str) -> Outcome<super::verify::Report> {
    let mut random = random(seed, "crowd");
    let said = |worker: usize| path.join(format!("said-{worker}"));
    let start = |worker: usize, seed: u64| -> Outcome<std::process::Child> {
        let out =
            std::fs::OpenOptions::new().create(true).append(true).open(said(worker)).map_err(explain)?;
        Job::Busy { place: place.clone(), worker, seed, plan: plan.to_owned() }.spawn(out)
    };
    let mut children = Vec::new();
    for worker in 0..WORKERS {
        children.push(start(worker, random.number())?);
    }
    let mut failed = Vec::new();
    for _ in 0..4 + random.below(8) {
        std::thread::sleep(Duration::from_millis(20 + random.below(250)));
        let worker = random.below(WORKERS as u64) as usize;
        let mut old = start(worker, random.number());
        if let (Some(child), Ok(new)) = (children.get_mut(worker), &mut old) {
            std::mem::swap(child, new);
        }
        let mut old = old?;
        if let Some(status) = old.try_wait().map_err(explain)? {
            failed.push(format!("worker {worker} ended by itself: {status}"));
        }
        old.kill().and_then(|()| old.wait()).map_err(explain)?;
    }
    for child in &mut children {
        child.kill().map_err(explain)?;
    }
    for child in &mut children {
        child.wait().map_err(explain)?;
    }
    let mut things = BTreeMap::new();
    for worker in 0..WORKERS {
        let text = std::fs::read_to_string(said(worker)).map_err(explain)?;
        failed.extend(
            busy::read(&text, &mut things).into_iter().map(|line| format!("worker {worker}: {line}")),
        );
    }
    let (containers, images): (Vec<Thing>, Vec<Thing>) =
        things.into_values().partition(|thing: &Thing| !thing.name.contains(':'));
    let wanted = Wanted {
        place: place.clone(),
        boot: None,
        images,
        containers,
        pushed: Vec::new(),
        empty: lab.empty(&place.driver).to_vec(),
    };
    let mut report = lab.verify(wanted);
    report.manual.extend(failed);
    Ok(report)
}
