//! The way to an entry of a view, without the kernel following anything.

use layerstore_changeset::RelPath;
use layerstore_sys::{Dir, Errno, Stat};

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

/// The directories on the way to what was looked for last: tars go through a tree in order.
#[derive(Default)]
pub(super) struct Way(Vec<(Vec<u8>, Dir)>);

impl Way {
    pub(super) fn find(&mut self, root: &Dir, path: &RelPath) -> layerstore_changeset::Result<Step> {
        let mut parts: Vec<&[u8]> = path.components().collect();
        let Some(name) = parts.pop() else {
            let (dir, stat) = (root.clone(), root.stat_self()?);
            return Ok(Step::At(Some(Found { dir, name: b".".to_vec(), stat })));
        };
        let shared = self.0.iter().zip(&parts).take_while(|((open, _), part)| open == *part).count();
        self.0.truncate(shared);
        for (depth, part) in parts.iter().enumerate().skip(shared) {
            let dir = self.0.last().map_or(root, |(_, dir)| dir);
            match dir.open_dir(part) {
                Ok(dir) => self.0.push((part.to_vec(), dir)),
                Err(error) if error.is_not_found() => return Ok(Step::At(None)),
                Err(error) if !matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) => {
                    return Err(error.into());
                }
                Err(_) => {
                    let Ok(target) = dir.read_link(part) else { return Ok(Step::At(None)) };
                    let above =
                        if target.starts_with(b"/") { &[][..] } else { parts.get(..depth).unwrap_or(&[]) };
                    let below = parts.get(depth + 1..).unwrap_or(&[]);
                    return Ok(Step::Through(followed(above, &target, below, name)?));
                }
            }
        }
        let dir = self.0.last().map_or(root, |(_, dir)| dir);
        let stat = dir.try_stat(name)?;
        Ok(Step::At(stat.map(|stat| Found { dir: dir.clone(), name: name.to_vec(), stat })))
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
