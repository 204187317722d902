//! `tree`: layers, and the images and containers that stand on them, drawn so that sharing is visible.

use std::io;

use layerstore::TreeNode;

use crate::failure::Result;
use crate::output::{line, short, size};
use crate::session::Session;

pub(super) fn tree(session: &Session, image: Option<&str>) -> Result<()> {
    let forest = session.store()?.tree(image)?;
    session.print(&forest, |forest| forest.iter().try_for_each(|node| draw(node, "", "", "")))
}

/// Draws a node, then what hangs on it. A chain without forks stays in one column: only forks indent.
fn draw(node: &TreeNode, prefix: &str, first: &str, rest: &str) -> io::Result<()> {
    let name = node.chain_id.map_or_else(|| short(&node.layer), short);
    let shared = match node.shared_by {
        0 | 1 => String::new(),
        count => format!("  shared by {count} images"),
    };
    let mut owners = String::new();
    for (id, names) in &node.images {
        let names = if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
        owners += &format!("  image {names} ({})", short(id));
    }
    for (id, name) in &node.containers {
        let name = name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        owners += &format!("  container {name}({})", short(id));
    }
    line(format_args!("{prefix}{first}{name}  {}{shared}{owners}", size(node.size)))?;
    let below = format!("{prefix}{rest}");
    if let [only] = node.children.as_slice() {
        return draw(only, &below, "", "");
    }
    for (index, child) in node.children.iter().enumerate() {
        let last = index + 1 == node.children.len();
        draw(child, &below, if last { "└─ " } else { "├─ " }, if last { "   " } else { "│  " })?;
    }
    Ok(())
}
