//! Two views walked side by side: a directory before its children, names in the order of their bytes.
//!
//! Where the view `now` is built on the layers of `base`, a directory whose lower parts are the very directories
//! that `base` shows there can differ only in names that the layers above have: nothing else is looked at, and the
//! walk costs what the changes are.
//!
//! Invariant: what vanishes during the walk is treated as gone, never as an error.

use std::rc::Rc;
use std::vec;

use super::super::view::{Listed, MergedDir, Node, View};
use crate::context::Context;
use crate::error::Result;
use crate::path::RelPath;

/// One name that at least one view has.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) path: RelPath,
    pub(crate) base: Option<Node>,
    pub(crate) now: Option<Node>,
    /// The directories that hold it.
    pub(crate) base_dir: Option<Rc<MergedDir>>,
    pub(crate) now_dir: Option<Rc<MergedDir>>,
}

/// A name to look at, with what is known of it.
struct Candidate {
    name: Vec<u8>,
    base: Hint,
    now: Hint,
}

enum Hint {
    Unknown,
    Absent,
    Listed(Listed),
}

struct Frame {
    path: RelPath,
    base: Option<Rc<MergedDir>>,
    now: Option<Rc<MergedDir>>,
    pending: vec::IntoIter<Candidate>,
    /// Whether the directories were closed, because the walk is far below.
    closed: bool,
}

/// Most levels that keep their directories open, besides the root.
const MAX_OPEN: usize = 64;

/// The walk. Names that only `base` has are told once, without what is below them.
pub(crate) struct Walk<'a> {
    base: &'a View,
    now: &'a View,
    /// How many layers of `now` come before those that it shares with `base`, if it is built on them.
    above: Option<usize>,
    stack: Vec<Frame>,
    started: bool,
    context: &'a Context,
}

/// How many layers `now` has above those of `base`, if it is built on them.
pub(crate) fn layers_above(base: &View, now: &View) -> Result<Option<usize>> {
    let Some(above) = now.layers().len().checked_sub(base.layers().len()) else { return Ok(None) };
    if base.layers().is_empty() {
        return Ok(None);
    }
    for (one, other) in base.layers().iter().zip(now.layers().iter().skip(above)) {
        if one.encoding != other.encoding || !one.root.stat_self()?.same_inode(&other.root.stat_self()?) {
            return Ok(None);
        }
    }
    Ok(Some(above))
}

impl<'a> Walk<'a> {
    pub(crate) fn new(base: &'a View, now: &'a View, above: Option<usize>, context: &'a Context) -> Self {
        Self { base, now, above, stack: Vec::new(), started: false, context }
    }

    /// The next name; the first one is the root.
    pub(crate) fn next(&mut self) -> Result<Option<Step>> {
        if !self.started {
            self.started = true;
            let (base, now) = (self.base.root()?, self.now.root()?);
            let step = Step { path: RelPath::root(), base, now, base_dir: None, now_dir: None };
            let base = step.base.as_ref().and_then(|node| node.merged.clone());
            let now = step.now.as_ref().and_then(|node| node.merged.clone());
            self.enter(RelPath::root(), base, now)?;
            return Ok(Some(step));
        }
        while let Some(frame) = self.stack.last_mut() {
            self.context.check()?;
            let Some(candidate) = frame.pending.next() else {
                self.stack.pop();
                continue;
            };
            if frame.closed {
                let merged = |node: Option<Node>| node.and_then(|node| node.merged).map(Rc::new);
                frame.base = merged(self.base.find(&frame.path)?);
                frame.now = merged(self.now.find(&frame.path)?);
                frame.closed = false;
            }
            let base = look(frame.base.as_deref(), &candidate.name, &candidate.base)?;
            let now = look(frame.now.as_deref(), &candidate.name, &candidate.now)?;
            if base.is_none() && now.is_none() {
                continue;
            }
            let path = frame.path.join(&candidate.name)?;
            let (base_dir, now_dir) = (frame.base.clone(), frame.now.clone());
            if let Some(below) = now.as_ref().and_then(|node| node.merged.clone()) {
                let base = base.as_ref().and_then(|node| node.merged.clone());
                self.enter(path.clone(), base, Some(below))?;
            }
            return Ok(Some(Step { path, base, now, base_dir, now_dir }));
        }
        Ok(None)
    }

    fn enter(&mut self, path: RelPath, base: Option<MergedDir>, now: Option<MergedDir>) -> Result<()> {
        let candidates = self.candidates(base.as_ref(), now.as_ref())?;
        if !candidates.is_empty() {
            let pending = candidates.into_iter();
            if let Some(above) =
                self.stack.len().checked_sub(MAX_OPEN).and_then(|index| self.stack.get_mut(index))
            {
                (above.base, above.now, above.closed) = (None, None, true);
            }
            let (base, now) = (base.map(Rc::new), now.map(Rc::new));
            self.stack.push(Frame { path, base, now, pending, closed: false });
        }
        Ok(())
    }

    fn candidates(&self, base: Option<&MergedDir>, now: Option<&MergedDir>) -> Result<Vec<Candidate>> {
        if let (Some(above), Some(base), Some(now)) = (self.above, base, now)
            && same_below(base, now, above)
        {
            let only =
                |listed: Listed| Candidate { name: listed.name, base: Hint::Unknown, now: Hint::Unknown };
            return Ok(now.list_above(above)?.into_iter().map(only).collect());
        }
        let list = |dir: Option<&MergedDir>| dir.map_or_else(|| Ok(Vec::new()), MergedDir::list);
        let mut base = list(base)?.into_iter().peekable();
        let mut now = list(now)?.into_iter().peekable();
        let mut merged = Vec::new();
        loop {
            let order = match (base.peek(), now.peek()) {
                (None, None) => return Ok(merged),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(one), Some(other)) => one.name.cmp(&other.name),
            };
            let one = if order.is_le() { base.next() } else { None };
            let other = if order.is_ge() { now.next() } else { None };
            let name = one.as_ref().or(other.as_ref()).map(|listed| listed.name.clone()).unwrap_or_default();
            let hint = |listed: Option<Listed>| listed.map_or(Hint::Absent, Hint::Listed);
            merged.push(Candidate { name, base: hint(one), now: hint(other) });
        }
    }
}

fn look(dir: Option<&MergedDir>, name: &[u8], hint: &Hint) -> Result<Option<Node>> {
    match (dir, hint) {
        (None, _) | (_, Hint::Absent) => Ok(None),
        (Some(dir), Hint::Unknown) => dir.lookup(name),
        (Some(dir), Hint::Listed(listed)) => dir.lookup_listed(listed),
    }
}

/// Whether, below the first `above` layers, `now` is made of the same directories as `base`.
fn same_below(base: &MergedDir, now: &MergedDir, above: usize) -> bool {
    let mut lower = now.parts.iter().filter(|part| part.layer >= above);
    base.parts.iter().all(|one| {
        lower.next().is_some_and(|other| one.layer + above == other.layer && one.stat.same_inode(&other.stat))
    }) && lower.next().is_none()
}
