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

/// Effective user and group id, which own what this process creates.
pub fn effective_ids() -> (u32, u32) {
    (effective_uid(), rustix::process::getegid().as_raw())
}

/// The file mode creation mask, read without changing it (`/proc/self/status`, Linux 4.7); every bit where it
/// cannot be read, so that a caller sets modes explicitly.
///
/// # Errors
/// Those of reading `/proc/self/status`, other than `ENOENT`.
pub fn umask() -> Result<u32> {
    let status = match crate::fs::read("/proc/self/status", 1 << 20) {
        Ok(status) => status,
        Err(error) if error.is_not_found() => return Ok(0o777),
        Err(error) => return Err(error),
    };
    let mask = status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"Umask:"))
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    Ok(mask.unwrap_or(0o777))
}
