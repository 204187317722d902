//! Verbs about containers.

use layerstore::{ChangeKind, CommitOptions, Container, ContainerOptions, Kind, MountOptions, PathChange};
use serde_json::json;

use super::each;
use crate::args::{Commit, Create, Mount, Rm, Unmount};
use crate::failure::Result;
use crate::output::{self, ago, line, short, size, table};
use crate::session::Session;
use crate::typed;

pub(super) fn create(session: &Session, arguments: Create) -> Result<()> {
    let options =
        ContainerOptions { name: arguments.name, size_limit: arguments.size, ..ContainerOptions::default() };
    typed::container(&options)?;
    let container = session.store()?.create_container(&arguments.image, &options, &session.context)?;
    session.print(&container, |container| line(&container.id))
}

/// A container as `ps --format json` gives it: its own keys, and the size of its layer in bytes, null where that could
/// not be told.
#[derive(serde::Serialize)]
struct Listed {
    #[serde(flatten)]
    container: Container,
    size: Option<u64>,
}

pub(super) fn ps(session: &Session) -> Result<()> {
    let store = session.store()?;
    let mut listed = Vec::new();
    for container in store.containers()? {
        let size = match store.container_usage(&container.id, &session.context) {
            Ok(usage) => Some(usage.bytes),
            Err(error) if error.kind() == Kind::Cancelled => return Err(error.into()),
            // Somebody removed it since it was listed.
            Err(_) if store.container(&container.id).is_err_and(|error| error.kind() == Kind::NotFound) => {
                continue;
            }
            // One that is damaged does not hide the others.
            Err(error) => {
                output::warning(error);
                None
            }
        };
        listed.push(Listed { container, size });
    }
    if session.format() == crate::args::Format::Json {
        return Ok(output::json(&listed)?);
    }
    let rows = listed.iter().map(|Listed { container, size: bytes }| {
        let mounted = match container.mounts.first() {
            Some(path) => path.display().to_string(),
            None if container.mounted => "elsewhere".to_owned(),
            None => String::new(),
        };
        vec![
            short(&container.id),
            container.name.clone().unwrap_or_default(),
            container.image_name.clone().unwrap_or_else(|| short(container.image)),
            ago(container.created),
            mounted,
            bytes.map_or_else(|| "?".to_owned(), size),
        ]
    });
    Ok(table(&["CONTAINER ID", "NAME", "IMAGE", "CREATED", "MOUNTED", "SIZE"], rows)?)
}

pub(super) fn mount(session: &Session, arguments: Mount) -> Result<()> {
    let store = session.store()?;
    let Some(container) = arguments.container else {
        let mounted: Vec<_> =
            store.containers()?.into_iter().filter(|container| !container.mounts.is_empty()).collect();
        return session.print(&mounted, |mounted| {
            let rows = mounted.iter().flat_map(|container| {
                container.mounts.iter().map(|path| {
                    vec![
                        short(&container.id),
                        container.name.clone().unwrap_or_default(),
                        path.display().to_string(),
                    ]
                })
            });
            table(&["CONTAINER ID", "NAME", "MOUNTED"], rows)
        });
    };
    let options =
        MountOptions { target: arguments.target, read_only: arguments.ro, ..MountOptions::default() };
    let path = store.mount(&container, &options)?;
    session.print_path(&path)
}

pub(super) fn unmount(session: &Session, arguments: &Unmount) -> Result<()> {
    let store = session.store()?;
    collect(session, &arguments.containers, |container| {
        store.unmount(container, None)?;
        Ok(container.clone())
    })
}

pub(super) fn diff(session: &Session, name: &str) -> Result<()> {
    let changes = session.store()?.diff(name, &session.context)?;
    print_changes(session, &changes)
}

/// Prints changes as lines, or as JSON with the path as text; bytes that are not UTF-8 are escaped there.
pub(super) fn print_changes(session: &Session, changes: &[PathChange]) -> Result<()> {
    let word = |kind| match kind {
        ChangeKind::Added => "added",
        ChangeKind::Modified => "modified",
        ChangeKind::Deleted => "deleted",
    };
    let path = |change: &PathChange| match std::str::from_utf8(change.path.as_bytes()) {
        Ok(path) => format!("/{path}"),
        Err(_) => format!("/{}", change.path),
    };
    let listed: Vec<_> =
        changes.iter().map(|change| json!({ "kind": word(change.kind), "path": path(change) })).collect();
    session.print(&listed, |_| output::changes(changes))
}

pub(super) fn commit(session: &Session, arguments: Commit) -> Result<()> {
    let options = CommitOptions {
        author: arguments.author,
        message: arguments.message,
        changes: arguments.change,
        name: arguments.name,
    };
    options.changes.iter().try_for_each(|change| typed::instruction("commit", change))?;
    options.name.iter().try_for_each(|name| typed::name("commit", name))?;
    let id = session.store()?.commit(&arguments.container, &options, &session.context)?;
    session.print(&json!({ "id": id }), |_| line(id))
}

pub(super) fn rm(session: &Session, arguments: &Rm) -> Result<()> {
    let store = session.store()?;
    collect(session, &arguments.containers, |container| {
        Ok(store.remove_container(container, arguments.force)?.to_string())
    })
}

/// Does something with each container and prints what it gives: a line each at once, or one JSON list at the end.
fn collect(
    session: &Session,
    containers: &[String],
    mut work: impl FnMut(&String) -> Result<String>,
) -> Result<()> {
    let mut done = Vec::new();
    let outcome = each(session, containers, |container| {
        let said = work(container)?;
        if session.format() == crate::args::Format::Text {
            line(&said)?;
        }
        done.push(said);
        Ok(())
    });
    session.print(&done, |_| Ok(()))?;
    outcome
}
