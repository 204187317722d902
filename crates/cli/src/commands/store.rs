//! Verbs about the store as a whole: `info`, `df`, `check`, `gc`.

use std::process::ExitCode;

use layerstore::{CheckOptions, SpaceLine};

use crate::args::Check;
use crate::failure::Result;
use crate::output::{line, plain, short, size, styled_table};
use crate::session::Session;
use crate::style::{CONTAINER, IMAGE, SHARED, UNIQUE, bar, paint};
use crate::typed;

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
        line(format_args!("size of layers: {}, {} on disk", size(info.size), size(info.disk_bytes)))?;
        let files = if info.files.is_empty() { "none".to_owned() } else { plain(&info.files.join(", ")) };
        line(format_args!("configuration files: {files}"))?;
        line("settings:")?;
        for (key, value, origin) in &info.settings {
            let value = if value.is_empty() { "none" } else { value };
            line(format_args!("  {key} = {value} ({origin})"))?;
        }
        Ok(())
    })
}

pub(super) fn df(session: &Session) -> Result<()> {
    let space = session.store()?.space()?;
    session.print(&space, |space| {
        let groups = [("image", &space.images), ("container", &space.containers), ("layer", &space.layers)];
        let lines = || groups.iter().flat_map(|(kind, lines)| lines.iter().map(move |line| (*kind, line)));
        let largest = lines().map(|(_, line)| line.size).max().unwrap_or(0);
        let rows = lines().map(|(kind, line)| {
            vec![
                kind.to_owned(),
                short(&line.id),
                paint(if kind == "image" { IMAGE } else { CONTAINER }, plain(&line.names.join(", "))),
                size(line.size),
                paint(SHARED, size(line.shared)),
                paint(UNIQUE, size(line.unique)),
                if line.in_use { "yes" } else { "no" }.to_owned(),
                bar(line.shared, line.unique, largest),
            ]
        });
        styled_table(&["TYPE", "ID", "NAMES", "SIZE", "SHARED", "UNIQUE", "IN USE", ""], rows)?;
        let sum = |lines: &[SpaceLine]| lines.iter().map(|line| line.size).sum::<u64>();
        let images_once = space.total.saturating_sub(sum(&space.containers) + sum(&space.layers));
        line(format_args!(
            "total {}, reclaimable by gc {}, saved by sharing {}",
            size(space.total),
            size(space.reclaimable),
            size(sum(&space.images).saturating_sub(images_once))
        ))
    })
}

pub(super) fn check(session: &Session, arguments: &Check) -> Result<ExitCode> {
    arguments.from.iter().try_for_each(|source| typed::reference("check", source))?;
    let root = if arguments.repair { session.repair_root()? } else { None };
    let rebuilt = if arguments.repair { session.repair_database()? } else { None };
    let options = CheckOptions { quick: arguments.quick, repair: arguments.repair };
    let store = session.store()?;
    let mut report = store.check(options, &session.context)?;
    for source in &arguments.from {
        store.restore(&mut report, source, &session.context)?;
    }
    report.rebuilt = rebuilt;
    report.findings.splice(..0, root);
    session.print(&report, |report| {
        if let Some(rebuilt) = &report.rebuilt {
            line(format_args!(
                "database: {}; made again with {} images, {} names, {} layers, {} containers",
                rebuilt.reason, rebuilt.images, rebuilt.names, rebuilt.layers, rebuilt.containers
            ))?;
            if let Some(kept) = &rebuilt.kept_as {
                line(format_args!("  the old one is kept as {}", kept.display()))?;
            }
            rebuilt.left_out.iter().try_for_each(|left| line(format_args!("  left out: {left}")))?;
        }
        for finding in &report.findings {
            let repaired = if finding.repaired { "repaired: " } else { "" };
            line(format_args!("{repaired}{}: {}: {}", finding.kind, finding.name, finding.message))?;
            for image in &finding.images {
                line(format_args!("  used by image {}", short(image)))?;
            }
        }
        let verified =
            if arguments.quick { String::new() } else { format!(", {} verified", report.verified) };
        let repaired = report.findings.iter().filter(|finding| finding.repaired).count();
        let repaired = if arguments.repair { format!(", {repaired} repaired") } else { String::new() };
        line(format_args!(
            "{} layers checked{verified}, {} findings{repaired}",
            report.layers,
            report.findings.len()
        ))
    })?;
    Ok(ExitCode::from(u8::from(report.findings.iter().any(|finding| !finding.repaired))))
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
