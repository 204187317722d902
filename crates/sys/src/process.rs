//! Facts about this process.

use std::path::PathBuf;

use crate::error::{Result, call};

/// The effective user id.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The working directory.
///
/// # Errors
/// Those of `getcwd`: `ENOENT` when it was removed.
pub fn working_directory() -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = call("getcwd", String::new, || rustix::process::getcwd(Vec::new()))?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}
