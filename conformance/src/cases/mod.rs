//! The cases, one file per topic, and the actions that other processes do for them.
//!
//! To add a case, write a row into its topic's table and the function below it; to add a topic, name its tables
//! here.

use crate::case::{Action, Case};

pub(crate) mod content;
mod durable;
mod errors;
mod in_use;
mod layers;
mod leases;
mod limits;
mod mount_options;
mod mounts;
mod parallel;
mod prelude;
mod repair;
mod size_limit;
mod slow;

/// Every table of cases, in the order of the contract.
const CASES: &[&[Case]] = &[
    layers::CASES,
    in_use::CASES,
    durable::CASES,
    limits::CASES,
    size_limit::CASES,
    mounts::CASES,
    leases::CASES,
    mount_options::CASES,
    parallel::CASES,
    errors::CASES,
    repair::CASES,
];

/// Every table of actions.
const ACTIONS: &[&[Action]] = &[durable::ACTIONS, leases::ACTIONS, parallel::ACTIONS];

/// Every case.
pub fn all() -> Vec<&'static Case> {
    CASES.iter().chain(content::CASES).copied().flatten().collect()
}

/// Whether a case is one of the few that take most of a run's time: what a run of many runs may leave out.
pub fn is_slow(case: &Case) -> bool {
    slow::SLOW.contains(&case.id().as_str())
}

/// The full names that the table of slow cases has.
pub fn slow() -> &'static [&'static str] {
    slow::SLOW
}

/// Every action.
pub(crate) fn actions() -> Vec<Action> {
    ACTIONS.iter().chain(content::ACTIONS).copied().flatten().copied().collect()
}
