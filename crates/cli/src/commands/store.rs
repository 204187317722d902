//! Verbs about the store as a whole: `info`, `df`, `check`, `gc`.

use std::process::ExitCode;

use layerstore::CheckOptions;

use crate::args::Check;
use crate::failure::Result;
use crate::output::{line, short, size, table};
use crate::session::Session;

pub(super) fn info(session: &Session) -> Result<()> {
    let info = session.store()?.info()?;
    session.print(&info, |info| {
        line(format_args!("driver: {} ({})", info.driver, info.driver_reason))?;
        for (label, value) in &info.driver_status {
            line(format_args!("  {label}: {value}"))?;
        }
        line(format_args!("graphroot: {}", info.graphroot))?;
        line(format_args!("runroot: {}", info.runroot))?;
        line(format_args!("layout version: {}", info.version))?;
        line(format_args!("images: {}", info.images))?;
        line(format_args!("layers: {}", info.layers))?;
        line(format_args!("containers: {}", info.containers))?;
        line("settings:")?;
        for (key, value, origin) in &info.settings {
            line(format_args!("  {key} = {value} ({origin})"))?;
        }
        Ok(())
    })
}

pub(super) fn df(session: &Session) -> Result<()> {
    let space = session.store()?.space()?;
    session.print(&space, |space| {
        let groups = [("image", &space.images), ("container", &space.containers), ("layer", &space.layers)];
        let rows = groups.into_iter().flat_map(|(kind, lines)| {
            lines.iter().map(move |line| {
                vec![
                    kind.to_owned(),
                    short(&line.id),
                    line.names.join(", "),
                    size(line.size),
                    size(line.shared),
                    size(line.unique),
                    if line.in_use { "yes" } else { "no" }.to_owned(),
                ]
            })
        });
        table(&["TYPE", "ID", "NAMES", "SIZE", "SHARED", "UNIQUE", "IN USE"], rows)?;
        line(format_args!("total {}, reclaimable by gc {}", size(space.total), size(space.reclaimable)))
    })
}

pub(super) fn check(session: &Session, arguments: &Check) -> Result<ExitCode> {
    let options = CheckOptions { quick: arguments.quick, ..CheckOptions::default() };
    let report = session.store()?.check(options, &session.context)?;
    session.print(&report, |report| {
        for finding in &report.findings {
            line(format_args!("{}: {}: {}", finding.kind, finding.name, finding.message))?;
            for image in &finding.images {
                line(format_args!("  used by image {}", short(image)))?;
            }
        }
        let verified =
            if arguments.quick { String::new() } else { format!(", {} verified", report.verified) };
        line(format_args!("{} layers checked{verified}, {} findings", report.layers, report.findings.len()))
    })?;
    Ok(ExitCode::from(u8::from(!report.findings.is_empty())))
}

pub(super) fn gc(session: &Session, dry_run: bool) -> Result<()> {
    let report = session.store()?.gc(dry_run)?;
    session.print(&report, |report| {
        let verb = if report.dry_run { "would free" } else { "freed" };
        for freed in &report.freed {
            line(format_args!("{verb} {} {}: {}", freed.kind, short(&freed.name), freed.reason))?;
        }
        line(format_args!("{verb} {} in {} things", size(report.bytes), report.freed.len()))
    })
}
