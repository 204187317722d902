//! Arguments of the verbs about containers.

use std::path::PathBuf;

use clap::Args;

// Arguments of `create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// A name for the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Most bytes the container may write, such as 500m or 1.5g (suffixes k, m, g, t, p)
    #[arg(long, value_name = "BYTES", value_parser = size, allow_negative_numbers = true)]
    pub(crate) size: Option<u64>,
    /// Name or ID
    pub(crate) image: String,
}

fn size(text: &str) -> Result<u64, String> {
    layerstore_driver::options::parse_size(text)
        .ok_or_else(|| "expected a size such as 500m or 10g".to_owned())
}

// Arguments of `mount`.
#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// Refuse writing
    #[arg(long)]
    pub(crate) ro: bool,
    /// Name or ID
    pub(crate) container: Option<String>,
    /// Where to mount it
    pub(crate) target: Option<PathBuf>,
}

// Arguments of `unmount`.
#[derive(Debug, Args)]
pub(crate) struct Unmount {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

// Arguments of `commit`.
#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// Who made the change
    #[arg(long, short)]
    pub(crate) author: Option<String>,
    /// What was changed
    #[arg(long, short)]
    pub(crate) message: Option<String>,
    /// A Dockerfile instruction for the new image (repeatable): CMD, ENTRYPOINT, ENV, EXPOSE, LABEL …
    #[arg(long, short, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Name or ID
    pub(crate) container: String,
    /// What to call the new image
    pub(crate) name: Option<String>,
}

// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Write to this file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name or ID
    pub(crate) container: String,
}

// Arguments of `rm`.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Unmount a mounted container first
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}
