//! The other readers: what GNU tar, bsdtar and Python's tarfile list and extract.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use layerstore_testkit::{Tree, read_tree_at};
use serde::Deserialize;

use super::common::{listed, unescaped};

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: Vec<u8>,
    /// As `ls -l` shows it; the first letter of a hard link is `h`.
    pub(crate) mode: String,
    pub(crate) owner: String,
    /// The size, or both numbers of a device.
    pub(crate) size: String,
    pub(crate) link: Vec<u8>,
}

/// An entry as Python reads it; texts in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PythonEntry {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) link: String,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) data: String,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    entries: Vec<PythonEntry>,
}

/// Python in a process of its own, because starting it takes longer than all the rest.
pub(crate) struct Python {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Python {
    pub(crate) fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", include_str!("reader.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3: {error}: install python3"));
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn ask(&mut self, question: &str) -> Result<Vec<PythonEntry>, String> {
        writeln!(self.to, "{question}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let answer: Answer = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        answer.error.map_or(Ok(answer.entries), |error| Err(format!("Python: {error}")))
    }

    pub(crate) fn list(&mut self, archive: &Path) -> Result<Vec<PythonEntry>, String> {
        self.ask(&format!("list\t{}", archive.display()))
    }

    pub(crate) fn extract(&mut self, archive: &Path, to: &Path) -> Result<Tree, String> {
        empty(to);
        self.ask(&format!("extract\t{}\t{}", archive.display(), to.display()))?;
        Ok(read_tree_at(to).unwrap())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An empty directory, mode 0755, time 0.
pub(crate) fn empty(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
}

fn run(program: &str, arguments: &[&str], archive: &Path, to: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut command = Command::new("sh");
    // Parents that the archive does not have are made by the mask.
    command.args(["-c", "umask 022; exec \"$0\" \"$@\"", program]).args(arguments).arg("-f").arg(archive);
    if let Some(to) = to {
        command.arg("-C").arg(to);
    }
    let output = command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC0").output().unwrap();
    if output.status.code() == Some(127) {
        panic!("{program} cannot be run: install tar and libarchive-tools");
    }
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{program} {arguments:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

pub(crate) fn gnu_extract(archive: &Path, to: &Path) -> Result<Tree, String> {
    empty(to);
    let arguments = ["-x", "-p", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*"];
    run("tar", &arguments, archive, Some(to))?;
    Ok(read_tree_at(to).unwrap())
}

pub(crate) fn bsd_extract(archive: &Path, to: &Path) -> Result<Tree, String> {
    empty(to);
    run("bsdtar", &["-x", "-p", "--numeric-owner", "--same-owner", "--xattrs"], archive, Some(to))?;
    Ok(read_tree_at(to).unwrap())
}

/// GNU tar's listing: `MODE OWNER/GROUP SIZE DATE TIME "NAME" -> "TARGET"`, quoted as in C.
pub(crate) fn gnu_list(archive: &Path) -> Result<Vec<Line>, String> {
    let listing =
        run("tar", &["-tvv", "--numeric-owner", "--full-time", "--quoting-style=c"], archive, None)?;
    let lines = listing.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| {
            let at = line.iter().position(|&b| b == b'"').unwrap();
            let head = String::from_utf8(line[..at].to_vec()).unwrap();
            let fields: Vec<_> = head.split_whitespace().map(str::to_owned).collect();
            let (name, rest) = quoted(&line[at..]);
            let link = rest.iter().position(|&b| b == b'"').map_or(Vec::new(), |at| quoted(&rest[at..]).0);
            Line { name, mode: fields[0].clone(), owner: fields[1].clone(), size: fields[2].clone(), link }
        })
        .collect())
}

/// Takes a quoted text off the front.
fn quoted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut end = 1;
    while text[end] != b'"' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    (unescaped(&text[1..end]), &text[end + 1..])
}

/// The names of bsdtar's listing.
pub(crate) fn bsd_list(archive: &Path) -> Result<Vec<Vec<u8>>, String> {
    let listing = run("bsdtar", &["-t"], archive, None)?;
    Ok(listed(&listing))
}
