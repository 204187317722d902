//! `conformance`: the suite that every driver has to pass, on this machine and the file system of a directory.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use layerstore::{Error, Kind};
use layerstore_conformance::report::{self, Counts};
use layerstore_conformance::{Report, RunOptions, cases, list, list_text, run_with};
use layerstore_driver::DriverFactory;

use super::drivers::from_driver;
use crate::args::{Conformance, Format};
use crate::cancel;
use crate::failure::{Failure, Result};
use crate::output::line;
use crate::session::Session;

const OPERATION: &str = "conformance";

pub(super) fn run(session: &Session, arguments: &Conformance) -> Result<ExitCode> {
    if arguments.list {
        session.print(&list::list(), |_| write!(std::io::stdout(), "{}", list_text()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let factories = factories(session)?;
    cancel::by_signals(&session.context);
    let mut options =
        RunOptions::from_environment().map_err(|failure| Failure::usage(OPERATION, failure.message))?;
    options.context = session.context.clone();
    options.time_limit = Duration::from_secs(arguments.time_limit);
    options.cases = arguments.case.iter().cloned().collect();
    // A driver that was asked for by name must not pass by not running.
    options.required |= !session.named_drivers().is_empty();
    let mut reports = Vec::new();
    for factory in &factories {
        // Without a directory it is the one that the environment names, or the system's for temporary files.
        for scratch in arguments.scratch.iter().map(Some).chain(arguments.scratch.is_empty().then_some(None))
        {
            if let Some(scratch) = scratch {
                options.scratch.clone_from(scratch);
            }
            reports.push(run_one(session, &**factory, &options)?);
            if session.context.is_cancelled() {
                // Neither a verdict nor a report: 1 would say that a case failed.
                return Err(Error::new(Kind::Cancelled, OPERATION, "", "cancelled").into());
            }
        }
    }
    let mut total = Counts::default();
    reports.iter().for_each(|report| total += report.counts());
    match session.format() {
        Format::Text => line(total)?,
        Format::Json => line(report::json(&reports).map_err(std::io::Error::other)?)?,
        Format::Html => line(report::html(&reports))?,
        Format::Junit => line(report::junit(&reports).map_err(std::io::Error::other)?)?,
    }
    let success = reports.iter().all(Report::is_success) && total.passed > 0;
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The drivers that were named, or all.
fn factories(session: &Session) -> Result<Vec<Arc<dyn DriverFactory>>> {
    let registry = session.registry();
    let named = session.named_drivers();
    if named.is_empty() {
        return Ok(registry.factories().cloned().collect());
    }
    named
        .iter()
        .map(|name| registry.get(name).cloned().map_err(|error| Failure::Usage(from_driver(error))))
        .collect()
}

/// Runs the suite on one driver; as text, each case is printed as it ends.
fn run_one(session: &Session, factory: &dyn DriverFactory, options: &RunOptions) -> Result<Report> {
    let text = session.format() == Format::Text;
    if text {
        line(format_args!("driver {}", factory.name()))?;
    }
    let report = run_with(factory, options, &cases::all(), &|result| {
        if text {
            // The verdict of the run does not depend on who reads along.
            let _ = write!(std::io::stdout(), "{}", Report::line(result));
        }
    });
    if text {
        for problem in &report.problems {
            line(format_args!("problem: {problem}"))?;
        }
        line(format_args!("driver {} on {}: {}", report.driver, report.setup, report.counts()))?;
    }
    Ok(report)
}
