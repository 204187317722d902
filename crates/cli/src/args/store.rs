//! Arguments of the verbs about the store as a whole, and of the conformance suite.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use layerstore_conformance::TIME_LIMIT;

// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Only records against disk, no contents
    #[arg(long)]
    pub(crate) quick: bool,
    /// Put right what can be: the database, records, layers that a source gives, orphans
    #[arg(long)]
    pub(crate) repair: bool,
    /// An image, as for `pull`, from which damaged layers are restored (repeatable)
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    pub(crate) from: Vec<String>,
}

// Arguments of `conformance`; drivers and format are the global flags.
#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// Only cases whose name fits (`*` and `?`)
    #[arg(long, value_name = "GLOB")]
    pub(crate) case: Option<String>,
    /// Directory on the file system to test; a temporary one is made in it (repeatable: each is one more run)
    #[arg(long, value_name = "DIR", action = ArgAction::Append)]
    pub(crate) scratch: Vec<PathBuf>,
    /// How long one case may take, in seconds: more where the machine is slow (an emulated one, say)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), default_value_t = TIME_LIMIT.as_secs())]
    pub(crate) time_limit: u64,
    /// List clauses, cases and saboteurs, and run nothing
    #[arg(long)]
    pub(crate) list: bool,
}
