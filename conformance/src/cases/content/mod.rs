//! Cases about content: applying (A), the normal form of a diff (N), views through a mount (V), and what drivers
//! make of each other's changesets (X).

use crate::case::{Action, Case};

mod applying;
mod between;
mod copying_up;
mod diffing;
mod hiding;
mod hostile;
mod kit;
mod linking;
mod normal;
mod random;
mod saboteurs;
mod scenarios;
mod viewing;
mod walking;

/// The tables of cases.
pub(super) const CASES: &[&[Case]] = &[
    applying::CASES,
    hiding::CASES,
    walking::CASES,
    linking::CASES,
    hostile::CASES,
    normal::CASES,
    diffing::CASES,
    viewing::CASES,
    copying_up::CASES,
    random::CASES,
    between::CASES,
];

/// The tables of actions.
pub(super) const ACTIONS: &[&[Action]] = &[diffing::ACTIONS];

pub(crate) use saboteurs::SABOTEURS;
