//! One root, one runroot: who opens a root has to find the locks and leases of everybody else.
//!
//! ```text
//! GRAPHROOT/runroot.json   {"boot","device","inode","token","path"}: the runroot of this root, in that boot
//! GRAPHROOT/store.lock     locked shared (flock) by every open store, alone by who rebuilds the database
//! RUNROOT/roots/TOKEN      the path of the root of this token, which was recovered since the boot
//! ```
//!
//! Invariant: in one boot a root is used with one runroot only. Two writable mounts of one layer are kept apart by
//! leases in the runroot, and two programs with different ones would not see each other's. A copy of a root, a file
//! system that was mounted again and the next boot have another identity, and nobody can use what was mounted
//! before: they choose anew. But a copy whose original still lies there chooses another runroot: both hold layers of the
//! same ids, and locks and leases go by these.

use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use layerstore_sys::lock::{Lock, Mode};
use layerstore_sys::{self as sys, Dir};

use crate::db;
use crate::error::{Error, Explain as _, ExplainOwn as _, Kind, Result};

const OPERATION: &str = "open store";
const FILE: &[u8] = b"runroot.json";
const LOCK: &[u8] = b"store.lock";
/// Longest [`FILE`] that is read, in bytes: a path has 4,096 at most.
const LARGEST: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Binding {
    boot: String,
    device: String,
    inode: u64,
    token: String,
    #[serde(with = "any_path")]
    path: PathBuf,
}

