//! What was found out about a root on this machine, remembered in the runroot until the next boot, so that opening
//! a root again does not try everything again.
//!
//! ```text
//! RUNROOT/NAME.memo     {"of":"BOOT DEVICE INODE USER-NAMESPACE UID","value":…}
//! ```
//!
//! Invariant: a memo of another boot, root, user namespace or user counts as none, and one that cannot be read or
//! written costs time only.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use layerstore_sys::{self as sys, Dir};

use super::staging::random_name;

/// Longest memo, in bytes.
const LIMIT: usize = 64 << 10;

/// The memos of one root.
#[derive(Debug)]
pub struct Memo {
    runroot: PathBuf,
    /// None where the root does not exist, or the kernel does not say what is needed: then nothing is remembered.
    of: Option<String>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Remembered<T> {
    of: String,
    value: T,
}

impl Memo {
    /// The memos of the root at this path.
    pub fn new(root: &Path, runroot: &Path) -> Self {
        Self { runroot: runroot.to_owned(), of: identity(root) }
    }

    /// What is remembered.
    pub fn get<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = sys::fs::read(self.runroot.join(file_name(name)), LIMIT).ok()?;
        let remembered: Remembered<T> = serde_json::from_slice(&text).ok()?;
        (Some(remembered.of) == self.of).then_some(remembered.value)
    }

    /// Remembers it. Several processes may do so at once.
    pub fn put<T: serde::Serialize>(&self, name: &str, value: T) {
        let Some(of) = self.of.clone() else { return };
        let attempt = || -> sys::Result<()> {
            let invalid = |_| sys::Error::new("write", name, sys::Errno::INVAL);
            let text = serde_json::to_vec(&Remembered { of, value }).map_err(invalid)?;
            if sys::fs::read(self.runroot.join(file_name(name)), LIMIT).is_ok_and(|held| held == text) {
                return Ok(());
            }
            let runroot = Dir::open(&self.runroot)?;
            let random = random_name().map_err(|_| sys::Error::new("getrandom", "", sys::Errno::IO))?;
            let temporary = format!(".{name}.{random}");
            let mut file = runroot.create_file(temporary.as_bytes(), 0o600)?;
            let written = file
                .write_all(&text)
                .map_err(|error| sys::Error::from_io(error, "write", || runroot.show(temporary.as_bytes())))
                .and_then(|()| runroot.rename(temporary.as_bytes(), &runroot, file_name(name).as_bytes()));
            if written.is_err() {
                // The first error is the one to report.
                let _ = runroot.unlink(temporary.as_bytes());
            }
            written
        };
        if let Err(error) = attempt() {
            tracing::debug!(%error, "could not remember what was found out");
        }
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.memo")
}

/// Names this boot, this root, and with which rights we are here.
fn identity(root: &Path) -> Option<String> {
    let boot = sys::process::boot_id().ok()?;
    let stat = sys::fs::stat(root).ok()??;
    let namespace = Dir::open("/proc/self/ns").ok()?.read_link(b"user").ok()?;
    let (device, user) = (stat.device, sys::process::effective_uid());
    Some(format!(
        "{} {}:{} {} {} {user}",
        boot,
        device.major,
        device.minor,
        stat.inode,
        namespace.escape_ascii()
    ))
}
