//! What every file of cases uses.

#![allow(unused_imports, reason = "not every topic uses everything")]

pub(crate) use layerstore_driver::{
    Access, Base, Context, CreateOptions, Driver, DriverExt as _, LayerId, LayerState, PlanOptions,
};

pub(crate) use crate::bench::Bench;
pub(crate) use crate::case::{Action, Case, Failure, Outcome};
pub(crate) use crate::hands::{View, ensure_kind, id, read_only, read_write};
pub(crate) use crate::need::{
    Claim, Feature,
    Need::{self, Claims, Has, Without},
};
pub(crate) use crate::process::ActionBench;
pub(crate) use crate::script::{Script, script};
pub(crate) use crate::tree::Tree;
pub(crate) use crate::{ensure, ensure_eq, ensure_refused};
