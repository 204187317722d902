//! What can be configured.

use layerstore_driver::options::{CONTAINER_SIZE, MOUNT_FLAGS, THREADS};
use layerstore_driver::{DriverOptions, OptionSpec};

/// The options of this driver.
pub(crate) const OPTIONS: &[OptionSpec] = &[THREADS, CONTAINER_SIZE, MOUNT_FLAGS];

/// The options of one driver, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// Threads that write files; 0 is one per processor.
    pub(crate) threads: usize,
}

impl Config {
    /// Reads options that were checked against [`OPTIONS`].
    pub(crate) fn read(options: &DriverOptions) -> Self {
        Self { threads: options.threads() }
    }
}
