//! Platforms: which machine an image is for, and how well one fits this machine.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, Os};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// An operating system, an architecture and its variant, in Go's words (`linux/arm64/v8`).
///
/// Source: OCI image specification, image-index.md, "platform".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, for example `linux`.
    #[serde(default)]
    pub os: String,
    /// Architecture, for example `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture, for example `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else, kept as it was read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Platform {
    /// A platform without a variant.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), variant: None, extra: Map::new() }
    }

    /// Linux on the architecture that this program was built for.
    pub fn host() -> Self {
        let platform = Self::new(Os::Linux.to_string(), Arch::default().to_string());
        let variant = if cfg!(target_arch = "arm") { Some("v7".to_owned()) } else { None };
        Self { variant, ..platform }
    }

    /// How well an image for `offered` runs on `self`: none when it does not, and the higher the better.
    ///
    /// 64-bit ARM means `v8`, 64-bit x86 means `v1`; 32-bit ARM runs older variants too. Higher x86 levels are
    /// never chosen, because whether they run depends on the processor.
    pub fn suits(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let (wanted, offered) = (self.level(), offered.level());
        match self.architecture.as_str() {
            "arm" => (offered <= wanted).then_some(offered),
            _ => (offered == wanted).then_some(offered),
        }
    }

    /// The variant as a number, with the architecture's own default where there is none.
    fn level(&self) -> u32 {
        let default = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        match self.variant.as_deref() {
            None | Some("") => default,
            Some(variant) => {
                // A variant that is no number gets one that nothing asks for.
                variant.strip_prefix('v').unwrap_or(variant).parse().unwrap_or(u32::MAX)
            }
        }
    }

    /// Whether this marks something that is no image at all, such as BuildKit's attestations.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os.escape_debug(), self.architecture.escape_debug())?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{}", variant.escape_debug()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Parses `OS/ARCHITECTURE[/VARIANT]`.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        let platform = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
                Self { variant: variant.map(str::to_owned), ..Self::new(os, architecture) }
            }
            _ => {
                return Err(Error::new(
                    Kind::InvalidInput,
                    "parse platform",
                    text.escape_debug().to_string(),
                    "a platform is written OS/ARCHITECTURE[/VARIANT]",
                ));
            }
        };
        Ok(platform)
    }
}
