//! What can be configured.

use layerstore_driver::options::{CONTAINER_SIZE, MOUNT_FLAGS};
use layerstore_driver::{DriverOptions, OptionKind, OptionSpec};

/// The options of this driver.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        key: "threads",
        kind: OptionKind::Number,
        default: "0",
        doc: "Threads that write files while a layer is copied or a changeset is applied; 0 is one per processor.",
    },
    CONTAINER_SIZE,
    MOUNT_FLAGS,
];

/// The options of one driver, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// Threads that write files; 0 is one per processor.
    pub(crate) threads: usize,
}

impl Config {
    /// Reads options that were checked against [`OPTIONS`].
    pub(crate) fn read(options: &DriverOptions) -> Self {
        let threads = options.number("threads").and_then(|threads| usize::try_from(threads).ok());
        Self { threads: threads.unwrap_or(0) }
    }
}
