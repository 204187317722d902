//! Verbs about images.

use layerstore::{ImageName, PullOptions, PushOptions, Removal};
use serde_json::json;

use super::each;
use crate::args::{self, Pull, Push, Rmi, Tag};
use crate::failure::Result;
use crate::output::{self, ago, ago_text, line, plain, short, size, styled_table, table};
use crate::progress;
use crate::session::Session;
use crate::style::{SHARED, UNIQUE, bar, paint};
use crate::typed;

pub(super) fn pull(session: &Session, arguments: &Pull) -> Result<()> {
    typed::reference("pull", &arguments.source)?;
    arguments.name.iter().try_for_each(|name| typed::name("pull", name))?;
    let options = PullOptions {
        names: arguments.name.iter().cloned().collect(),
        watcher: progress::watcher(session.quiet()),
    };
    let pulled = session.store()?.pull(&arguments.source, &options, &session.context)?;
    pulled.warnings.iter().for_each(output::warning);
    session.print(&pulled, |pulled| line(pulled.id))
}

pub(super) fn push(session: &Session, arguments: &Push) -> Result<()> {
    typed::reference("push", &arguments.destination)?;
    let options = PushOptions {
        compression: Some(match arguments.compression {
            args::Compression::Gzip => layerstore::Compression::Gzip,
            args::Compression::Zstd => layerstore::Compression::Zstd,
            args::Compression::None => layerstore::Compression::None,
        }),
        watcher: progress::watcher(session.quiet()),
    };
    let digest =
        session.store()?.push(&arguments.image, &arguments.destination, &options, &session.context)?;
    session.print(&json!({ "manifest": digest }), |_| line(digest))
}

pub(super) fn images(session: &Session) -> Result<()> {
    let images = session.store()?.images()?;
    session.print(&images, |images| {
        let none = || "<none>".to_owned();
        let row = |image: &layerstore::ImageSummary, name: Option<&ImageName>| {
            let created = match &image.created {
                Some(created) => ago_text(Some(created)),
                None => ago(image.stored),
            };
            vec![
                name.map_or_else(none, |name| name.repository().to_owned()),
                name.and_then(|name| name.tag().map(ToOwned::to_owned)).unwrap_or_else(none),
                short(image.id),
                created,
                size(image.size),
            ]
        };
        let rows = images.iter().flat_map(|image| match image.names.as_slice() {
            [] => vec![row(image, None)],
            names => names.iter().map(|name| row(image, Some(name))).collect(),
        });
        table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], rows)
    })
}

pub(super) fn inspect(session: &Session, names: &[String]) -> Result<()> {
    let store = session.store()?;
    let mut found = Vec::new();
    let outcome = each(session, names, |name| {
        found.push(store.inspect(name)?);
        Ok(())
    });
    output::json(&found)?;
    outcome
}

pub(super) fn history(session: &Session, image: &str) -> Result<()> {
    let history = session.store()?.history(image)?;
    session.print(&history, |history| {
        let largest = history.iter().map(|step| step.size).max().unwrap_or(0);
        let rows = history.iter().map(|step| {
            let (shared, unique) = if step.shared_by > 1 { (step.size, 0) } else { (0, step.size) };
            let sharing = match step.shared_by {
                0 => String::new(),
                1 => "this image".to_owned(),
                count => format!("{count} images"),
            };
            vec![
                step.diff_id.map_or_else(|| "<none>".to_owned(), short),
                ago_text(step.created.as_deref()),
                clip(&plain(step.created_by.as_deref().unwrap_or_default())),
                size(step.size),
                paint(if step.shared_by > 1 { SHARED } else { UNIQUE }, sharing),
                plain(step.comment.as_deref().unwrap_or_default()),
                bar(shared, unique, largest),
            ]
        });
        styled_table(&["LAYER", "CREATED", "CREATED BY", "SIZE", "IN", "COMMENT", ""], rows)
    })
}

/// A command as a table shows it; `--format json` has the whole.
fn clip(text: &str) -> String {
    const MOST: usize = 45;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

pub(super) fn tag(session: &Session, arguments: &Tag) -> Result<()> {
    typed::name("tag", &arguments.name)?;
    session.store()?.tag(&arguments.image, &arguments.name)?;
    Ok(())
}

pub(super) fn untag(session: &Session, name: &str) -> Result<()> {
    typed::name("untag", name)?;
    let name = session.store()?.untag(name)?;
    session.print(&[Removal::Untagged(name)], |removals| removals.iter().try_for_each(line))
}

pub(super) fn rmi(session: &Session, arguments: &Rmi) -> Result<()> {
    let store = session.store()?;
    let mut removed = Vec::new();
    let outcome = each(session, &arguments.images, |image| {
        let removals = match store.remove_image(image, arguments.force) {
            // As docker: what is not there is told, and is no failure where it was to be gone at any price.
            Err(error) if arguments.force && error.kind() == layerstore::Kind::NotFound => {
                crate::failure::print(&error, session.format());
                return Ok(());
            }
            removals => removals?,
        };
        if session.format() == crate::args::Format::Text {
            removals.iter().try_for_each(line)?;
        }
        removed.extend(removals);
        Ok(())
    });
    session.print(&removed, |_| Ok(()))?;
    outcome
}
