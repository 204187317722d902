//! Plans as mount strings, for containerd and others who call mount(2) by themselves.
//!
//! The kernel takes all options in one page, layers separated by `:`, options by `,`, and unescapes `\`
//! (fs/overlayfs/params.c). Whoever passes the strings on may or may not leave a backslash alone; the kernel does
//! what they say.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::error::MOUNT;
use super::fallback::MAX_OPTIONS;
use super::{MountString, overlay};
use crate::error::{Error, Kind, Result};
use crate::plan::{Bind, MountPlan, Overlay, Source};

/// Says a plan as mount(2) calls, to be made in this order on one target.
///
/// # Errors
/// `LimitExceeded` where it does not fit into a page; `Unsupported` for a plan inside the plan, an id mapping, and
/// a path that is not UTF-8: each needs descriptors.
pub fn strings(plan: &MountPlan) -> Result<Vec<MountString>> {
    plan.check()?;
    let string = match plan {
        MountPlan::Bind(plan) => bind(plan)?,
        MountPlan::Overlay(plan) => self::overlay(plan)?,
    };
    Ok(vec![string])
}

fn bind(plan: &Bind) -> Result<MountString> {
    if plan.id_mapping.is_some() {
        return Err(unsupported("an id mapping cannot be said as mount strings"));
    }
    let access = if plan.read_only { "ro" } else { "rw" };
    Ok(MountString {
        r#type: "bind".to_owned(),
        source: text(path(&plan.source)?)?.to_owned(),
        options: ["rbind", access].into_iter().chain(plan.flags.words()).map(str::to_owned).collect(),
    })
}

fn overlay(plan: &Overlay) -> Result<MountString> {
    if plan.id_mapping.is_some() {
        return Err(unsupported("an id mapping cannot be said as mount strings"));
    }
    let mut options = Vec::new();
    if let Some(upper) = &plan.upper {
        let part = |name: &str| text(&upper.directory.join(name)).map(escape);
        options.push(format!("workdir={}", part(&upper.work)?));
        options.push(format!("upperdir={}", part(&upper.upper)?));
    } else {
        options.push("ro".to_owned());
    }
    let lowers = plan.lowers.iter().map(|lower| Ok(escape(text(path(lower)?)?)));
    options.push(format!("lowerdir={}", lowers.collect::<Result<Vec<_>>>()?.join(":")));
    options.extend(plan.flags.words().map(str::to_owned));
    options.extend(overlay::join(&overlay::known_options(&plan.features)));
    if let Some(label) = &plan.label {
        super::error::check_selinux()?;
        options.push(format!("context=\"{label}\""));
    }
    let length = options.iter().map(|option| option.len() + 1).sum::<usize>() - 1;
    if length > MAX_OPTIONS {
        let message = format!(
            "{} layers make {length} bytes of mount options, and mount(2) takes {MAX_OPTIONS}",
            plan.lowers.len()
        );
        return Err(Error::new(Kind::LimitExceeded, MOUNT, message)
            .with_hint("let layerstore mount, which has no such limit, or use a shorter root path"));
    }
    Ok(MountString { r#type: "overlay".to_owned(), source: "overlay".to_owned(), options })
}

fn path(source: &Source) -> Result<&Path> {
    match source {
        Source::Path(path) => Ok(path),
        Source::Plan { .. } => Err(unsupported("a mount inside a mount cannot be said as mount strings")),
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let path = path.as_os_str().as_bytes().escape_ascii();
        unsupported(&format!("\"{path}\" is not UTF-8 and cannot be said as mount strings"))
    })
}

/// Escapes what overlay's options split at.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '\\' | ':' | ',') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn unsupported(message: &str) -> Error {
    Error::new(Kind::Unsupported, MOUNT, message).with_hint("let layerstore mount, which passes descriptors")
}
