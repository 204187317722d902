//! The search for one name through the layers of a [`MergedDir`], with the rules of the kernel's overlay.
//!
//! Lower layers are asked either by name in the parts of the directory, or, after an absolute redirect, by path
//! from each layer's root. Invariant: every step is one component in one directory, without following symlinks.

use std::borrow::Cow;
use std::sync::Arc;

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{Dir, Errno, File, FileType, Stat};

use super::view::{LayerTree, MergedDir, Node, Part, is_gone};
use crate::encoding::{Encoding, overlay};
use crate::error::Result;

/// Where lower layers are asked for the name.
#[derive(Debug, Clone)]
enum Target<'a> {
    /// In the parts of the directory, by this name.
    Beside(Cow<'a, [u8]>),
    /// From each layer's root, by this path.
    Absolute(Vec<Cow<'a, [u8]>>),
}

/// What one layer has at the target.
enum Hit {
    /// Nothing: the next layer is asked.
    Nothing,
    /// A whiteout, or something that hides what is below: the search ends.
    Blocked,
    /// A directory; `last` when it hides the layers below.
    Directory { part: Part, holder: Dir, name: Box<[u8]>, last: bool },
    /// Anything else.
    Other { holder: Dir, name: Box<[u8]>, stat: Stat },
}

/// The entry `name` of the directory, asking its parts from index `from` on, and of those only the ones in `only`
/// for as long as the name is not redirected.
pub(super) fn entry(
    dir: &MergedDir,
    name: &[u8],
    from: usize,
    only: Option<&[usize]>,
) -> Result<Option<Node>> {
    let mut search = Search::new(dir, Target::Beside(Cow::Borrowed(name)), from, only);
    let mut found: Option<(Node, Vec<Part>)> = None;
    while let Some((layer, hit)) = search.next()? {
        match (hit, &mut found) {
            (Hit::Nothing, _) => {}
            (Hit::Blocked, _) | (Hit::Other { .. }, Some(_)) => break,
            (Hit::Other { holder, name, stat }, None) => {
                return Ok(Some(Node { stat, layer, dir: holder, name, merged: None }));
            }
            (Hit::Directory { part, holder, name, last }, None) => {
                let node = Node { stat: part.stat, layer, dir: holder, name, merged: None };
                found = Some((node, vec![part]));
                if last {
                    break;
                }
            }
            (Hit::Directory { part, last, .. }, Some((_, parts))) => {
                parts.push(part);
                if last {
                    break;
                }
            }
        }
    }
    Ok(found.map(|(mut node, parts)| {
        node.merged = Some(MergedDir { layers: Arc::clone(&dir.layers), parts });
        node
    }))
}

/// Opens the data of a regular file of the directory, following metadata-only copies downwards.
pub(super) fn data(dir: &MergedDir, node: &Node) -> Result<File> {
    let Some(Encoding::Overlay(namespace)) = dir.layers.get(node.layer).map(|tree| tree.encoding) else {
        return Ok(node.dir.open_file(&node.name)?);
    };
    let file = node.dir.open_file(&node.name)?;
    if node.layer + 1 >= dir.layers.len() || !overlay::is_metacopy(On::File(&file), namespace)? {
        return Ok(file);
    }
    let missing = || layerstore_sys::Error::new("openat", node.dir.show(&node.name), Errno::NOENT);
    let redirect = xattr::get(On::File(&file), namespace.redirect().as_bytes())?;
    let from = dir.parts.iter().position(|part| part.layer > node.layer).unwrap_or(dir.parts.len());
    let mut search = Search::new(dir, Target::Beside(Cow::Borrowed(&node.name)), from, None);
    search.redirect(node.layer, redirect.as_deref(), 0);
    while let Some((layer, hit)) = search.next()? {
        match hit {
            Hit::Nothing => {}
            Hit::Blocked | Hit::Directory { .. } => break,
            Hit::Other { stat, .. } if stat.kind != FileType::Regular => break,
            Hit::Other { holder, name, .. } => {
                let file = holder.open_file(&name)?;
                let Some(Encoding::Overlay(namespace)) = dir.layers.get(layer).map(|tree| tree.encoding)
                else {
                    return Ok(file);
                };
                if !overlay::is_metacopy(On::File(&file), namespace)? {
                    return Ok(file);
                }
                let redirect = xattr::get(On::File(&file), namespace.redirect().as_bytes())?;
                search.redirect(layer, redirect.as_deref(), 0);
            }
        }
    }
    Err(missing().into())
}

/// The layers still to ask, topmost first.
struct Search<'a> {
    dir: &'a MergedDir,
    target: Target<'a>,
    /// The next part to ask ([`Target::Beside`]) or the next layer ([`Target::Absolute`]).
    next: usize,
    only: Option<&'a [usize]>,
}

