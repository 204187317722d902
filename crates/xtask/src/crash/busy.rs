//! A worker among others: random operations under names of its own, over layers that all share. Runs in a child
//! until it is killed.
//!
//! ```text
//! begin have NAME TREE · done have NAME TREE     an image (with a colon) or container that is to be there from then on
//! begin gone NAME · done gone NAME               and one that is not any more
//! failed WHAT: WHY                               nobody failed its calls, so nothing may
//! ```

use std::collections::BTreeMap;

use layerstore::{CommitOptions, ContainerOptions, Context, MountOptions, PullOptions, Store};
use layerstore_sys::fault;
use layerstore_testkit::Random;
use layerstore_testkit::crash::plan;

use super::job::Place;
use super::lab::random;
use super::scenario::say;
use super::verify::Thing;
use super::{Outcome, explain, sample};

/// Works until it is killed, or for a minute.
pub(super) fn run(place: &Place, worker: usize, seed: u64, rules: &str) -> Outcome<()> {
    fault::set(plan::parse(rules)?);
    let mut random = random(seed, "busy");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // What an earlier life of this worker left under its names goes first.
    let mut number = seed % 1_000_000;
    while std::time::Instant::now() < end {
        number += 1;
        let names = Names {
            image: format!("w{worker}-{number}:1"),
            container: format!("w{worker}-{number}"),
            committed: format!("w{worker}-{number}-new:1"),
        };
        if let Err(error) = life(place, &names, &mut random) {
            say(&format!("failed {}", error.replace('\n', " ")))?;
        }
    }
    Ok(())
}

struct Names {
    image: String,
    container: String,
    committed: String,
}

/// An image comes, a container lives on it, is committed perhaps, and all or some goes.
fn life(place: &Place, names: &Names, random: &mut Random) -> Outcome<()> {
    let context = Context::new();
    let open = || -> Outcome<Store> { place.open().map_err(|error| format!("open: {error}")) };
    let have = |name: &str, tree: &str, work: &dyn Fn(&Store) -> Outcome<()>| -> Outcome<()> {
        say(&format!("begin have {name} {tree}"))?;
        work(&open()?).map_err(|error| format!("{name}: {error}"))?;
        say(&format!("done have {name} {tree}"))
    };
    let gone = |name: &str, work: &dyn Fn(&Store) -> Outcome<()>| -> Outcome<()> {
        say(&format!("begin gone {name}"))?;
        work(&open()?).map_err(|error| format!("{name}: {error}"))?;
        say(&format!("done gone {name}"))
    };
    let from = if random.below(2) == 0 { "one" } else { "two" };
    let source = sample::source(&place.source, from);
    have(&names.image, from, &|store| {
        let options = PullOptions { names: vec![names.image.clone()], ..PullOptions::default() };
        store.pull(&source, &options, &context).map(drop).map_err(explain)
    })?;
    have(&names.container, from, &|store| {
        let options = ContainerOptions { name: Some(names.container.clone()), ..ContainerOptions::default() };
        store.create_container(&names.image, &options, &context).map(drop).map_err(explain)
    })?;
    let commits = from == "one" && random.below(2) == 0;
    if commits {
        // What is written is not settled until all of it is.
        have(&names.container, "?", &|store| {
            let mounted = store.mount(&names.container, &MountOptions::default()).map_err(explain)?;
            sample::write(&mounted)?;
            store.unmount(&names.container, None).map(drop).map_err(explain)
        })?;
        say(&format!("done have {} three", names.container))?;
        have(&names.committed, "three", &|store| {
            let options = CommitOptions { name: Some(names.committed.clone()), ..CommitOptions::default() };
            store.commit(&names.container, &options, &context).map(drop).map_err(explain)
        })?;
    }
    if random.below(3) == 0 {
        open()?.gc(false).map_err(|error| format!("gc: {error}"))?;
    }
    if random.below(4) > 0 {
        gone(&names.container, &|store| {
            store.remove_container(&names.container, true).map(drop).map_err(explain)
        })?;
        if commits {
            gone(&names.committed, &|store| {
                store.remove_image(&names.committed, false).map(drop).map_err(explain)
            })?;
        }
        gone(&names.image, &|store| store.remove_image(&names.image, false).map(drop).map_err(explain))?;
    }
    Ok(())
}

/// Adds what a worker said to what has to be there; gives what it failed at.
pub(super) fn read(text: &str, things: &mut BTreeMap<String, Thing>) -> Vec<String> {
    let mut failed = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [when, "have", name, tree] => {
                let done = *when == "done";
                let fresh = || Thing { name: (*name).to_owned(), tree: None, must: false, may: true };
                let thing = things.entry((*name).to_owned()).or_insert_with(fresh);
                thing.must |= done;
                thing.tree = (*tree != "?").then(|| (*tree).to_owned());
            }
            [when, "gone", name] => {
                if let Some(thing) = things.get_mut(*name) {
                    thing.must = false;
                    thing.may = *when == "begin";
                }
            }
            _ => failed.push(line.to_owned()),
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_in_flight_may() {
        let mut things = BTreeMap::new();
        let said = "begin have a:1 one\ndone have a:1 one\nbegin have c one\ndone have c one\nbegin gone a:1\n\
                    begin have b:1 two\nfailed b:1: why\nbegin gone c\ndone gone c\n";
        assert_eq!(read(said, &mut things), ["failed b:1: why"]);
        let seen: Vec<_> =
            things.values().map(|thing| (thing.name.as_str(), thing.must, thing.may)).collect();
        assert_eq!(seen, [("a:1", false, true), ("b:1", false, true), ("c", false, false)]);
    }
}
