//! `cargo xtask matrix`: the conformance suite over every driver, on every file system, in every mode.
//!
//! ```text
//! driver            ext4      ext4+userns  ext4+enosys  xfs …
//! vfs               63/0/6    63/0/6       …                        passed/failed/skipped
//! ```
//!
//! A driver is a crate in `drivers/` or `conformance/examples/` that has a `tests/conformance.rs`; nothing here
//! knows a driver's name. Every run is the driver's own test program with its own pinned file.
//!
//! Invariant: the command fails when any run failed, when a file system could not be made, and when there was
//! nothing to run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use layerstore_testkit::scratch::{FileSystem, Scratch};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these drivers (names of their folders).
    #[arg(long = "driver", value_name = "NAME")]
    drivers: Vec<String>,
    /// Only these file systems.
    #[arg(long = "file-system", value_name = "TYPE", value_parser = ["ext4", "xfs", "btrfs", "tmpfs"])]
    file_systems: Vec<String>,
    /// Only these modes: as it is, in a user namespace, on a simulated old kernel.
    #[arg(long = "mode", value_name = "MODE", value_parser = ["host", "userns", "enosys"])]
    modes: Vec<String>,
    /// Writes what is found into the drivers' pinned files.
    #[arg(long)]
    write_pins: bool,
}

/// Enough for the largest cases, and for btrfs to be of one mind about its chunks.
const SIZE: u64 = 2 << 30;

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

/// One cell of the table: the counts, and whether the run was a success.
type Cell = (Counts, bool);

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let programs = match programs(&root, &arguments.drivers) {
        Ok(programs) if !programs.is_empty() => programs,
        Ok(_) => return fail("no driver with a tests/conformance.rs was found"),
        Err(message) => return fail(&message),
    };
    let wanted = |given: &[String], name: &str| given.is_empty() || given.iter().any(|given| given == name);
    let modes: Vec<_> =
        ["host", "userns", "enosys"].into_iter().filter(|mode| wanted(&arguments.modes, mode)).collect();
    let mut columns = Vec::new();
    let mut rows: Vec<Vec<Cell>> = programs.iter().map(|_| Vec::new()).collect();
    for file_system in FileSystem::ALL.into_iter().filter(|it| wanted(&arguments.file_systems, it.name())) {
        let scratch = match Scratch::new(file_system, SIZE) {
            Ok(scratch) => scratch,
            Err(error) => return fail(&format!("no scratch {}: {error}", file_system.name())),
        };
        for mode in &modes {
            columns.push(match *mode {
                "host" => file_system.name().to_owned(),
                mode => format!("{}+{mode}", file_system.name()),
            });
            for (program, row) in programs.iter().zip(&mut rows) {
                row.push(run_one(program, &scratch.path(), mode, arguments.write_pins));
            }
        }
    }
    report(&programs, &columns, &rows)
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
    let mut programs = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        programs.push(Program { executable: build(&folder)?, name, folder });
    }
    Ok(programs)
}

/// Builds one test program and gives its path.
fn build(folder: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--test", "conformance", "--no-run", "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{} does not build", folder.display()));
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| format!("cargo does not say what it built in {}", folder.display()))
}

/// The test program among what cargo says (`cargo build --message-format=json`).
fn executable(said: &str) -> Option<PathBuf> {
    said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|message| {
        let is_ours = message.pointer("/target/name")?.as_str()? == "conformance";
        let path = message.get("executable")?.as_str()?;
        is_ours.then(|| path.into())
    })
}

fn run_one(program: &Program, scratch: &Path, mode: &str, write_pins: bool) -> Cell {
    let mut command = Command::new(&program.executable);
    command
        .current_dir(&program.folder)
        .env("LAYERSTORE_CONFORMANCE_SCRATCH", scratch)
        .env("LAYERSTORE_CONFORMANCE_MODE", if mode == "host" { "" } else { mode })
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
    (counts, success)
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
    println!("{:width$}  {}", "driver", columns.iter().map(|name| format!("{name:>15}")).collect::<String>());
    for (program, row) in programs.iter().zip(rows) {
        print!("{:width$}  ", program.name);
        for (counts, success) in row {
            let Counts { passed, failed, skipped } = *counts;
            let mark = if *success { "" } else { "!" };
            print!("{:>15}", format!("{mark}{passed}/{failed}/{skipped}"));
            total.passed += passed;
            total.failed += failed;
            total.skipped += skipped;
            runs += 1;
            failed_runs += usize::from(!success);
        }
        println!();
    }
    println!("passed/failed/skipped; ! marks a run that failed: {failed_runs} of {runs}");
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
    fn the_program_is_found_in_what_cargo_says() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"layerstore_sys"},"executable":null}"#,
            "\nnoise\n",
            r#"{"reason":"compiler-artifact","target":{"name":"conformance"},"executable":"/t/conformance-1"}"#,
        );
        assert_eq!(executable(said), Some("/t/conformance-1".into()));
        assert_eq!(executable("{}"), None);
    }
}
