//! Cases about content: applying (A), the normal form of a diff (N), views through a mount (V), and what drivers
//! make of each other's changesets (X).

use crate::case::{Action, Case};
use crate::saboteur::Saboteur;

/// The tables of cases.
pub(super) const CASES: &[&[Case]] = &[];

/// The tables of actions.
pub(super) const ACTIONS: &[&[Action]] = &[];

/// The tables of saboteurs.
pub(crate) const SABOTEURS: &[&[Saboteur]] = &[];
