//! Image names: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
//!
//! Invariant: an [`ImageName`] is held in its familiar form, the one that `images` shows: `docker.io/library/x`,
//! `index.docker.io/x` and `x` are one name, `x`. A name without tag and digest means `latest`.
//!
//! Source of the grammar: distribution, `reference/reference.go`.

use std::fmt;
use std::str::FromStr;

use layerstore_changeset::Digest;

use crate::error::{Error, Kind, Result};

/// Longest repository, in bytes, host included.
const MAX_REPOSITORY: usize = 255;
/// The host that a name without one means.
const DEFAULT_HOST: &str = "docker.io";
/// The tag that a name without one means.
pub const DEFAULT_TAG: &str = "latest";

/// The name of an image: a repository with a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageName {
    /// The repository in its familiar form: what the REPOSITORY column shows.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: what the TAG column shows. None for a name by digest only.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest that the name is bound to.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name with host and all, as other tools understand it without guessing: `docker.io/library/x:latest`.
    pub fn canonical(&self) -> String {
        let repository = if split_host(&self.repository).0.is_some() {
            self.repository.clone()
        } else if self.repository.contains('/') {
            format!("{DEFAULT_HOST}/{}", self.repository)
        } else {
            format!("{DEFAULT_HOST}/library/{}", self.repository)
        };
        Self { repository, ..self.clone() }.to_string()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason: &str| {
            Error::new(Kind::InvalidInput, "parse name", text.escape_debug().to_string(), reason)
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let parsed =
                    digest.parse().map_err(|_| bad("the digest is not sha256: and 64 hex digits"))?;
                (rest, Some(parsed))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        if repository.is_empty() {
            return Err(bad("the name is empty"));
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(bad(
                "a tag has at most 128 letters, digits, `_`, `.` and `-`, and does not begin with \
                            `.` or `-`",
            ));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        if repository.len() > MAX_REPOSITORY {
            return Err(bad("the repository has more than 255 bytes"));
        }
        let (host, path) = split_host(repository);
        if host.is_some_and(|host| !is_host(host)) {
            return Err(bad("the host is malformed"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("the repository must be in lower case"));
        }
        if path.is_empty() || !path.split('/').all(is_path_component) {
            return Err(bad(
                "a repository is made of lower-case letters and digits, separated by `/`, `.`, `_`, \
                            `__` or `-`",
            ));
        }
        if host.is_none() && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad("64 hexadecimal digits are an image ID, not a name"));
        }
        let repository = match host {
            None | Some("docker.io" | "index.docker.io") => match path.strip_prefix("library/") {
                Some(official) if !official.contains('/') => official.to_owned(),
                _ => path.to_owned(),
            },
            Some(host) => format!("{host}/{path}"),
        };
        Ok(Self { repository, tag, digest })
    }
}

/// Splits the host off: the first component where it has a dot or a port, is `localhost`, or has upper case.
fn split_host(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((host, path))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(host), path)
        }
        _ => (None, repository),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let is_address =
                !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return is_address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Letters and digits, with one of `.`, `_`, `__` or any number of `-` between two runs of them.
fn is_path_component(component: &str) -> bool {
    let mut separator = String::new();
    let mut seen = false;
    for c in component.chars() {
        match c {
            'a'..='z' | '0'..='9' => {
                let fits = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|b| b == b'-');
                if !fits || (!seen && !separator.is_empty()) {
                    return false;
                }
                seen = true;
                separator.clear();
            }
            '.' | '_' | '-' => separator.push(c),
            _ => return false,
        }
    }
    seen && separator.is_empty()
}

/// Whether this is a tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
