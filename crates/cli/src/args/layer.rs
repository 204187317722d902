//! Arguments of the verbs about single layers.

use std::path::PathBuf;

use clap::Subcommand;

/// The verbs below `layer`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Layer {
    /// Make a writable layer and print its id
    Create {
        /// The sealed layer below it
        #[arg(long, value_name = "ID")]
        parent: Option<String>,
        /// The new layer's id; a random one if it is left out
        id: Option<String>,
    },
    /// Write a tar (plain, gzip or zstd) into a writable layer
    Apply {
        /// The layer
        id: String,
        /// The file; stdin if it is left out
        tar: Option<PathBuf>,
    },
    /// Make a layer read-only for good
    Seal {
        /// The layer
        id: String,
    },
    /// Write what the layer changed as a tar to stdout
    Diff {
        /// The layer
        id: String,
        /// Compare with this layer instead of the parent
        #[arg(long, value_name = "ID")]
        base: Option<String>,
    },
    /// List what the layer changed
    Changes {
        /// The layer
        id: String,
        /// Compare with this layer instead of the parent
        #[arg(long, value_name = "ID")]
        base: Option<String>,
    },
    /// Mount a layer's view and print where
    Mount {
        /// The layer
        id: String,
        /// Where to mount it
        target: Option<PathBuf>,
        /// Refuse writing (always so for a sealed layer)
        #[arg(long)]
        ro: bool,
    },
    /// Unmount a layer
    #[command(alias = "umount")]
    Unmount {
        /// The layer
        id: String,
    },
    /// Print as JSON what would be mounted
    Plan {
        /// The layer
        id: String,
        /// For a read-only view (always so for a sealed layer)
        #[arg(long)]
        ro: bool,
    },
    /// Remove a layer that nothing uses
    Remove {
        /// The layer
        id: String,
    },
    /// List layers
    List,
    /// Show a layer as JSON
    Inspect {
        /// The layer
        id: String,
    },
}
