//! `drivers`: what is compiled in, whether it can run here, and what it can do.

use std::path::{Path, PathBuf};

use layerstore_driver::layout::Scratch;
use layerstore_driver::{Capabilities, DriverFactory, DriverOptions, OpenOptions, OptionKind, Probe};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::output::{line, table};
use crate::session::Session;

struct Found<'a> {
    factory: &'a dyn DriverFactory,
    probe: Probe,
    capabilities: Option<Capabilities>,
    /// What the driver says about itself there, where it can run.
    status: Vec<(String, String)>,
}

pub(super) fn drivers(session: &Session, name: Option<&str>) -> Result<()> {
    let config = session.config()?;
    let registry = session.registry();
    // A driver may be asked for by another name of its own.
    let name = match name {
        Some(name) => Some(registry.get(name).map_err(|error| Failure::Usage(from_driver(error)))?.name()),
        None => None,
    };
    let found = registry
        .factories()
        .filter(|factory| name.is_none_or(|name| factory.name() == name))
        .map(|factory| look(&**factory, &config.graphroot.value))
        .collect::<Result<Vec<_>>>()?;
    let report: Vec<_> = found.iter().map(describe).collect();
    session.print(&report, |_| match (name, found.as_slice()) {
        (Some(_), [one]) => detail(one),
        _ => {
            let rows = found.iter().map(|found| {
                let (usable, why) = match &found.probe {
                    Probe::Usable => ("yes", found.factory.description()),
                    Probe::Unusable { reason, .. } => ("no", reason.as_str()),
                };
                vec![found.factory.name().to_owned(), usable.to_owned(), why.to_owned()]
            });
            table(&["DRIVER", "USABLE", "WHAT IT IS, OR WHY NOT"], rows)
        }
    })
}

/// An error of a driver as one of the store's.
pub(super) fn from_driver(error: layerstore_driver::Error) -> layerstore::Error {
    let new = layerstore::Error::new(error.kind(), error.operation(), "", error.message());
    match error.hint() {
        Some(hint) => new.with_hint(hint),
        None => new,
    }
}

/// Probes a driver, and opens it, in a directory of its own on the file system of the store.
fn look<'a>(factory: &'a dyn DriverFactory, graphroot: &Path) -> Result<Found<'a>> {
    let place = nearest(graphroot)?;
    let options = DriverOptions::check(factory.options(), std::iter::empty::<(&str, String)>())
        .map_err(|error| Failure::Store(from_driver(error)))?;
    // A name that is not there, so that it lies in this directory. It is locked: others who look at the drivers at the
    // same moment, and `gc`, clear what such programs left that died.
    let scratch = match Scratch::new(&place.join(".layerstore-none")) {
        Ok(scratch) => scratch,
        Err(error) => {
            let reason = format!("nothing can be written in {}: {error}", place.display());
            let probe = Probe::Unusable { reason, hint: None };
            return Ok(Found { factory, probe, capabilities: None, status: Vec::new() });
        }
    };
    let open =
        OpenOptions { root: scratch.path().join("root"), runroot: scratch.path().join("run"), options };
    // What is said of the directory that was tried is meant of the store's.
    let (tried, meant) =
        (open.root.display().to_string(), graphroot.join(factory.name()).display().to_string());
    let place = place.display().to_string();
    let scratch_place = scratch.path().display().to_string();
    let meant = |text: String| text.replace(&tried, &meant).replace(&scratch_place, &place);
    let probe = match factory.probe(&open).map_err(|error| Failure::Store(from_driver(error)))? {
        Probe::Unusable { reason, hint } => Probe::Unusable { reason: meant(reason), hint: hint.map(meant) },
        usable => usable,
    };
    let driver = match probe {
        Probe::Usable => factory.open(&open).ok(),
        Probe::Unusable { .. } => None,
    };
    let capabilities = driver.as_ref().map(|driver| driver.capabilities());
    let status = driver.and_then(|driver| driver.status().ok()).unwrap_or_default();
    let status = status.into_iter().map(|(label, value)| (label, meant(value))).collect();
    Ok(Found { factory, probe, capabilities, status })
}

/// The directory itself, or the nearest one above it that exists.
fn nearest(path: &Path) -> Result<PathBuf> {
    for candidate in path.ancestors() {
        let exists = layerstore_sys::fs::exists(candidate).map_err(|error| {
            let what = candidate.display().to_string();
            layerstore::Error::new(layerstore::Kind::System, "probe drivers", what, error.to_string())
        })?;
        if exists {
            return Ok(candidate.to_owned());
        }
    }
    Ok(PathBuf::from("."))
}

fn describe(found: &Found<'_>) -> serde_json::Value {
    let (usable, reason, hint) = match &found.probe {
        Probe::Usable => (true, None, None),
        Probe::Unusable { reason, hint } => (false, Some(reason), hint.as_ref()),
    };
    let options: Vec<_> = found
        .factory
        .options()
        .iter()
        .map(|option| {
            json!({ "key": option.key, "kind": kind(option.kind), "default": option.default, "doc": option.doc })
        })
        .collect();
    json!({
        "name": found.factory.name(),
        "description": found.factory.description(),
        "usable": usable,
        "reason": reason,
        "hint": hint,
        "last_resort": found.factory.last_resort(),
        "capabilities": found.capabilities,
        "status": found.status,
        "options": options,
    })
}

fn kind(kind: OptionKind) -> String {
    match kind {
        OptionKind::Bool => "true or false".to_owned(),
        OptionKind::Number { most } if most < u64::MAX => format!("number up to {most}"),
        OptionKind::Number { .. } => "number".to_owned(),
        OptionKind::Size => "size".to_owned(),
        OptionKind::Choice(words) => words.join(" or "),
        _ => "text".to_owned(),
    }
}

fn detail(found: &Found<'_>) -> std::io::Result<()> {
    line(format_args!("{}: {}", found.factory.name(), found.factory.description()))?;
    match &found.probe {
        Probe::Usable => line("usable here: yes")?,
        Probe::Unusable { reason, hint } => {
            line(format_args!("usable here: no: {reason}"))?;
            if let Some(hint) = hint {
                line(format_args!("hint: {hint}"))?;
            }
        }
    }
    for (label, value) in &found.status {
        line(format_args!("{label}: {value}"))?;
    }
    if let Some(capabilities) = &found.capabilities {
        line("capabilities:")?;
        if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(capabilities) {
            for (name, value) in fields {
                let value = if value.is_null() { "no limit".to_owned() } else { value.to_string() };
                line(format_args!("  {name}: {value}"))?;
            }
        }
    }
    if !found.factory.options().is_empty() {
        line("options:")?;
    }
    for option in found.factory.options() {
        line(format_args!(
            "  {} = {:?} ({}): {}",
            option.key,
            option.default,
            kind(option.kind),
            option.doc
        ))?;
    }
    Ok(())
}
