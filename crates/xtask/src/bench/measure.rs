//! Running cases: what they share, the rounds, and the one process that measures one run.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

use super::Setting;
use super::cases::Case;

/// One run of a case. Times are seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Run {
    /// By the clock.
    pub(super) wall: f64,
    /// Of processors in user mode, of everything that the case started.
    pub(super) user: f64,
    /// Of processors in the kernel.
    pub(super) system: f64,
    /// Peak memory of the largest process, in KiB.
    pub(super) peak_kib: i64,
}

/// A case with its runs.
#[derive(Debug)]
pub(super) struct Measured<'a> {
    pub(super) case: &'a Case,
    pub(super) runs: Vec<Run>,
    /// What a run that failed said.
    pub(super) failed: Option<String>,
}

/// Whether every one of these programs is installed.
pub(super) fn has(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
    })
}

fn read(path: &Path) -> Result<serde_json::Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The tags of an OCI layout.
pub(super) fn tags(image: &Path) -> Result<Vec<String>, String> {
    let index = read(&image.join("index.json"))?;
    let entries = index.get("manifests").and_then(|list| list.as_array()).cloned().unwrap_or_default();
    Ok(entries
        .iter()
        .filter_map(|entry| {
            Some(entry.get("annotations")?.get("org.opencontainers.image.ref.name")?.as_str()?.to_owned())
        })
        .collect())
}

/// About how many bytes the image takes unpacked: three times its compressed blobs.
pub(super) fn unpacked(image: &Path) -> Result<u64, String> {
    let blobs = image.join("blobs/sha256");
    let list = std::fs::read_dir(&blobs).map_err(|error| format!("{}: {error}", blobs.display()))?;
    let total: u64 = list.flatten().filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum();
    Ok(total)
}

/// Runs every case so many times, in turn.
pub(super) fn rounds<'a>(
    cases: &'a [Case],
    setting: &Setting,
    scratch: &Path,
    runs: usize,
) -> Vec<Measured<'a>> {
    let mut results: Vec<_> =
        cases.iter().map(|case| Measured { case, runs: Vec::new(), failed: None }).collect();
    // Group by group, so that what one leaves behind takes no space in the next.
    for group in results.chunk_by_mut(|one, next| one.case.group == next.case.group) {
        for round in 1..=runs {
            for result in group.iter_mut().filter(|result| result.failed.is_none()) {
                let name = format!("{}/{}", result.case.group, result.case.name);
                match run(result.case, setting, scratch) {
                    Ok(run) => {
                        eprintln!("{round}/{runs} {:9.4} s  {name}", run.wall);
                        result.runs.push(run);
                    }
                    Err(message) => {
                        eprintln!("{name}: {message}");
                        result.failed = Some(message);
                    }
                }
            }
        }
    }
    results
}

fn shell(text: &str, setting: &Setting, scratch: &Path) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", &format!("{}\n{text}", super::cases::PRELUDE)])
        .env("LS", &setting.layerstore)
        .env("I", &setting.image)
        .env("S", scratch)
        .env("PEER_OCI_IMAGE", setting.oci_image.as_deref().unwrap_or(Path::new("")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .current_dir(scratch);
    command
}

fn run(case: &Case, setting: &Setting, scratch: &Path) -> Result<Run, String> {
    let step = |what: &str, text: &str| {
        let output = shell(text, setting, scratch)
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| format!("bash: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    };
    step("before", &format!("{}\nsync -f \"$S\"", case.before))?;
    // Not by its path: another build may put another program there while the rounds run.
    let output = Command::new("/proc/self/exe")
        .arg("bench-one")
        .arg(format!("{}\n{}", super::cases::PRELUDE, case.timed))
        .envs(shell("", setting, scratch).get_envs().filter_map(|(key, value)| Some((key, value?))))
        .stdin(Stdio::null())
        .current_dir(scratch)
        .output()
        .map_err(|error| error.to_string());
    let cleared = step("after", &format!("{}\nfstrim \"$S\" || true", case.after));
    let output = output?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    cleared?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut run: Run = serde_json::from_str(said.trim()).map_err(|error| format!("{error}: {said}"))?;
    let rounds = f64::from(case.rounds);
    (run.wall, run.user, run.system) = (run.wall / rounds, run.user / rounds, run.system / rounds);
    Ok(run)
}

/// Runs a script in this process's only child and prints a [`Run`]. A script that measures by itself writes its
/// seconds to the file `$VALUE`.
pub(crate) fn one(script: &str) -> ExitCode {
    let value = std::env::temp_dir().join(format!("layerstore-bench-{}", std::process::id()));
    let begin = Instant::now();
    let status = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("VALUE", &value)
        .stdout(Stdio::null())
        .status();
    let wall = begin.elapsed().as_secs_f64();
    let told = std::fs::read_to_string(&value).ok().and_then(|text| text.trim().parse().ok());
    // It is there for scripts that wrote it only.
    let _ = std::fs::remove_file(&value);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let (Ok(status), Ok(usage)) = (status, usage) else { return ExitCode::FAILURE };
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let run = Run {
        wall: told.unwrap_or(wall),
        user: seconds(usage.user_time()),
        system: seconds(usage.system_time()),
        peak_kib: usage.max_rss(),
    };
    let text = serde_json::to_string(&run).unwrap_or_default();
    let printed = writeln!(std::io::stdout(), "{text}");
    if status.success() && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