/// A path in JSON: a text, or the list of its bytes where it is no UTF-8.
mod any_path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Any {
        Text(PathBuf),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => text.serialize(serializer),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Any::deserialize(deserializer)? {
            Any::Text(path) => path,
            Any::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

impl Binding {
    fn same_root(&self, other: &Self) -> bool {
        (&self.boot, &self.device, self.inode) == (&other.boot, &other.device, other.inode)
    }
}

/// A root that found its runroot.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Where it is noted that the root was recovered.
    marker: PathBuf,
    /// Whether nobody has recovered the root since the boot.
    pub(crate) first: bool,
    /// What a person should know.
    pub(crate) warning: Option<String>,
    /// Tells others that somebody uses the store.
    _live: Held,
}

/// The lock of who uses a store, or has it alone. It is given up for copies of the descriptor, too, which a program that
/// is just being started holds between fork and exec: else whoever wants the store next finds it in use, for a moment.
#[derive(Debug)]
pub(crate) struct Held {
    lock: Option<Lock>,
    /// A child that was forked has a copy, and must not give the parent's lock up.
    process: u32,
}

impl Held {
    fn new(lock: Lock) -> Self {
        Self { lock: Some(lock), process: std::process::id() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take()
            && self.process == std::process::id()
        {
            // Closing it does the same a moment later.
            let _ = lock.release();
        }
    }
}

impl Bound {
    /// Notes that the root was recovered.
    pub(crate) fn recovered(&self, root: &Dir) -> Result<()> {
        if let Some(folder) = self.marker.parent() {
            sys::fs::make_dirs(folder, 0o700).explain(OPERATION, folder.display())?;
        }
        let subject = || self.marker.display();
        let mut file = sys::fs::create_file(&self.marker, 0o600).explain(OPERATION, subject())?;
        // What is not written there only keeps a copy of the root from being known as one.
        drop(file.write_all(root.path().as_os_str().as_bytes()));
        Ok(())
    }
}

/// Binds a root to a runroot, which is a path without symlinks, or finds that it is.
///
/// # Errors
/// [`Kind::InUse`] when the root is in use with another runroot.
pub(crate) fn bind(root: &Dir, runroot: &Path) -> Result<Bound> {
    let mut live = Lock::wait(lock_file(root)?, Mode::Shared).explain(OPERATION, root.path().display())?;
    let here = identity(root, runroot)?;
    // The marker and whether it is there, if the root is bound to this runroot.
    let find = || -> Result<Option<(PathBuf, bool)>> {
        let Some(bound) = read(root)?.filter(|bound| bound.same_root(&here)) else { return Ok(None) };
        let marker = marker(runroot, &bound.token);
        let recovered = sys::fs::exists(&marker).explain(OPERATION, marker.display())?;
        Ok((recovered || bound.path == runroot).then_some((marker, recovered)))
    };
    if let Some((marker, recovered)) = find()? {
        return Ok(Bound { marker, first: !recovered, warning: None, _live: Held::new(live) });
    }
    let _gate = db::gate(root, OPERATION)?;
    // Somebody else may have been faster.
    if let Some((marker, recovered)) = find()? {
        return Ok(Bound { marker, first: !recovered, warning: None, _live: Held::new(live) });
    }
    if let Some(original) = original(root, runroot, &here)? {
        let message = format!("it is a copy of {}, which uses the same runroot", original.display());
        return Err(Error::new(Kind::InUse, OPERATION, root.path().display().to_string(), message)
            .with_hint("give the copy a runroot of its own: --runroot DIR"));
    }
    let mut warning = None;
    if let Some(other) = read(root)?.filter(|bound| bound.same_root(&here)) {
        if sys::fs::exists(marker(&other.path, &other.token)).explain(OPERATION, "")? {
            return Err(in_use(root, &other));
        }
        // The locks in it are gone with it: only an idle store may move. The gate keeps others from binding it
        // between the two looks.
        let file = live.release().explain(OPERATION, "")?;
        let Ok(alone) = Lock::attempt(file, Mode::Exclusive).explain(OPERATION, "")? else {
            return Err(in_use(root, &other));
        };
        live = Lock::wait(alone.into_file(), Mode::Shared).explain(OPERATION, "")?;
        let (old, new) = (other.path.display(), runroot.display());
        warning = Some(format!("the runroot {old} is gone, {new} takes its place"));
    }
    let bytes = serde_json::to_vec(&here).map_err(|error| {
        Error::new(Kind::System, OPERATION, root.path().display().to_string(), error.to_string())
    })?;
    let marker = marker(runroot, &here.token);
    sys::fs::replace(root, FILE, &bytes, 0o600).explain(OPERATION, "")?;
    Ok(Bound { marker, first: true, warning, _live: Held::new(live) })
}

fn in_use(root: &Dir, other: &Binding) -> Error {
    let path = other.path.display();
    let message = format!("since the machine was started the store is in use with the runroot {path}");
    Error::new(Kind::InUse, OPERATION, root.path().display().to_string(), message).with_hint(format!(
        "use --runroot {path}; to move, unmount everything, end what uses the store and remove {path}"
    ))
}

/// Where the root lies that this one is a copy of, if that one used this runroot since the boot and is still there.
fn original(root: &Dir, runroot: &Path, here: &Binding) -> Result<Option<PathBuf>> {
    let Some(copied) = read(root)?.filter(|bound| bound.boot == here.boot && !bound.same_root(here)) else {
        return Ok(None);
    };
    let Ok(bytes) = sys::fs::read(marker(runroot, &copied.token), LARGEST) else { return Ok(None) };
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let Ok(other) = Dir::open(&path) else { return Ok(None) };
    let is_original = read(&other)?.is_some_and(|bound| bound.token == copied.token)
        && identity(&other, runroot)?.same_root(&copied);
    Ok(is_original.then_some(path))
}

/// Waits until the store is nobody's but the caller's.
///
/// # Errors
/// [`Kind::InUse`] when somebody has it open.
pub(crate) fn alone(root: &Dir, operation: &'static str) -> Result<Held> {
    let attempt =
        Lock::attempt(lock_file(root)?, Mode::Exclusive).explain(operation, root.path().display())?;
    attempt.map(Held::new).map_err(|_| {
        let message = "other programs have the store open";
        Error::new(Kind::InUse, operation, root.path().display().to_string(), message)
            .with_hint("end them, then try again")
    })
}

fn lock_file(root: &Dir) -> Result<sys::File> {
    root.open_or_create_file(LOCK, 0o600).explain_own(OPERATION, root.path().display())
}

fn marker(runroot: &Path, token: &str) -> PathBuf {
    runroot.join("roots").join(token)
}

/// What the binding is; one that cannot be read (a power cut tore it) counts as none.
fn read(root: &Dir) -> Result<Option<Binding>> {
    match root.open_file(FILE).and_then(|mut file| file.read_to_end_limited(LARGEST)) {
        // The token becomes a file name.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|bound: &Binding| {
            !bound.token.is_empty() && bound.token.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error).explain_own(OPERATION, root.path().display()),
    }
}

fn identity(root: &Dir, runroot: &Path) -> Result<Binding> {
    let stat = root.stat_self().explain(OPERATION, root.path().display())?;
    Ok(Binding {
        boot: sys::process::boot_id().explain(OPERATION, "")?,
        device: format!("{}:{}", stat.device.major, stat.device.minor),
        inode: stat.inode,
        token: layerstore_driver::layout::random_name().explain(OPERATION, "")?,
        path: runroot.to_owned(),
    })
}
