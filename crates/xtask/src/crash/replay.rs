//! Playing one round again, as a failure names it:
//!
//! ```text
//! kill:DRIVER:POINT          point:DRIVER:STEP:PLAN          database:DRIVER:POINT:ANSWER
//! power:TYPE:DRIVER:POINT    reorder:TYPE:DRIVER:NUMBER@WRITES   (with the same --seed)
//! ```

use super::lab::{Lab, Round1};
use super::power::{self, Wrong};
use super::{Outcome, explain, kill, points};

/// Plays it, and says whether all is well now.
pub(super) fn run(lab: &Lab, round: &str) -> Outcome<bool> {
    let odd = || format!("{round}: not a round; see crates/xtask/src/crash/replay.rs");
    let words: Vec<&str> = round.splitn(4, ':').map(str::trim).collect();
    let number = |text: &str| text.parse::<u64>().map_err(explain);
    let file_system = |name: &str| {
        power::FILE_SYSTEMS
            .into_iter()
            .find(|it| it.name() == name)
            .ok_or_else(|| format!("{name}: no such file system"))
    };
    let rounds: Vec<Round1> = match words.as_slice() {
        ["kill", driver, point] => vec![kill::at_call(lab, driver, number(point)?)?],
        ["point", driver, step, plans] => {
            let plans: Vec<String> = plans.split("; ").map(ToOwned::to_owned).collect();
            vec![points::attempt(lab, driver, number(step)? as usize, &plans)?.0]
        }
        ["database", driver, point, word] => vec![points::at_database(lab, driver, number(point)?, word)?.0],
        ["power", name, driver, point] => {
            power::cut(lab, file_system(name)?, driver, &[number(point)?], Wrong::default())?
        }
        ["reorder", name, driver, which] => {
            let which = which.split(' ').next().unwrap_or_default();
            let (which, length) = which.split_once('@').ok_or_else(odd)?;
            let only = (number(which)?, number(length)?);
            power::reorder(lab, file_system(name)?, driver, 1, Some(only), Wrong::default())?
        }
        _ => return Err(odd()),
    };
    let mut well = !rounds.is_empty();
    for round in rounds {
        let lines = round.report.lines();
        println!("{}: {}", round.replay, if lines.is_empty() { "nothing is wrong" } else { "wrong" });
        lines.iter().for_each(|line| println!("    {line}"));
        well &= lines.is_empty();
    }
    Ok(well)
}
