//! Trees as text, one line a name, and readable differences between two of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::path::Path;
use crate::tree::{Inode, Kind, Tree};

impl Tree {
    /// One stable line a name, in the order of a walk.
    pub fn dump(&self) -> String {
        self.lines().into_values().fold(String::new(), |all, line| all + &line + "\n")
    }

    fn lines(&self) -> BTreeMap<Path, String> {
        let leaders = self.leaders();
        let mut lines = BTreeMap::new();
        for (path, inode) in self.iter() {
            let mut line = format!("{path} {}", describe(inode));
            if let Some(leader) = leaders.get(path).filter(|leader| *leader != path) {
                let _ = write!(line, " same inode as {leader}");
            }
            lines.insert(path.clone(), line);
        }
        lines
    }
}

/// What an inode is, on one line.
pub fn describe(inode: &Inode) -> String {
    let meta = &inode.meta;
    let what = match &inode.kind {
        Kind::File(data) => format!("file {}", data.summary()),
        Kind::Dir => "dir".to_owned(),
        Kind::Symlink(target) => format!("symlink -> \"{}\"", target.escape_ascii()),
        Kind::Fifo => "fifo".to_owned(),
        Kind::Char(major, minor) => format!("char {major}:{minor}"),
        Kind::Block(major, minor) => format!("block {major}:{minor}"),
        Kind::Socket => "socket".to_owned(),
    };
    let (seconds, nanos) = meta.mtime;
    let mut line =
        format!("{what} mode={:04o} owner={}:{} time={seconds}+{nanos:09}", meta.mode, meta.uid, meta.gid);
    for (name, value) in &meta.xattrs {
        let shown: String = if value.len() <= 64 {
            value.escape_ascii().to_string()
        } else {
            format!("{} bytes, {}", value.len(), crate::data::Data::new(value).summary())
        };
        let _ = write!(line, " {}=\"{shown}\"", name.escape_ascii());
    }
    line
}

/// The lines that differ, `-` for what was expected and `+` for what was found; none when the trees are equal.
pub fn differences(expected: &Tree, found: &Tree) -> Option<String> {
    const MOST: usize = 40;
    if expected == found {
        return None;
    }
    let (expected, found) = (expected.lines(), found.lines());
    let mut text = String::new();
    let names: std::collections::BTreeSet<&Path> = expected.keys().chain(found.keys()).collect();
    let different = names.into_iter().filter(|name| expected.get(name) != found.get(name));
    for (count, name) in different.enumerate() {
        if count == MOST {
            text.push_str("… and more\n");
            break;
        }
        for (sign, side) in [('-', &expected), ('+', &found)] {
            if let Some(line) = side.get(name) {
                let _ = writeln!(text, "{sign} {line}");
            }
        }
    }
    Some(text)
}

/// Fails a test with the lines that differ.
///
/// # Panics
/// When the trees differ.
#[track_caller]
pub fn assert_same(expected: &Tree, found: &Tree) {
    if let Some(text) = differences(expected, found) {
        panic!("trees differ (- expected, + found):\n{text}");
    }
}
