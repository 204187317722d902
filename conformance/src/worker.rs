//! A worker: a process that runs cases one at a time, as its runner tells it, in namespaces of its own.
//!
//! ```text
//! runner ── {"case": "l3::…"} ⏎ ────────→ worker      stdin and stdout; what does not begin with @ is
//!        ←── @hello {environment} ⏎ ─────             not ours and is passed to stderr
//!        ←── @done {"failure": null} ⏎ ───
//! ```
//!
//! One process for many cases is quick; one case at a time makes leaks exact; a case that hangs or crashes takes
//! only its worker with it, and the kernel takes back every mount with the namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use layerstore_driver::{DriverFactory, Probe, Registry};
use layerstore_sys as sys;
use sys::Dir;

use crate::bench::{self, Bench};
use crate::case::{Case, Failure, Outcome};
use crate::leak::{self, Holdings};
use crate::namespace::{self, Mode};
use crate::need::{Claim, Environment, Feature};

/// What a worker is told at its start.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct WorkerSetup {
    pub(crate) driver: String,
    /// A directory of this worker's own.
    pub(crate) scratch: PathBuf,
    pub(crate) mode: Mode,
}

/// What a worker says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Answer {
    /// It is ready.
    Hello(Environment),
    /// It cannot begin.
    Broken(Failure),
    /// It ran a case.
    Done(Option<Failure>),
}

/// Runs cases until the runner hangs up; returns the exit status.
pub(crate) fn serve(registry: &Registry, cases: &[&'static Case], setup: &WorkerSetup) -> i32 {
    let mut input = BufReader::new(std::io::stdin());
    let begun = begin(registry, setup, &mut input);
    let (factory, environment) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            say(&Answer::Broken(failure));
            return 1;
        }
    };
    say(&Answer::Hello((*environment).clone()));
    let panics = catch_panic_messages();
    let mut line = String::new();
    let mut number = 0;
    while input.read_line(&mut line).is_ok_and(|length| length > 0) {
        let id = line.trim();
        let failure = match cases.iter().find(|case| case.id() == id) {
            Some(case) => {
                number += 1;
                let directory = setup.scratch.join(format!("case{number}"));
                run(registry, &factory, &environment, case, &directory, &setup.scratch, &panics).err()
            }
            None => Some(Failure::new(format!("there is no case {id:?}"))),
        };
        say(&Answer::Done(failure));
        line.clear();
    }
    0
}

fn say(answer: &Answer) {
    let text = serde_json::to_string(answer).unwrap_or_default();
    let mut output = std::io::stdout().lock();
    // When the runner is gone, the next read ends this process.
    let _ = writeln!(output, "@{text}");
    let _ = output.flush();
}

type Begun = (Arc<dyn DriverFactory>, Arc<Environment>);

fn begin(registry: &Registry, setup: &WorkerSetup, input: &mut BufReader<std::io::Stdin>) -> Outcome<Begun> {
    let namespace = if setup.mode.user_namespace {
        namespace::unshare_user(input, &mut std::io::stdout())?;
        Ok(())
    } else {
        namespace::unshare_mounts()
    };
    if setup.mode.old_kernel {
        namespace::forget_new_calls()?;
    }
    let factory = Arc::clone(registry.get(&setup.driver)?);
    for name in ["probe", "tmp", "cwd"] {
        sys::fs::make_dirs(setup.scratch.join(name), 0o700)?;
    }
    std::env::set_current_dir(setup.scratch.join("cwd"))?;
    let (file_system, mut missing) = Environment::probe(&setup.scratch.join("probe"));
    if let Err(failure) = namespace {
        // Without a namespace of its own the suite must not mount at all, even where it could.
        missing.insert(Feature::Mounts, failure.message);
    }
    let (unusable, claims) = probe_driver(&*factory, &setup.scratch.join("probe"))?;
    let kernel = nix::sys::utsname::uname().map_err(|errno| Failure::new(format!("uname: {errno}")))?;
    let kernel = kernel.release().to_string_lossy().into_owned();
    Dir::open(&setup.scratch).and_then(|scratch| sys::remove::tree(&scratch, b"probe"))?;
    Ok((factory, Arc::new(Environment { file_system, kernel, unusable, claims, missing })))
}

fn probe_driver(factory: &dyn DriverFactory, scratch: &Path) -> Outcome<(Option<String>, Vec<Claim>)> {
    let (root, runroot) = (scratch.join("root"), scratch.join("run"));
    let options =
        layerstore_driver::DriverOptions::check(factory.options(), std::iter::empty::<(&str, String)>())?;
    let open = layerstore_driver::OpenOptions { root: root.clone(), runroot: runroot.clone(), options };
    match factory.probe(&open)? {
        Probe::Unusable { reason, .. } => Ok((Some(reason), Vec::new())),
        Probe::Usable => match bench::open_at(factory, &root, &runroot) {
            Ok(driver) => Ok((None, Claim::of(&driver.capabilities()))),
            // That probe and open agree is clause E3; with nothing opened there is nothing else to run.
            Err(error) => Ok((Some(format!("its probe passes, but opening it fails: {error}")), Vec::new())),
        },
    }
}

type Panics = Arc<Mutex<Vec<String>>>;

/// Keeps what panics say, instead of printing it.
fn catch_panic_messages() -> Panics {
    let panics = Panics::default();
    let keep = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let text = info.payload_as_str().unwrap_or("panic");
        keep.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{text}{}", place.unwrap_or_default()));
    }));
    panics
}

fn run(
    registry: &Registry,
    factory: &Arc<dyn DriverFactory>,
    environment: &Arc<Environment>,
    case: &Case,
    directory: &Path,
    scratch: &Path,
    panics: &Panics,
) -> Outcome {
    let take = || std::mem::take(&mut *panics.lock().unwrap_or_else(PoisonError::into_inner));
    take();
    let before = Holdings::now()?;
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let bench = Bench::open(registry, factory, directory.to_owned(), Arc::clone(environment))?;
        (case.run)(&bench)
    }));
    let said = take();
    let result = match result {
        Err(_) => Err(Failure::crash(format!("panicked: {}", said.join("; ")))),
        // A thread of the driver's own may panic without taking the case with it.
        Ok(Ok(())) if !said.is_empty() => Err(Failure::crash(format!("panicked: {}", said.join("; ")))),
        Ok(result) => result,
    };
    let mut left = leak::children();
    left.extend(Holdings::since(&before)?);
    left.extend(leak::files(&scratch.join("cwd"))?);
    left.extend(strangers(scratch, directory)?);
    leak::unmount_below(directory);
    let removed = remove(directory);
    result?;
    if !left.is_empty() {
        let message = format!("left behind after the last user was gone: {}", leak::text(&left));
        return Err(Failure { message, crash: false, clause: Some("M12".to_owned()) });
    }
    removed.map_err(|failure| failure.context("removing the case's directory"))
}

fn remove(directory: &Path) -> Outcome {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    Ok(sys::remove::tree(&Dir::open(parent)?, name.as_encoded_bytes())?)
}

/// Files beside the case's directory, where a driver has no business.
fn strangers(scratch: &Path, directory: &Path) -> Outcome<Vec<String>> {
    let known = [directory.to_owned(), scratch.join("cwd"), scratch.join("tmp")];
    let mut left = leak::files(&scratch.join("tmp"))?;
    for entry in Dir::open(scratch)?.entries()? {
        let path = scratch.join(std::ffi::OsStr::new(&*String::from_utf8_lossy(&entry.name)));
        if !known.contains(&path) {
            left.push(format!("file {}", path.display()));
        }
    }
    Ok(left)
}
