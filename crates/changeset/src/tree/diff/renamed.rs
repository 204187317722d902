//! Whether layers have directories whose lower content lies under another name.

use layerstore_sys::xattr::On;
use layerstore_sys::{Dir, FileType};

use super::super::names::Names;
use super::super::view::{View, is_gone};
use crate::context::Context;
use crate::encoding::Encoding;
use crate::encoding::overlay::{self, Namespace};
use crate::error::Result;

/// Whether one of the first `above` layers of a view has a redirect. Only directories are looked at.
///
/// # Errors
/// System calls and cancellation.
pub(super) fn renamed(view: &View, above: usize, context: &Context) -> Result<bool> {
    for tree in view.layers().iter().take(above) {
        if let Encoding::Overlay(namespace) = tree.encoding
            && has_redirect(&tree.root, namespace, context)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_redirect(root: &Dir, namespace: Namespace, context: &Context) -> Result<bool> {
    // One descriptor per level is open.
    let mut stack = vec![(root.clone(), Names::new())];
    while let Some((dir, pending)) = stack.last_mut() {
        context.check()?;
        let Some(entry) = pending.next_entry(dir)? else {
            stack.pop();
            continue;
        };
        if !matches!(entry.kind, FileType::Directory | FileType::Unknown) {
            continue;
        }
        let child = match dir.open_dir(&entry.name) {
            Ok(child) => child,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        if overlay::marks(On::Dir(&child), namespace)?.redirect.is_some() {
            return Ok(true);
        }
        stack.push((child, Names::new()));
    }
    Ok(false)
}
