//! `cargo xtask bench`: layerstore beside its peers, on one machine, in one run.
//!
//! ```text
//! tools/bench-image ─→ an image of 12 layers, kept in the user's cache       tools/sample-image with --small
//! scratch           ─→ an ext4 of its own in a loop file, allocated, new for every run
//! round 1..N        ─→ every case once, in turn, so that a slow minute of the machine hits all of them
//! report            ─→ a table with medians and ratios, JSON, a picture
//! ```
//!
//! A case is shell text ([`cases`]), so that anybody can repeat it by hand. Each is run by a process of its own,
//! which also tells the processor time and the peak memory of the largest process below it.
//!
//! Invariant: a case whose program is missing is named in the report, never left out silently. One of ours that
//! fails fails the run; a peer that fails (some cannot unpack some layers) is shown as failed.

mod cases;
mod measure;
mod picture;
mod report;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use layerstore_testkit::scratch::{FileSystem, Scratch};

use crate::cargo;

pub(crate) use measure::one;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only cases whose `GROUP/NAME` contains one of these texts.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// How often each case is run; what is reported is the median.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// With the sample image (250 MB in 6 layers) instead of the large one, and with drivers that copy.
    #[arg(long)]
    small: bool,
    /// The OCI layout to measure with, with the tags `gzip`, `zstd` and `plain`, or some of them.
    #[arg(long, value_name = "DIR", env = "LAYERSTORE_BENCH_IMAGE")]
    image: Option<PathBuf>,
    /// An installed `layerstore` instead of a fresh release build.
    #[arg(long, value_name = "FILE")]
    layerstore: Option<PathBuf>,
    /// Only these drivers.
    #[arg(long = "driver", value_name = "NAME")]
    drivers: Vec<String>,
    /// Writes every measurement.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the imports.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Lists the cases and what they run.
    #[arg(long)]
    pub(crate) list: bool,
}

/// What a case may use: its shell knows each as a variable.
#[derive(Debug)]
struct Setting {
    /// `$LS`
    layerstore: PathBuf,
    /// `$I`
    image: PathBuf,
    /// `$PEER_OCI_IMAGE`
    oci_image: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match bench(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let image = match &arguments.image {
        Some(image) => Some(image.clone()),
        // Making it takes a quarter of an hour.
        None if arguments.list => None,
        None => Some(make_image(&root, arguments.small)?),
    };
    let image = image
        .map(|image| image.canonicalize().map_err(|error| format!("{}: {error}", image.display())))
        .transpose()?;
    let tags = match &image {
        Some(image) => measure::tags(image)?,
        None => made_tags(arguments.small).iter().map(|tag| (*tag).to_owned()).collect(),
    };
    let drivers = match (&*arguments.drivers, arguments.small) {
        ([], false) => vec!["overlay2".to_owned()],
        ([], true) => vec!["overlay2".to_owned(), "vfs".to_owned()],
        (given, _) => given.to_vec(),
    };
    let all = cases::all(&drivers, &tags);
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|case| {
            let name = format!("{}/{}", case.group, case.name);
            arguments.only.is_empty() || arguments.only.iter().any(|text| name.contains(text))
        })
        .collect();
    if chosen.is_empty() {
        return Err("no case has such a name; --list shows them".to_owned());
    }
    let Some(image) = image.filter(|_| !arguments.list) else {
        let mut out = std::io::stdout().lock();
        for case in &chosen {
            let text = case.timed.replace('\n', "\n    ");
            // Who reads no more (`head`) has seen enough.
            if writeln!(out, "{}/{}\n    {text}", case.group, case.name).is_err() {
                break;
            }
        }
        return Ok(true);
    };
    let (cases, missing): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|case| measure::has(&case.needs));
    let layerstore = match &arguments.layerstore {
        Some(file) => file.canonicalize().map_err(|error| format!("{}: {error}", file.display()))?,
        None => build(&root, "layerstore-cli", "layerstore")?,
    };
    let oci_image = cases
        .iter()
        .any(|case| case.timed.contains("PEER_OCI_IMAGE"))
        .then(|| build(&root.join("crates/xtask/peers/oci-image"), "bench-oci-image", "bench-oci-image"))
        .transpose()?;
    let setting = Setting { layerstore, image, oci_image };
    let size = 3 * measure::unpacked(&setting.image)?.max(3 << 30);
    let scratch = scratch(size)?;
    // Whoever comes first pays for the blocks that the loop file gets: that is no case's time.
    eprintln!("warming up, not counted:");
    measure::rounds(cases.get(..1).unwrap_or_default(), &setting, &scratch.path(), 1);
    let results = measure::rounds(&cases, &setting, &scratch.path(), arguments.runs.max(1));
    for case in &missing {
        println!(
            "{}/{}: not measured: one of {} is not installed",
            case.group,
            case.name,
            case.needs.join(", ")
        );
    }
    report::table(&results);
    if let Some(file) = &arguments.json {
        write(file, &report::json(&results, &setting.image))?;
    }
    if let Some(file) = &arguments.svg {
        write(file, &picture::draw(&results))?;
    }
    Ok(results.iter().all(|result| result.failed.is_none() || !result.case.name.starts_with("layerstore")))
}

