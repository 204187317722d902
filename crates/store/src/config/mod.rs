//! The configuration: where it comes from, what it says, and where each value came from.
//!
//! ```toml
//! [storage]
//! driver = "overlay2"                   # none: what the store holds, else the first that can run
//! graphroot = "/var/lib/layerstore"     # layers, images and metadata; outlives a reboot
//! runroot = "/run/layerstore"           # mounts and locks; best on tmpfs
//! driver_priority = ["overlay2", "vfs"] # order of automatic selection
//! keep_blobs = false                    # keep compressed blobs, so that a push writes them as they came
//! sync = "layer"                        # one syncfs per image; "file": fsync of each file; "none": a power cut may lose it
//!
//!
//! [storage.options.overlay2]            # one table per driver; the keys are the driver's own
//! threads = 2
//! ```
//!
//! A later source wins over an earlier one, key by key: built-in values, the files that `search` lists, the
//! environment, flags. Every value remembers its [`Origin`]. Podman's `storage.conf` and docker's `daemon.json`
//! (known by its suffix) are read as well: what they say does what it says, or the warnings tell what counts for
//! nothing, and why.

mod daemon;
mod environment;
mod foreign;
mod load;
mod parse;
mod search;
mod settle;
mod suggest;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use environment::Environment;

/// Everything that can be configured, with the origin of each value.
#[derive(Debug, Clone)]
pub struct Config {
    /// The driver that a person named; none for automatic selection.
    pub driver: Setting<Option<String>>,
    /// Where layers, images and metadata lie.
    pub graphroot: Setting<PathBuf>,
    /// Where mounts and locks lie.
    pub runroot: Setting<PathBuf>,
    /// Names in order of preference for automatic selection; empty for the registry's order.
    pub driver_priority: Setting<Vec<String>>,
    /// What is made durable before an image becomes visible.
    pub sync: Setting<SyncMode>,
    /// Whether the compressed blobs of layers are kept, so that a push writes them as they came.
    pub keep_blobs: Setting<bool>,
    /// Options of each driver, by driver name and key.
    pub options: BTreeMap<String, BTreeMap<String, Setting<String>>>,
    /// Options that name no driver: they go to the one that is selected.
    pub selected_options: Vec<(String, Setting<String>)>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    /// What a person should know: unknown keys, each with its place and the nearest known key.
    pub warnings: Vec<String>,
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    pub(crate) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What is made durable before the rows that make an image visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// One `syncfs` per image.
    #[default]
    Layer,
    /// `fsync` of every new file and directory, several at once: slower by itself, but it does not wait for what
    /// others write to the same file system.
    File,
    /// Nothing: after a power cut a pulled image may hold empty files. The layer's row says so, for `check`.
    None,
}

impl SyncMode {
    /// The word of the configuration file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::File => "file",
            Self::None => "none",
        }
    }
}

/// What flags give. Empty by default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`: the only file to read; it has to exist.
    pub config: Option<PathBuf>,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--runroot`.
    pub runroot: Option<PathBuf>,
    /// `--driver`.
    pub driver: Option<String>,
    /// `--driver-opt KEY=VALUE`, as written; `DRIVER.KEY=VALUE` gives it to that driver only.
    pub driver_options: Vec<String>,
}
