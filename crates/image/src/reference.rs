//! References: where an image lies outside the store, as skopeo spells it.
//!
//! ```text
//! oci:DIR[:TAG]                 docker://HOST[:PORT]/NAME[:TAG|@DIGEST]   (recognised, not supported yet)
//! oci-archive:FILE[:TAG]        docker-archive:FILE[:NAME[:TAG]]
//! rootfs:PATH                   a directory, or a tar of one root file system
//! ```
//!
//! The first colon after the transport ends the path, so that a path has no colon (skopeo's rule); `rootfs:` has
//! no tag and takes any path. In place of TAG, `@N` is the N-th image of the layout or archive, from 0.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::name::ImageName;

/// Every transport that is spelled in references, for messages.
const TRANSPORTS: &str = "docker://, oci:, oci-archive:, docker-archive: and rootfs:";

/// Where an image lies, or is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reference {
    /// An OCI image layout in a directory.
    Oci {
        /// The directory.
        path: PathBuf,
        /// Which image of the layout.
        image: Option<Selector>,
    },
    /// A tar of an OCI image layout.
    OciArchive {
        /// The tar, possibly compressed as a whole.
        path: PathBuf,
        /// Which image of the layout.
        image: Option<Selector>,
    },
    /// What `docker save` writes.
    DockerArchive {
        /// The tar, possibly compressed as a whole.
        path: PathBuf,
        /// Which image of the archive.
        image: Option<ArchiveSelector>,
    },
    /// One root file system: a directory or a tar.
    Rootfs {
        /// The directory or the tar.
        path: PathBuf,
    },
    /// An image in a registry.
    Registry {
        /// Its name.
        name: ImageName,
    },
}

/// Which image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one whose `org.opencontainers.image.ref.name` is this.
    Tag(String),
    /// The one at this place, from 0.
    Index(usize),
}

/// Which image of a docker archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveSelector {
    /// The one with this name among its `RepoTags`.
    Name(ImageName),
    /// The one at this place, from 0.
    Index(usize),
}

impl Reference {
    /// The transport's name, without a colon.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Oci { .. } => "oci",
            Self::OciArchive { .. } => "oci-archive",
            Self::DockerArchive { .. } => "docker-archive",
            Self::Rootfs { .. } => "rootfs",
            Self::Registry { .. } => "docker",
        }
    }

    /// The path of the file or directory, where the transport has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Oci { path, .. }
            | Self::OciArchive { path, .. }
            | Self::DockerArchive { path, .. }
            | Self::Rootfs { path } => Some(path),
            Self::Registry { .. } => None,
        }
    }

    /// Whether `text` begins with a transport that this program knows, so that it is a reference and not the
    /// name of an image in the store.
    pub fn is_reference(text: &str) -> bool {
        ["docker://", "oci:", "oci-archive:", "docker-archive:", "rootfs:"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason: String| {
            Error::new(Kind::InvalidInput, "parse reference", text.escape_debug().to_string(), reason)
        };
        let (transport, rest) = text.split_once(':').ok_or_else(|| {
            let error = bad(format!("no transport; known are {TRANSPORTS}"));
            let shown = text.escape_debug();
            error.with_hint(if text.starts_with(['/', '.']) {
                format!("for an OCI layout write oci:{shown}, for a root file system rootfs:{shown}")
            } else {
                format!(
                    "registries are not supported yet: `skopeo copy docker://{shown} oci-archive:FILE`, and use \
                     oci-archive:FILE; for a directory here write oci:./{shown} or rootfs:./{shown}"
                )
            })
        })?;
        if transport == "rootfs" {
            if rest.is_empty() {
                return Err(bad("the path is empty".to_owned()));
            }
            return Ok(Self::Rootfs { path: rest.into() });
        }
        if transport == "docker" {
            let name = rest
                .strip_prefix("//")
                .ok_or_else(|| bad("write docker://HOST/NAME[:TAG|@DIGEST]".to_owned()))?;
            return Ok(Self::Registry { name: name.parse()? });
        }
        let (path, image) = match rest.split_once(':') {
            Some((path, image)) => (path, Some(image)),
            None => (rest, None),
        };
        let place = |image: &str| {
            let place = image.strip_prefix('@').map(|digits| digits.parse::<usize>());
            place.transpose().map_err(|_| bad("after `@` stands the place of an image, from 0".to_owned()))
        };
        let known = matches!(transport, "oci" | "oci-archive" | "docker-archive");
        if !known {
            let transport = transport.escape_debug();
            return Err(bad(format!("transport `{transport}:` is not known; known are {TRANSPORTS}")));
        }
        if path.is_empty() {
            return Err(bad("the path is empty".to_owned()));
        }
        if transport == "docker-archive" {
            let image = match image {
                None => None,
                Some(image) => Some(match place(image)? {
                    Some(index) => ArchiveSelector::Index(index),
                    None => ArchiveSelector::Name(image.parse()?),
                }),
            };
            return Ok(Self::DockerArchive { path: path.into(), image });
        }
        let image = match image {
            None | Some("") => None,
            Some(image) => Some(match place(image)? {
                Some(index) => Selector::Index(index),
                None if is_layout_tag(image) => Selector::Tag(image.to_owned()),
                None => return Err(bad(format!("`{}` is not a valid tag", image.escape_debug()))),
            }),
        };
        Ok(match transport {
            "oci" => Self::Oci { path: path.into(), image },
            _ => Self::OciArchive { path: path.into(), image },
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().unwrap_or(Path::new(""));
        match self {
            Self::Registry { name } => write!(f, "docker://{name}"),
            Self::Rootfs { .. } => write!(f, "rootfs:{}", path.display()),
            Self::Oci { image, .. } | Self::OciArchive { image, .. } => {
                write!(f, "{}:{}", self.transport(), path.display())?;
                match image {
                    None => Ok(()),
                    Some(Selector::Tag(tag)) => write!(f, ":{tag}"),
                    Some(Selector::Index(index)) => write!(f, ":@{index}"),
                }
            }
            Self::DockerArchive { image, .. } => {
                write!(f, "docker-archive:{}", path.display())?;
                match image {
                    None => Ok(()),
                    Some(ArchiveSelector::Name(name)) => write!(f, ":{name}"),
                    Some(ArchiveSelector::Index(index)) => write!(f, ":@{index}"),
                }
            }
        }
    }
}

/// What `org.opencontainers.image.ref.name` may hold: letters and digits, separated by one of `-._:@/+` or `--`
/// (OCI image specification, annotations.md).
fn is_layout_tag(text: &str) -> bool {
    let mut separator = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if !(separator.len() <= 1 || separator == "--") {
                return false;
            }
            separator.clear();
        } else if "-._:@/+".contains(c) {
            separator.push(c);
        } else {
            return false;
        }
    }
    separator.is_empty() && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