/// Where everything is measured. As a disk has its blocks, so should the file that stands for one: where each block is
/// memory that the kernel finds only when it is first written, that is most of what a sync takes.
fn scratch(size: u64) -> Result<Scratch, String> {
    let ext4 = FileSystem::Ext4 { commit: 5 };
    own_mounts().map_err(|error| format!("no mount namespace, which root can have: {error}"))?;
    let fits = available_memory().is_some_and(|available| available / 3 > size / 2);
    let made = match fits.then(|| Scratch::allocated(ext4, size)) {
        Some(Ok(made)) => Ok(made),
        // Often /dev/shm may have half of the memory only.
        _ => {
            eprintln!(
                "no {} GiB in memory for the scratch disk: it is allocated as it is written",
                size >> 30
            );
            Scratch::new(ext4, size)
        }
    };
    let made = made.map_err(|error| format!("no scratch file system: {error}"))?;
    // The loop device keeps it. A bench that is killed leaves no disk in memory, and no mount.
    std::fs::remove_file(made.image()).map_err(|error| format!("{}: {error}", made.image().display()))?;
    Ok(made)
}

/// What is mounted from here on is gone with this process and those that it started.
fn own_mounts() -> nix::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
}

/// Bytes of memory that programs may have without swapping.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Makes the image unless it is there.
fn make_image(root: &Path, small: bool) -> Result<PathBuf, String> {
    let (tool, name) =
        if small { ("tools/sample-image", "sample-image") } else { ("tools/bench-image", "bench-image") };
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME is set: name an image with --image")?;
    let image = cache.join("layerstore").join(name);
    let status = Command::new(root.join(tool)).arg(&image).status();
    match status {
        Ok(status) if status.success() => Ok(image),
        Ok(status) => Err(format!("{tool}: {status}")),
        Err(error) => Err(format!("{tool}: {error}")),
    }
}

/// The tags of what `make_image` makes.
fn made_tags(small: bool) -> &'static [&'static str] {
    if small { &["gzip", "latest"] } else { &["gzip", "zstd", "plain"] }
}

/// Builds a program for release and says where it lies.
fn build(folder: &Path, package: &str, binary: &str) -> Result<PathBuf, String> {
    let manifest = folder.join("Cargo.toml");
    let arguments = ["build", "--release", "--package", package, "--bin", binary, "--manifest-path"];
    let arguments = arguments.map(OsStr::new).into_iter().chain([manifest.as_os_str()]);
    let found = cargo::build(arguments, binary)?.pop();
    found.map(|built| built.executable).ok_or_else(|| format!("{binary} could not be built"))
}
