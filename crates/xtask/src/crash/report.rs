//! The table, the list of sites, and the same as JSON.

use std::path::Path;

use super::lab::{Lab, Tally};
use super::points::SiteLine;
use super::{Outcome, explain};

/// Says what went wrong as soon as it is known.
pub(super) fn told(tally: &Tally) {
    if tally.control {
        return;
    }
    for failure in &tally.failures {
        println!("wrong: {} {}: {failure}", tally.section, tally.subject);
    }
}

/// Prints everything, and says whether the laboratory is content.
pub(super) fn print(
    lab: &Lab,
    tallies: &[Tally],
    sites: &[SiteLine],
    answered: bool,
    json: Option<&Path>,
) -> Outcome<bool> {
    println!(
        "\n{:<22} {:<10} {:>7} {:>6} {:>8}  steps, hits, answers",
        "site", "call", "steps", "hits", "answers"
    );
    let (mut unreached, mut reached) = (Vec::new(), 0);
    for line in sites {
        let name = format!("{} {}", line.site, line.function);
        match &line.unreached {
            Some(why) => println!("{name:<40} not reached: {why}"),
            None if line.hits == 0 => {
                println!("{name:<40} NOT REACHED");
                unreached.push(name);
            }
            None => {
                reached += 1;
                println!(
                    "{name:<40} {:<16} {:>3} {:>7} {:>6}",
                    line.call, line.steps, line.hits, line.answers
                );
                if answered && line.answers == 0 {
                    unreached.push(format!("{name} (never made to fail)"));
                }
            }
        }
    }
    println!(
        "{} sites: {reached} reached, {} listed with a reason, {} missing\n",
        sites.len(),
        sites.len() - reached - unreached.len(),
        unreached.len()
    );

    println!(
        "{:<28} {:<24} {:>7} {:>6} {:>6} {:>7} {:>8} {:>6} {:>8}",
        "section", "subject", "rounds", "lost", "empty", "manual", "partial", "other", "seconds"
    );
    for tally in tallies {
        let verdict = match (tally.control, tally.passed()) {
            (true, true) => "caught",
            (true, false) => "NOT CAUGHT",
            (false, true) => "",
            (false, false) => "WRONG",
        };
        println!(
            "{:<28} {:<24} {:>7} {:>6} {:>6} {:>7} {:>8} {:>6} {:>8.1}  {verdict}",
            tally.section,
            tally.subject,
            tally.rounds,
            tally.lost,
            tally.empty_files,
            tally.manual,
            tally.partial,
            tally.other,
            tally.seconds
        );
    }
    let real = || tallies.iter().filter(|tally| !tally.control);
    let sum = |count: fn(&Tally) -> u64| real().map(count).sum::<u64>();
    let caught = tallies.iter().filter(|tally| tally.control && tally.passed()).count();
    let controls = tallies.iter().filter(|tally| tally.control).count();
    println!(
        "{} rounds: {} lost, {} with empty files, {} manual steps, {} partial, {} other; {caught} of {controls} controls caught; seed {}",
        sum(|tally| tally.rounds),
        sum(|tally| tally.lost),
        sum(|tally| tally.empty_files),
        sum(|tally| tally.manual),
        sum(|tally| tally.partial),
        sum(|tally| tally.other),
        lab.seed,
    );
    let content = unreached.is_empty() && !tallies.is_empty() && tallies.iter().all(Tally::passed);
    if let Some(path) = json {
        let document = serde_json::json!({
            "seed": lab.seed, "content": content, "sections": tallies, "sites": sites, "missing": unreached,
        });
        std::fs::write(path, serde_json::to_vec_pretty(&document).map_err(explain)?).map_err(explain)?;
    }
    Ok(content)
}
