//! Where an entry of a view lies, whose name may lead through symlinks; the kernel follows none.

use layerstore_changeset::RelPath;
use layerstore_sys::{Dir, Errno, Stat};

use crate::way::Way;

/// An entry of the view.
pub(super) struct Found {
    pub(super) dir: Dir,
    pub(super) name: Vec<u8>,
    pub(super) stat: Stat,
}

/// A step on the way to a path.
pub(super) enum Step {
    /// There it is, or would be.
    At(Option<Found>),
    /// A symlink leads there instead.
    Through(RelPath),
}

/// Looks for a path; nothing is followed.
pub(super) fn find(way: &mut Way, path: &RelPath) -> layerstore_changeset::Result<Step> {
    let mut parts: Vec<&[u8]> = path.components().collect();
    // The root is its own entry.
    let name = parts.pop().unwrap_or(b".");
    match way.enter(&parts) {
        Ok(()) => {
            let dir = way.here().clone();
            let stat = dir.try_stat(name)?;
            Ok(Step::At(stat.map(|stat| Found { dir, name: name.to_vec(), stat })))
        }
        Err(error) if error.is_not_found() => Ok(Step::At(None)),
        Err(error) if !matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) => Err(error.into()),
        Err(_) => {
            let (above, rest) = parts.split_at(way.depth().min(parts.len()));
            let Some((link, below)) = rest.split_first() else { return Ok(Step::At(None)) };
            let Ok(target) = way.here().read_link(link) else { return Ok(Step::At(None)) };
            let above = if target.starts_with(b"/") { &[] } else { above };
            Ok(Step::Through(followed(above, &target, below, name)?))
        }
    }
}

/// The path that a symlink leads to, inside of the view.
fn followed(
    above: &[&[u8]],
    target: &[u8],
    below: &[&[u8]],
    name: &[u8],
) -> layerstore_changeset::Result<RelPath> {
    let mut parts: Vec<&[u8]> = above.to_vec();
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            // Above the root is the root.
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.extend(below);
    parts.push(name);
    RelPath::clean(&parts.join(&b'/'))
}
