//! Negative controls: the product with one safeguard left out has to fail, or the laboratory proves nothing.
//!
//! | left out | seen by |
//! |---|---|
//! | the `syncfs` before an image becomes visible | power cuts: what was acknowledged is lost |
//! | the same, but it comes after the row | power cuts: an image is visible and not complete |
//! | the `fsync` of directories | power cuts: what was pushed is lost |
//! | the syncs of the database | power cuts: what was acknowledged is lost |
//! | the lock of a lease | eight workers: one takes away what another, living one is making |

use layerstore_testkit::crash::sites;
use layerstore_testkit::scratch::FileSystem;

use super::lab::{Lab, Tally};
use super::power::{self, Wrong};
use super::{Outcome, explain, kill};

const EXT4: FileSystem = FileSystem::Ext4 { commit: 1000 };

/// The sync is left out, and so is what is sent to the disk before it: ext4 in `data=ordered` would else make it
/// durable with the next commit of its journal, which the database's own sync brings.
const NO_SYNC: &str = "call=syncfs,action=skip; call=sync_file_range,action=skip";

/// A safeguard, how it is left out, and how that has to show.
type Control<'a> = (&'a str, Wrong<'a>, &'a dyn Fn(&Tally) -> bool);

/// Runs each control with about `wanted` rounds.
pub(super) fn run(lab: &Lab, wanted: u64) -> Outcome<Vec<Tally>> {
    let driver = lab.drivers.first().ok_or("no driver")?.clone();
    let directories = directory_syncs()?;
    let cuts: [Control<'_>; 4] = [
        ("no syncfs", Wrong { plan: NO_SYNC, ..Wrong::default() }, &|tally| tally.lost > 0),
        ("the row before the data", Wrong { plan: NO_SYNC, late_sync: true, ..Wrong::default() }, &|tally| {
            tally.partial > 0
        }),
        ("no fsync of directories", Wrong { plan: &directories, ..Wrong::default() }, &|tally| {
            tally.lost > 0
        }),
        ("no sync of the database", Wrong { loose_database: true, ..Wrong::default() }, &|tally| {
            tally.lost > 0
        }),
    ];
    let mut tallies = Vec::new();
    for (name, wrong, caught) in cuts {
        // More and more moments, until it is caught.
        let mut tally = Tally::default();
        for more in [1, 4] {
            tally = power::cuts(lab, EXT4, &driver, wanted * more, wrong)?;
            if caught(&tally) {
                break;
            }
        }
        tallies.push(as_control(name, tally, caught));
    }
    let mut tally = Tally::default();
    for more in [1, 4] {
        tally = kill::crowds(lab, &driver, more * 2, "call=flock,subject=.lease,action=skip");
        if tally.wrong() > 0 {
            break;
        }
    }
    tallies.push(as_control("no lock on leases", tally, &|tally| tally.wrong() > 0));
    Ok(tallies)
}

fn as_control(name: &str, mut tally: Tally, caught: &dyn Fn(&Tally) -> bool) -> Tally {
    // Caught in the way that it has to be caught, not by any failure.
    if !caught(&tally) {
        tally = Tally { rounds: tally.rounds, seconds: tally.seconds, ..Tally::default() };
    }
    Tally { section: "control", subject: name.to_owned(), control: true, ..tally }
}

/// A plan that leaves out every sync of a directory.
fn directory_syncs() -> Outcome<String> {
    let sites = sites::all().map_err(explain)?;
    let ours = sites.iter().filter(|place| place.file == "dir.rs" && place.function == "sync");
    let plans: Vec<String> =
        ours.map(|place| format!("site={}:{},action=skip", place.file, place.line)).collect();
    if plans.is_empty() {
        Err("no sync of directories in the sources".to_owned())
    } else {
        Ok(plans.join("; "))
    }
}
