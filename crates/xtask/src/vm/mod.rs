//! `cargo xtask vm`: the conformance suite in a virtual machine, on another kernel than this one's.
//!
//! Some of what the product does needs what the kernel at hand may lack: xfs and ext4 limit what a directory tree
//! takes only where the kernel was built with project quotas. This boots Debian's kernel for clouds in QEMU and runs
//! `layerstore conformance` in it, and tests of drivers that need such quotas.
//!
//! ```text
//! apt-get download linux-image-…-cloud-amd64 ─→ vmlinuz, modules ─┐
//! cargo build ─→ layerstore, its libraries, busybox, /init ─→ initramfs ─→ qemu ─→ results on a serial line
//! mkfs ─→ sparse images of xfs and ext4 ──────────────────────────┘
//! ```
//!
//! | run | is mounted | limits |
//! |---|---|---|
//! | xfs+prjquota, ext4+prjquota | `-o prjquota` | must be there |
//! | xfs, ext4 | as it is, ext4 made with quotas | must not |
//! | ext4-plain | ext4 made without quotas | must not |
//!
//! Nothing is installed and nothing outside of the target directory and a temporary one is written. Invariant: the
//! command fails when a case failed, when a run gave no result, and when cases about limits were skipped where they
//! have to run.

mod boot;
mod guest;
mod initramfs;
mod kernel;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;

use self::guest::{Job, Run};
use crate::cargo;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Drivers to run the suite on.
    #[arg(long = "driver", value_name = "NAME", default_values = ["overlay2", "vfs"])]
    drivers: Vec<String>,
    /// Cases to run, a pattern; `*` runs all of them.
    #[arg(long = "case", value_name = "GLOB", default_value = "*size_limit*")]
    case: String,
    /// Only these runs.
    #[arg(long = "run", value_name = "NAME", value_parser = guest::RUNS.map(|run| run.name))]
    runs: Vec<String>,
    /// A kernel package to boot, instead of the one that apt downloads.
    #[arg(long, value_name = "DEB")]
    kernel: Option<PathBuf>,
    /// Memory of the machine, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Minutes until a machine that has not ended is given up: all cases of two drivers take about fifteen a run.
    #[arg(long, value_name = "MINUTES", default_value_t = 120)]
    timeout: u64,
}

/// What went wrong, for a person.
type Outcome<T> = Result<T, String>;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match play(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("vm: {message}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments) -> Outcome<bool> {
    if std::env::consts::ARCH != "x86_64" {
        return Err("the machine and its kernel are those of x86-64".to_owned());
    }
    let cache = target()?.join("vm");
    let kernel = kernel::get(&cache, arguments.kernel.as_deref())?;
    let programs = programs()?;
    let wanted = |run: &Run| arguments.runs.is_empty() || arguments.runs.iter().any(|name| name == run.name);
    let job = Job {
        runs: guest::RUNS.into_iter().filter(wanted).collect(),
        drivers: arguments.drivers.clone(),
        case: arguments.case.clone(),
        modules: kernel.modules.iter().map(|(name, _)| name.clone()).collect(),
    };
    let folder = layerstore_testkit::scratch::scratch_dir().map_err(|error| error.to_string())?;
    let disks = guest::make_disks(folder.path())?;
    let initramfs = folder.path().join("initramfs");
    initramfs::write(&initramfs, &programs, &kernel.modules, &job.script())?;
    let machine = boot::Machine {
        kernel: &kernel.image,
        initramfs: &initramfs,
        disks: &disks,
        console: &cache.join("console.log"),
        memory: arguments.memory,
    };
    let said = machine.boot(Duration::from_secs(60 * arguments.timeout))?;
    report::judge(&job, &said)
}

/// The directory that cargo builds in: this program lies in one of its folders.
fn target() -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = own.parent().and_then(Path::parent);
    target.map(Path::to_owned).ok_or_else(|| "this program lies in no target directory".to_owned())
}

/// Builds what is run in the machine: the name that it has there, and where it is here.
fn programs() -> Outcome<Vec<(&'static str, PathBuf)>> {
    let test = ["test", "--no-run", "-p", "layerstore-overlay2", "--test", guest::TEST];
    Ok(vec![
        ("layerstore", build(&["build", "-p", "layerstore-cli"], "layerstore")?),
        (guest::TEST, build(&test, guest::TEST)?),
    ])
}

fn build(arguments: &[&str], name: &str) -> Outcome<PathBuf> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let found = cargo::build(arguments.iter().copied().chain(["--manifest-path", manifest]), name)?.pop();
    found.map(|built| built.executable).ok_or_else(|| format!("cargo does not say where it built {name}"))
}

/// What a program prints; an error when it fails.
fn output(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}; install what is missing with `tools/setup vm`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{name}: {}: {said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
