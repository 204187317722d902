//! Building programs with cargo, and asking it where they lie.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that cargo built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The manifest of its package.
    pub(crate) manifest: PathBuf,
    /// Where it lies.
    pub(crate) executable: PathBuf,
}

/// Runs `cargo` with these arguments and gives the programs of this name that it has built, none when it does not say
/// so. What else cargo tells goes to stderr.
///
/// # Errors
/// When cargo cannot be run, or fails.
pub(crate) fn build<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    name: &str,
) -> Result<Vec<Built>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} does not build: cargo: {}", output.status));
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout), name))
}

/// The programs of this name among what cargo says (`--message-format=json`).
fn executables(said: &str, name: &str) -> Vec<Built> {
    let of_message = |message: serde_json::Value| {
        let is_it = message.pointer("/target/name")?.as_str()? == name;
        let manifest = message.get("manifest_path")?.as_str()?.into();
        let executable = message.get("executable")?.as_str()?.into();
        is_it.then_some(Built { manifest, executable })
    };
    said.lines().filter_map(|line| serde_json::from_str(line).ok()).filter_map(of_message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_found_in_what_cargo_says() {
        let found = |said| -> Vec<(PathBuf, PathBuf)> {
            let built = executables(said, "conformance").into_iter();
            built.map(|built| (built.manifest, built.executable)).collect()
        };
        let said = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/a","target":{"name":"layerstore_sys"},"executable":null}"#,
            "\nnoise\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/d/Cargo.toml","target":{"name":"conformance"},"executable":"/t/c-1"}"#,
        );
        assert_eq!(found(said), [("/d/Cargo.toml".into(), "/t/c-1".into())]);
        assert_eq!(found("{}"), []);
    }
}
