//! Arguments of the verbs about images.

use clap::{Args, ValueEnum};

// Arguments of `pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG] or rootfs:PATH
    pub(crate) source: String,
    /// What to call the image; without it, it gets the names that the source has for it, or none
    pub(crate) name: Option<String>,
}

// Arguments of `push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Name or ID
    pub(crate) image: String,
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]
    pub(crate) destination: String,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t = Compression::Gzip)]
    pub(crate) compression: Compression,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// The same bytes for the same layer, everywhere readable
    Gzip,
    /// Smaller and faster
    Zstd,
    /// Not at all
    None,
}

// Arguments of `tag`.
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Name or ID
    pub(crate) image: String,
    /// The name to give
    pub(crate) name: String,
}

// Arguments of `rmi`.
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Untag all names, and remove images that stopped containers use
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}
