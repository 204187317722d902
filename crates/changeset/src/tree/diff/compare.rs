//! Two views compared entry by entry, for people: what `check` and tests print.

use std::collections::HashMap;

use super::links::{Inode, inode};
use super::same::difference;
use super::walk::Walk;
use crate::context::Context;
use crate::error::Result;
use crate::path::RelPath;
use crate::tree::view::{Node, View};

/// The first `limit` differences between two views, one line each: names, kinds, owners, modes, times, sizes,
/// contents, symlink texts, devices, xattrs and which names are hard links of each other.
///
/// # Errors
/// System calls and cancellation.
pub fn compare(one: &View, other: &View, limit: usize, context: &Context) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    // The first name of each inode that has several, in either view.
    let mut firsts: (HashMap<Inode, RelPath>, HashMap<Inode, RelPath>) = Default::default();
    let mut walk = Walk::new(one, other, None, context);
    while let Some(step) = walk.next()? {
        if lines.len() >= limit {
            break;
        }
        let path = &step.path;
        let (Some(base), Some(now)) = (&step.base, &step.now) else {
            if step.base.is_some() || step.now.is_some() {
                lines.push(format!(
                    "{path}: only in the {}",
                    if step.base.is_some() { "first" } else { "second" }
                ));
            }
            continue;
        };
        let what = difference((base, step.base_dir.as_deref()), (now, step.now_dir.as_deref()), context)?;
        if let Some(what) = what {
            lines.push(format!("{path}: {what} differs: {} and {}", show(base, what)?, show(now, what)?));
        }
        let first = first_name(&mut firsts.0, base, path);
        let second = first_name(&mut firsts.1, now, path);
        if first != second {
            lines.push(format!("{path}: is a hard link of {first} and of {second}"));
        }
    }
    Ok(lines)
}

fn first_name(names: &mut HashMap<Inode, RelPath>, node: &Node, path: &RelPath) -> RelPath {
    if node.merged.is_some() || node.stat.links < 2 {
        return path.clone();
    }
    names.entry(inode(&node.stat)).or_insert_with(|| path.clone()).clone()
}

fn show(node: &Node, what: &str) -> Result<String> {
    let stat = &node.stat;
    Ok(match what {
        "kind" => format!("{:?}", stat.kind),
        "mode" => format!("{:o}", stat.mode),
        "owner" => format!("{}:{}", stat.uid, stat.gid),
        "size" | "content" => format!("{} bytes", stat.size),
        "device" => format!("{}/{}", stat.represents.major, stat.represents.minor),
        "mtime" => format!("{}.{:09}", stat.mtime.seconds, stat.mtime.nanos),
        "target" => node.link_text()?.escape_ascii().to_string(),
        _ => {
            let xattrs = node.xattrs()?;
            let pairs: Vec<String> = xattrs
                .iter()
                .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    })
}