impl<'a> Search<'a> {
    fn new(dir: &'a MergedDir, target: Target<'a>, from: usize, only: Option<&'a [usize]>) -> Self {
        Self { dir, target, next: from, only }
    }

    /// What the next layer has; none after the last.
    fn next(&mut self) -> Result<Option<(usize, Hit)>> {
        loop {
            let index = self.next;
            self.next += 1;
            match self.target.clone() {
                Target::Beside(name) => {
                    let Some(part) = self.dir.parts.get(index) else { return Ok(None) };
                    if self.only.is_some_and(|only| !only.contains(&index)) {
                        continue;
                    }
                    let hit = self.walk(part.layer, part.dir.clone(), part.xattr_whiteouts, &[name])?;
                    return Ok(Some((part.layer, hit)));
                }
                Target::Absolute(path) => {
                    let Some(LayerTree { root, encoding }) = self.dir.layers.get(index) else {
                        return Ok(None);
                    };
                    let xattr_whiteouts = match encoding {
                        Encoding::Overlay(namespace) => {
                            overlay::marks(On::Dir(root), *namespace)?.xattr_whiteouts
                        }
                        Encoding::Flat => false,
                    };
                    let hit = self.walk(index, root.clone(), xattr_whiteouts, &path)?;
                    return Ok(Some((index, hit)));
                }
            }
        }
    }

    /// Walks a path in one layer.
    fn walk(
        &mut self,
        layer: usize,
        mut holder: Dir,
        mut xattr_whiteouts: bool,
        path: &[Cow<'_, [u8]>],
    ) -> Result<Hit> {
        let encoding = self.dir.layers.get(layer).map_or(Encoding::Flat, |tree| tree.encoding);
        // The kernel reads no marks in the lowest layer.
        let lowest = layer + 1 >= self.dir.layers.len();
        let mut ends_here = false;
        for (index, name) in path.iter().enumerate() {
            let is_last = index + 1 == path.len();
            let Some(stat) = holder.try_stat(name)? else {
                return Ok(if ends_here { Hit::Blocked } else { Hit::Nothing });
            };
            if let Encoding::Overlay(namespace) = encoding
                && overlay::is_whiteout(&holder, name, &stat, xattr_whiteouts, namespace)?
            {
                return Ok(Hit::Blocked);
            }
            if stat.kind != FileType::Directory {
                if !is_last {
                    return Ok(Hit::Blocked);
                }
                return Ok(Hit::Other { holder, name: name.as_ref().into(), stat });
            }
            let child = match holder.open_dir(name) {
                Ok(child) => child,
                Err(error) if is_gone(&error) => return Ok(Hit::Nothing),
                Err(error) => return Err(error.into()),
            };
            let mut marks = overlay::Marks::default();
            if let Encoding::Overlay(namespace) = encoding
                && !lowest
            {
                marks = overlay::marks(On::Dir(&child), namespace)?;
            }
            ends_here |= marks.opaque || encoding == Encoding::Flat;
            if !ends_here {
                self.redirect(layer, marks.redirect.as_deref(), path.len() - 1 - index);
            }
            xattr_whiteouts = marks.xattr_whiteouts;
            if is_last {
                let part = Part { layer, dir: child, stat, xattr_whiteouts };
                return Ok(Hit::Directory { part, holder, name: name.as_ref().into(), last: ends_here });
            }
            holder = child;
        }
        Ok(Hit::Nothing)
    }

    /// Changes where the layers below `layer` are asked, after the component of the target that has `rest` others
    /// behind it was found with this redirect. A redirect that is not well formed is left out.
    fn redirect(&mut self, layer: usize, redirect: Option<&[u8]>, rest: usize) {
        let Some(redirect) = redirect.filter(|text| !text.is_empty()) else { return };
        let (absolute, text) = match redirect.strip_prefix(b"/") {
            Some(rest) => (true, rest),
            None => (false, redirect),
        };
        let names: Vec<Cow<'a, [u8]>> =
            text.split(|&b| b == b'/').map(|name| Cow::Owned(name.to_vec())).collect();
        let well_formed =
            names.iter().all(|name| !name.is_empty() && name.as_ref() != b"." && name.as_ref() != b"..");
        if !well_formed || (!absolute && names.len() != 1) {
            return;
        }
        match (&mut self.target, absolute) {
            (Target::Beside(name), false) => {
                *name = Cow::Owned(text.to_vec());
                // The hint was about the other name.
                self.only = None;
            }
            (Target::Beside(_), true) => {
                self.target = Target::Absolute(names);
                self.next = layer + 1;
            }
            (Target::Absolute(path), absolute) => {
                let rest = path.split_off(path.len().saturating_sub(rest));
                if absolute {
                    *path = names;
                } else {
                    path.pop();
                    path.extend(names);
                }
                path.extend(rest);
            }
        }
    }
}
