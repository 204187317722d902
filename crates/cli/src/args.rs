//! What can be typed: plain data, checked by clap. Help, completions and man pages come out of it.

mod container;
mod image;
mod layer;
mod store;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use container::{Commit, Create, Export, Mount, Rm, Unmount};
pub(crate) use image::{Compression, Pull, Push, Rmi, Tag};
pub(crate) use layer::Layer;
pub(crate) use store::{Check, Conformance};

/// Container images as stacks of layers, on the storage driver of your choice
#[derive(Debug, Parser)]
#[command(name = "layerstore", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "An ID may be shortened to a unique prefix; a name may stand wherever an ID may.\n\
    Environment: LAYERSTORE_CONFIG, LAYERSTORE_ROOT, LAYERSTORE_RUNROOT, LAYERSTORE_DRIVER, \
    LAYERSTORE_DRIVER_OPTS, LAYERSTORE_CONFIG_OVERRIDE, LAYERSTORE_LOG, NO_COLOR.\n\
    Exit status: 0 done, 1 failed (or `check` or `conformance` found something), 2 wrong usage or \
    configuration, 130 stopped by a signal.\nA flag beats the environment, which beats the file; `layerstore info` says where each value came \
    from.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Read this configuration file and no other
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the store
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Directory for what dies with a reboot: mounts and locks
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) runroot: Option<PathBuf>,
    /// Storage driver; `conformance` takes several
    #[arg(long, global = true, value_name = "NAME", action = ArgAction::Append)]
    pub(crate) driver: Vec<String>,
    /// An option of the driver (repeatable)
    #[arg(long, global = true, value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) driver_opt: Vec<String>,
    /// How to print tables, reports and errors; junit and html are for `conformance`
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// No progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// More messages (repeatable)
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// JSON with stable keys
    Json,
    /// JUnit XML
    Junit,
    /// One page
    Html,
}

/// Every verb.
#[derive(Debug, Subcommand)]
// The options of a verb are put together when it is the one that is typed: all of them take longer than a mount.
// What is said of a verb stands here, because a doc comment of its own structure would then win over it.
#[command(defer = true)]
pub(crate) enum Command {
    /// Show the driver in use and why, directories, counts, sizes and where each setting came from
    Info,
    /// List the drivers: usable here or why not, and what they can do
    Drivers {
        /// Only this one, with its options
        name: Option<String>,
    },
    /// Show the space on disk that images, layers and containers take, shared and unique
    Df,
    /// Verify records against disk, and contents against recorded digests; exit 1 if something is wrong
    Check(Check),
    /// Free what nothing refers to
    Gc {
        /// Only tell what would be freed
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring an image in and print its ID
    Pull(Pull),
    /// Write an image out and print the digest of its manifest
    Push(Push),
    /// List images, with the size of what their files hold
    Images,
    /// Show images or containers as JSON
    Inspect {
        /// Names or IDs
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show the steps that built an image
    History {
        /// Name or ID
        image: String,
    },
    /// Show images, layers and containers as a tree
    Tree {
        /// Only this image
        image: Option<String>,
    },
    /// Give an image a name
    Tag(Tag),
    /// Take a name away
    Untag {
        /// The name
        name: String,
    },
    /// Remove images
    Rmi(Rmi),
    /// Make a container of an image and print its ID
    Create(Create),
    /// List containers
    Ps,
    /// Mount a container and print where; without arguments, list what is mounted
    Mount(Mount),
    /// Unmount containers
    #[command(alias = "umount")]
    Unmount(Unmount),
    /// List what a container or an image's topmost layer changed
    Diff {
        /// Container or image
        #[arg(value_name = "CONTAINER|IMAGE")]
        name: String,
    },
    /// Make a new image of what a container changed and print its ID
    Commit(Commit),
    /// Write a container's merged tree as one tar
    Export(Export),
    /// Remove containers
    Rm(Rm),
    /// Work on layers directly: for those who write or debug a driver
    #[command(subcommand)]
    Layer(Layer),
    /// Run the conformance suite on drivers
    Conformance(Conformance),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory
    Man {
        /// The directory
        directory: PathBuf,
    },
}
