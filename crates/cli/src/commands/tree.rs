//! `tree`: layers, and the images and containers that stand on them, drawn so that sharing is visible.
//!
//! ```text
//! 36e3c8cbfbe9          135MB  ▓▓▓▓▓▓▓▓▓▓▓▓  in 2 images
//! 95c561a61843         24.4MB  ▓▓            in 2 images  image demo:1
//! ├─ a9b0d9e51e87       4.1kB  █             container web (f5ba6cd58d72)
//! └─ ce047fb45a46      5.24MB  █             image demo:2
//! ```
//!
//! A chain without forks stays in one column: only forks indent. The bars compare layers with the largest one.

use std::io;

use layerstore::TreeNode;

use crate::failure::Result;
use crate::output::{plain, short, size};
use crate::session::Session;
use crate::style::{self, CONTAINER, IMAGE, QUIET, bar, paint};

pub(super) fn tree(session: &Session, image: Option<&str>) -> Result<()> {
    let forest = session.store()?.tree(image)?;
    session.print(&forest, |forest| {
        let mut lines = Vec::new();
        for node in forest {
            collect(node, String::new(), &mut lines);
        }
        draw(&lines)
    })
}

/// A node with what stands before it.
struct Line<'a> {
    branches: String,
    id: String,
    node: &'a TreeNode,
}

/// Takes a node, then what hangs on it. Chains may be as long as 500 layers, so only forks recurse.
fn collect<'a>(node: &'a TreeNode, branches: String, lines: &mut Vec<Line<'a>>) {
    let (mut node, mut branches) = (node, branches);
    loop {
        let id = node.chain_id.map_or_else(|| short(&node.layer), short);
        lines.push(Line { branches: branches.clone(), id, node });
        // What hangs on this node stands below it, not beside its siblings.
        let below = branches.replace("├─ ", "│  ").replace("└─ ", "   ");
        match node.children.as_slice() {
            [only] => (node, branches) = (only, below),
            children => {
                for (index, child) in children.iter().enumerate() {
                    let last = index + 1 == children.len();
                    collect(child, format!("{below}{}", if last { "└─ " } else { "├─ " }), lines);
                }
                return;
            }
        }
    }
}

fn draw(lines: &[Line<'_>]) -> io::Result<()> {
    let width = |line: &Line<'_>| line.branches.chars().count() + line.id.chars().count();
    let widest = lines.iter().map(width).max().unwrap_or(0);
    let largest = lines.iter().map(|line| line.node.size).max().unwrap_or(0);
    let mut drawn = String::new();
    for line in lines {
        let node = line.node;
        let (shared, unique) = if node.shared_by > 1 { (node.size, 0) } else { (0, node.size) };
        let mut labels = Vec::new();
        if node.shared_by > 1 {
            labels.push(paint(QUIET, format_args!("in {} images", node.shared_by)));
        }
        for (id, names) in &node.images {
            let name = if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
            labels.push(format!("image {} ({})", paint(IMAGE, plain(&name)), short(id)));
        }
        for (id, name) in &node.containers {
            let name = name.as_deref().map(|name| format!("{} ", paint(CONTAINER, plain(name))));
            labels.push(format!("container {}({})", name.unwrap_or_default(), short(id)));
        }
        let pad = " ".repeat(widest - width(line));
        let text = format!(
            "{}{}{pad}  {:>7}  {}  {}",
            paint(QUIET, &line.branches),
            line.id,
            size(node.size),
            bar(shared, unique, largest),
            labels.join("  "),
        );
        drawn.push_str(text.trim_end());
        drawn.push('\n');
    }
    style::print(drawn.as_bytes())
}
