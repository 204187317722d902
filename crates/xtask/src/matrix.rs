//! `cargo xtask matrix`: the conformance suite over every driver, on every file system, in every mode.
//!
//! ```text
//! driver                    ext4       ext4+userns       ext4+enosys …
//! vfs               147/0/9 12s       120/0/36 12s                    … passed/failed/skipped, seconds
//! ```
//!
//! Every file system in every mode is sixteen runs a driver. `--covering` takes seven of them: as root on every file
//! system, so that each driver meets each of them with nothing held back, and on one each as a plain user's
//! namespace and on an old kernel; which one moves on from driver to driver.
//!
//! A driver is a crate in `drivers/` or `conformance/examples/` that has a `tests/conformance.rs`; nothing here
//! knows a driver's name. Every run is the driver's own test program with its own pinned file.
//!
//! Invariant: the command fails when any run failed, when a file system could not be made, and when there was
//! nothing to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;
use layerstore_testkit::scratch::{FileSystem, Scratch};

use crate::cargo::{self, Built};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these drivers (names of their folders).
    #[arg(long = "driver", value_name = "NAME")]
    drivers: Vec<String>,
    /// Only these file systems.
    #[arg(long = "file-system", value_name = "TYPE", value_parser = ["ext4", "xfs", "btrfs", "tmpfs", "btrfs+quota"])]
    file_systems: Vec<String>,
    /// Only these modes: as it is, in a user namespace, on a simulated old kernel, and both of these.
    #[arg(long = "mode", value_name = "MODE", value_parser = MODES)]
    modes: Vec<String>,
    /// Only so many runs that each driver meets every file system and every mode.
    #[arg(long)]
    covering: bool,
    /// Writes what is found into the drivers' pinned files.
    #[arg(long)]
    write_pins: bool,
}

/// Enough for the largest cases, and for btrfs to be of one mind about its chunks.
const SIZE: u64 = 2 << 30;

/// The name of the test program that every driver has.
const TEST: &str = "conformance";

/// The word in the names of all cases about limited layers.
const LIMITS: &str = "size_limit";

/// What each run pretends, as pinned files call it.
const MODES: [&str; 4] = ["host", "userns", "enosys", "userns+enosys"];

/// One driver's test program.
struct Program {
    name: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// How one run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// One cell of the table: how the run ended, whether it was a success, and how long it took; none where nothing
/// was to run.
type Cell = Option<(Counts, bool, Duration)>;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let programs = match programs(&root, &arguments.drivers) {
        Ok(programs) if !programs.is_empty() => programs,
        Ok(_) => return fail("no driver with a tests/conformance.rs was found"),
        Err(message) => return fail(&message),
    };
    let wanted = |given: &[String], name: &str| given.is_empty() || given.iter().any(|given| given == name);
    let modes: Vec<_> = MODES.into_iter().filter(|mode| wanted(&arguments.modes, mode)).collect();
    let mut columns = Vec::new();
    let mut rows: Vec<Vec<Cell>> = programs.iter().map(|_| Vec::new()).collect();
    for (at, file_system) in FileSystem::ALL.into_iter().chain([FileSystem::BtrfsQuota]).enumerate() {
        // With quotas one question is another: whether layers can be limited. It takes root, and a few cases.
        let filter = (file_system == FileSystem::BtrfsQuota).then_some(LIMITS);
        if !wanted(&arguments.file_systems, file_system.name()) {
            continue;
        }
        let scratch = match Scratch::new(file_system, SIZE) {
            Ok(scratch) => scratch,
            Err(error) => return fail(&format!("no scratch {}: {error}", file_system.name())),
        };
        for mode in modes.iter().filter(|mode| filter.is_none() || **mode == "host") {
            columns.push(match *mode {
                "host" => file_system.name().to_owned(),
                mode => format!("{}+{mode}", file_system.name()),
            });
            for (number, (program, row)) in programs.iter().zip(&mut rows).enumerate() {
                let runs = !arguments.covering || covers(number, at, mode);
                row.push(runs.then(|| run_one(program, &scratch.path(), mode, filter, arguments.write_pins)));
            }
        }
    }
    report(&programs, &columns, &rows)
}

