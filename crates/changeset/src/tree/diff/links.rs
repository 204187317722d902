//! Hard-link groups of a difference: each is told as a whole or not at all.
//!
//! A *group* is every name of the view `now` that leads to one inode. It is told when one of its names is new, when
//! the inode is not the same as what those names were, when its names were different inodes before, or when an
//! earlier group that is not told was the same inode before: else applying the difference would leave names
//! linked that are not, or the other way round.
//!
//! Which names a group has is known only after a walk. As long as everything with several names is new, it is told
//! whatever its other names are, so nothing is walked beforehand; the first that was there before has a walk
//! without data made, which collects what has, or had, several names. Where that walk looks at changes only, a name
//! that it did not see may belong to a group; it says so, and everything is walked. Such names come after the one
//! that had the walk made, unless a directory was renamed together with what lower layers have in it: where layers
//! say so, the walk is made first.

use std::collections::{HashMap, HashSet};

use layerstore_sys::{DeviceId, Stat};

use super::super::view::View;
use super::renamed::renamed;
use super::same::differs;
use super::walk::{Step, Walk};
use crate::context::Context;
use crate::error::Result;
use crate::path::RelPath;

/// An inode, by device and number.
pub(super) type Inode = (DeviceId, u64);

pub(super) fn inode(stat: &Stat) -> Inode {
    (stat.device, stat.inode)
}

struct Group {
    /// How many names the walk has seen.
    names: u64,
    /// How many names the inode has.
    links: u64,
    /// Whether the inode lies in a layer that `now` shares with `base`.
    is_shared: bool,
    base: Option<Inode>,
    /// How many names that inode has.
    base_links: u64,
    told: bool,
}

/// Which groups are told, and the name that carries the data of each.
#[derive(Debug)]
pub(super) struct Links<'a> {
    base: &'a View,
    now: &'a View,
    above: Option<usize>,
    /// None before the walk that finds out; everything that has several names is new then.
    told: Option<HashMap<Inode, bool>>,
    carriers: HashMap<Inode, RelPath>,
}

/// Which walk tells the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    /// The one at hand.
    Known,
    /// One through everything.
    All,
}

/// Whether an entry belongs to a group now or did before.
fn is_grouped(step: &Step) -> bool {
    let linked = |node: &super::super::view::Node| node.merged.is_none() && node.stat.links > 1;
    step.now
        .as_ref()
        .is_some_and(|now| now.merged.is_none() && (linked(now) || step.base.as_ref().is_some_and(linked)))
}

impl<'a> Links<'a> {
    /// Nothing is known yet.
    pub(super) fn new(base: &'a View, now: &'a View, above: Option<usize>) -> Self {
        Self { base, now, above, told: None, carriers: HashMap::new() }
    }

    /// Finds the groups before the walk, where the walk would find out too late.
    ///
    /// # Errors
    /// System calls and cancellation.
    pub(super) fn prepare(&mut self, context: &Context) -> Result<Scanned> {
        match self.above {
            Some(above) if renamed(self.now, above, context)? => self.scan(context),
            _ => Ok(Scanned::Known),
        }
    }

    /// Looks at a step before it is told: finds the groups when it is the first that asks for that.
    ///
    /// # Errors
    /// System calls and cancellation.
    pub(super) fn meet(&mut self, step: &Step, context: &Context) -> Result<Scanned> {
        if self.told.is_none() && step.base.is_some() && is_grouped(step) {
            return self.scan(context);
        }
        Ok(Scanned::Known)
    }

    fn scan(&mut self, context: &Context) -> Result<Scanned> {
        self.told = find(self.base, self.now, self.above, context)?;
        if self.told.is_some() {
            return Ok(Scanned::Known);
        }
        self.told = Some(find(self.base, self.now, None, context)?.unwrap_or_default());
        Ok(Scanned::All)
    }

    /// Whether an entry is told because of its group; none when it stands for itself.
    pub(super) fn told(&self, step: &Step) -> Option<bool> {
        if !is_grouped(step) {
            return None;
        }
        self.told.as_ref()?.get(&inode(&step.now.as_ref()?.stat)).copied()
    }

    /// The name that carries the data of an inode that was told already.
    pub(super) fn carrier(&self, stat: &Stat) -> Option<&RelPath> {
        if stat.links < 2 {
            return None;
        }
        self.carriers.get(&inode(stat))
    }

    /// Notes the name that carries the data of an inode.
    pub(super) fn carried(&mut self, stat: &Stat, path: &RelPath) {
        if stat.links > 1 {
            self.carriers.insert(inode(stat), path.clone());
        }
    }
}

/// Finds the groups, and whether each is told; none when the walk of changes alone cannot tell.
fn find(
    base: &View,
    now: &View,
    above: Option<usize>,
    context: &Context,
) -> Result<Option<HashMap<Inode, bool>>> {
    let mut groups: HashMap<Inode, Group> = HashMap::new();
    let mut order = Vec::new();
    let mut walk = Walk::new(base, now, above, context);
    while let Some(step) = walk.next()? {
        if !is_grouped(&step) {
            continue;
        }
        let Some(now) = &step.now else { continue };
        let was = step.base.as_ref().filter(|base| base.merged.is_none());
        let group = groups.entry(inode(&now.stat)).or_insert_with(|| {
            order.push(inode(&now.stat));
            Group {
                names: 0,
                links: now.stat.links.into(),
                is_shared: above.is_some_and(|above| now.layer >= above),
                base: None,
                base_links: 0,
                told: false,
            }
        });
        group.names += 1;
        let Some(was) = was else {
            group.told = true;
            continue;
        };
        let before = inode(&was.stat);
        if group.base.is_none() {
            group.base = Some(before);
            group.base_links = was.stat.links.into();
            let was = (was, step.base_dir.as_deref());
            group.told = group.told || differs(was, (now, step.now_dir.as_deref()), context)?;
        } else if group.base != Some(before) {
            group.told = true;
        }
    }
    let mut all = HashMap::new();
    let mut kept = HashSet::new();
    for id in order {
        let Some(group) = groups.get(&id) else { continue };
        let unseen =
            if group.is_shared { group.names < group.links } else { !group.told && group.base_links > 1 };
        if above.is_some() && unseen {
            return Ok(None);
        }
        let told = group.told || group.base.is_some_and(|base| !kept.insert(base));
        all.insert(id, told);
    }
    Ok(Some(all))
}
