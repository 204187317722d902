//! The machine's root file system: an archive that the kernel unpacks into memory.
//!
//! ```text
//! /init               the script that runs as the first process
//! /bin/busybox        everything else that is called there
//! /bin/PROGRAM        what was built here, without debugging information
//! /lib/…              the libraries that these programs need, where they are here
//! /modules/NAME.ko    kernel modules
//! ```
//!
//! The format is cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst): a header of 13 numbers in
//! hexadecimal, the name with a 0, the data, both padded to four bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Outcome, output};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// Writes the archive.
pub(super) fn write(
    to: &Path,
    programs: &[(&str, PathBuf)],
    modules: &[(String, PathBuf)],
    script: &str,
) -> Outcome<()> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert("init".to_owned(), script.as_bytes().to_vec());
    files.insert("bin/busybox".to_owned(), busybox()?);
    for (name, path) in programs {
        files.insert(format!("bin/{name}"), stripped(path)?);
        for library in libraries(path)? {
            files.insert(library.trim_start_matches('/').to_owned(), read(Path::new(&library))?);
        }
    }
    for (name, path) in modules {
        files.insert(format!("modules/{name}"), read(path)?);
    }
    let mut archive = Vec::new();
    let written = pack(&mut archive, &files).and_then(|()| std::fs::write(to, archive));
    written.map_err(|error| format!("{}: {error}", to.display()))
}

fn busybox() -> Outcome<Vec<u8>> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let path = found.ok_or("busybox is missing; install it with `tools/setup vm`")?;
    if !libraries(Path::new(path))?.is_empty() {
        return Err(format!("{path} is not the static one; install it with `tools/setup vm`"));
    }
    read(Path::new(path))
}

/// A program without its debugging information, which would fill the machine's memory.
fn stripped(path: &Path) -> Outcome<Vec<u8>> {
    let folder = layerstore_testkit::scratch::scratch_dir().map_err(|error| error.to_string())?;
    let copy = folder.path().join("stripped");
    output(Command::new("strip").arg("-o").arg(&copy).arg(path))?;
    read(&copy)
}

/// The libraries that a program is linked with, the loader among them; none for a static one.
fn libraries(program: &Path) -> Outcome<Vec<String>> {
    let said = Command::new("ldd").arg(program).output().map_err(|error| format!("ldd: {error}"))?;
    // It fails for a static program.
    Ok(paths(&String::from_utf8_lossy(&said.stdout)))
}

/// `NAME => PATH (ADDRESS)` and `PATH (ADDRESS)`.
fn paths(said: &str) -> Vec<String> {
    let path = |line: &str| {
        let word = line.split_once("=> ").map_or(line, |(_, path)| path);
        word.split_whitespace().next().filter(|path| path.starts_with('/')).map(str::to_owned)
    };
    said.lines().filter_map(path).collect()
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Packs files, with the directories that they lie in and a few empty ones.
fn pack(archive: &mut Vec<u8>, files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut directories: Vec<String> =
        ["dev", "mnt", "proc", "run", "sys", "tmp", "etc", "root"].map(str::to_owned).into();
    for name in files.keys() {
        let above = Path::new(name).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
        directories.extend(above.map(|path| path.to_string_lossy().into_owned()));
    }
    // What holds another one is shorter, and so comes first.
    directories.sort();
    directories.dedup();
    for name in &directories {
        entry(archive, name, DIRECTORY, &[])?;
    }
    for (name, data) in files {
        entry(archive, name, FILE, data)?;
    }
    entry(archive, "TRAILER!!!", 0, &[])
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) -> std::io::Result<()> {
    // Inode, mode, owner, group, links, time, size, device of the archive and of the file, length of the name, checksum.
    let number = archive.len() as u32;
    let fields = [number, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    write!(archive, "070701")?;
    for field in fields {
        write!(archive, "{field:08X}")?;
    }
    write!(archive, "{name}\0")?;
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.write_all(data)?;
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(paths(said), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn busybox_unpacks_the_archive() {
        let scratch = tempfile::tempdir().unwrap();
        let mut archive = Vec::new();
        let files = [("a/b/c".to_owned(), b"12345".to_vec()), ("init".to_owned(), Vec::new())].into();
        pack(&mut archive, &files).unwrap();
        std::fs::write(scratch.path().join("archive"), archive).unwrap();
        let script = "busybox cpio -i < archive";
        let done = Command::new("sh").args(["-c", script]).current_dir(scratch.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(std::fs::read(scratch.path().join("a/b/c")).unwrap(), b"12345");
        assert!(scratch.path().join("proc").is_dir() && scratch.path().join("init").is_file());
    }
}