/// Whether the covering choice has a run of this driver on this file system in this mode: all of them as root, and
/// every other mode once, on file systems that differ between modes and between drivers.
fn covers(driver: usize, file_system: usize, mode: &str) -> bool {
    match MODES.into_iter().position(|other| other == mode) {
        Some(0) | None => true,
        Some(mode) => (driver + mode) % FileSystem::ALL.len() == file_system,
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("matrix: {message}");
    ExitCode::FAILURE
}

/// Builds the conformance test of every driver.
fn programs(root: &Path, only: &[String]) -> Result<Vec<Program>, String> {
    let mut folders = Vec::new();
    for parent in ["drivers", "conformance/examples"] {
        let Ok(entries) = std::fs::read_dir(root.join(parent)) else { continue };
        folders.extend(entries.flatten().map(|entry| entry.path()));
    }
    folders.sort();
    folders.retain(|folder| folder.join("tests/conformance.rs").is_file());
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folders.retain(|folder| only.is_empty() || only.contains(&name(folder)));
    // Those of the workspace are built together, with the features that `cargo test` builds everything with:
    // one by one each would have its dependencies compiled once more.
    let own = build(&root.join("Cargo.toml"), &["--workspace"])?;
    let mut programs = Vec::new();
    for folder in folders {
        let manifest = folder.join("Cargo.toml");
        let manifest = manifest.canonicalize().map_err(|error| format!("{}: {error}", manifest.display()))?;
        let found = |built: &[Built]| {
            built.iter().find(|built| built.manifest == manifest).map(|built| built.executable.clone())
        };
        let executable = match found(&own) {
            Some(executable) => Some(executable),
            None => found(&build(&manifest, &[])?),
        };
        let executable =
            executable.ok_or_else(|| format!("cargo does not say what it built in {}", folder.display()))?;
        programs.push(Program { executable, name: name(&folder), folder });
    }
    Ok(programs)
}

/// Builds the test programs called conformance of a manifest.
fn build(manifest: &Path, which: &[&str]) -> Result<Vec<Built>, String> {
    let test = ["test", "--test", TEST, "--no-run"].into_iter().chain(which.iter().copied());
    let arguments = test.chain(["--manifest-path"]).map(OsStr::new).chain([manifest.as_os_str()]);
    cargo::build(arguments, TEST)
}

fn run_one(
    program: &Program,
    scratch: &Path,
    mode: &str,
    filter: Option<&str>,
    write_pins: bool,
) -> (Counts, bool, Duration) {
    let begun = Instant::now();
    let mut command = Command::new(&program.executable);
    command
        .current_dir(&program.folder)
        .args(filter)
        .env("LAYERSTORE_CONFORMANCE_SCRATCH", scratch)
        .env("LAYERSTORE_CONFORMANCE_MODE", mode_variable(mode))
        .env_remove("LAYERSTORE_CONFORMANCE_PIN");
    if write_pins {
        command.env("LAYERSTORE_CONFORMANCE_PIN", "write");
    }
    let (said, success) = match command.output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            (String::from_utf8_lossy(&said).into_owned(), output.status.success())
        }
        Err(error) => (error.to_string(), false),
    };
    let counts = said.lines().rev().find_map(counts).unwrap_or_default();
    let success = success && counts.passed > 0;
    if !success {
        let wrong = |line: &&str| !line.ends_with("... ok") && !line.contains("... ignored");
        let lines: Vec<_> = said.lines().filter(wrong).collect();
        eprintln!("{} on {} ({mode}):\n{}\n", program.name, scratch.display(), lines.join("\n"));
    }
    (counts, success, begun.elapsed())
}

/// What the suite calls a mode.
fn mode_variable(mode: &str) -> String {
    if mode == "host" { String::new() } else { mode.replace('+', ",") }
}

/// Reads a closing line, `N passed, N failed, N skipped`.
fn counts(line: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut parts = line.split(", ");
    for (word, count) in
        [("passed", &mut counts.passed), ("failed", &mut counts.failed), ("skipped", &mut counts.skipped)]
    {
        *count = parts.next()?.strip_suffix(word)?.trim().parse().ok()?;
    }
    parts.next().is_none().then_some(counts)
}

fn report(programs: &[Program], columns: &[String], rows: &[Vec<Cell>]) -> ExitCode {
    let width = programs.iter().map(|program| program.name.len()).max().unwrap_or(0).max(6);
    let mut total = Counts::default();
    let mut failed_runs = 0;
    let mut runs = 0;
    println!("{:width$}  {}", "driver", columns.iter().map(|name| format!("{name:>20}")).collect::<String>());
    for (program, row) in programs.iter().zip(rows) {
        print!("{:width$}  ", program.name);
        for cell in row {
            let Some((Counts { passed, failed, skipped }, success, duration)) = *cell else {
                print!("{:>20}", "-");
                continue;
            };
            let mark = if success { "" } else { "!" };
            print!("{:>20}", format!("{mark}{passed}/{failed}/{skipped} {}s", duration.as_secs()));
            total.passed += passed;
            total.failed += failed;
            total.skipped += skipped;
            runs += 1;
            failed_runs += usize::from(!success);
        }
        println!();
    }
    println!("passed/failed/skipped and seconds; ! marks a run that failed: {failed_runs} of {runs}");
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if failed_runs == 0 && runs > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("63 passed, 0 failed, 6 skipped", Some(Counts { passed: 63, failed: 0, skipped: 6 }))]
    #[case("test result: ok. 63 passed; 0 failed; 6 ignored", None)]
    #[case("63 passed, 0 failed", None)]
    #[case("63 passed, 0 failed, 6 skipped, 1 odd", None)]
    #[case("", None)]
    fn closing_lines(#[case] line: &str, #[case] expected: Option<Counts>) {
        assert_eq!(counts(line), expected);
    }

    #[test]
    fn the_covering_choice_has_every_file_system_and_every_mode_for_every_driver() {
        for driver in 0..6 {
            let runs = |mode| (0..4).filter(|&at| covers(driver, at, mode)).collect::<Vec<_>>();
            assert_eq!(runs("host"), [0, 1, 2, 3]);
            let others: Vec<_> = MODES[1..].iter().flat_map(|mode| runs(mode)).collect();
            let distinct: std::collections::BTreeSet<_> = others.iter().collect();
            assert_eq!((others.len(), distinct.len()), (3, 3), "driver {driver}");
        }
    }
}
