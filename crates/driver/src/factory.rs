//! How drivers come to be: probing a root and opening a driver on it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use crate::driver::Driver;
use crate::error::Result;
use crate::options::{DriverOptions, OptionSpec};

/// Where a driver is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The driver's own directory for what outlives a reboot; made 0700 if it is missing.
    pub root: PathBuf,
    /// The driver's own directory for what dies with a reboot (mounts, locks), best on tmpfs.
    pub runroot: PathBuf,
    /// Options, checked against [`DriverFactory::options`].
    pub options: DriverOptions,
}

/// Whether a driver can run on a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It can.
    Usable,
    /// It cannot; which kernel feature, file system or privilege is missing, and what to do.
    Unusable {
        /// The reason, for a person.
        reason: String,
        /// What would help, where that is known.
        hint: Option<String>,
    },
}

/// Makes drivers of one kind.
pub trait DriverFactory: Debug + Send + Sync {
    /// The driver's name: lower-case letters and digits.
    fn name(&self) -> &'static str;

    /// Other names by which people know it, from other programs' configuration. A driver that has one of them as
    /// its own name goes first.
    fn aliases(&self) -> &'static [&'static str];

    /// One sentence about the driver.
    fn description(&self) -> &'static str;

    /// Whether it copies whole trees, so that automatic selection takes it last and warns.
    fn last_resort(&self) -> bool;

    /// What can be configured.
    fn options(&self) -> &'static [OptionSpec];

    /// Whether the driver can run there. The root need not exist; what is tried is undone.
    ///
    /// # Errors
    /// A failure that says nothing about the driver: the root cannot be made or read.
    fn probe(&self, open: &OpenOptions) -> Result<Probe>;

    /// Opens the driver. Does not recover: that is [`Driver::recover`].
    ///
    /// # Errors
    /// `Unsupported` with the reason of the probe; [`System`](crate::Kind::System).
    fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>>;

    /// Makes again what says whose root it is and what was settled when it was made, where that is missing or cannot be
    /// read though layers lie there. Says what was wrong; none where nothing is, or nothing lies there. Never called but
    /// for a person who wants the root repaired.
    ///
    /// # Errors
    /// `Unsupported` where it cannot be told what was settled, with what to do; [`System`](crate::Kind::System).
    fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>>;
}
