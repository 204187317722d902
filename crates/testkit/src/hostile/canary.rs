//! What lies outside a store and must never change: a directory that archives aim at, another one whose name only
//! begins like it, and everything in them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The directories, as they were made.
#[derive(Debug)]
pub struct Canary {
    directory: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes `victim` and `victim-sibling` in a directory that is there and empty.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(directory: &Path) -> io::Result<Self> {
        for name in ["victim", "victim-sibling"] {
            let victim = directory.join(name);
            fs::create_dir_all(victim.join("sub/deep"))?;
            fs::write(victim.join("hello"), "untouched\n")?;
            fs::write(victim.join("sub/file"), "untouched as well\n")?;
            fs::write(victim.join("setuid"), "#!\n")?;
            fs::set_permissions(victim.join("setuid"), fs::Permissions::from_mode(0o4755))?;
            symlink("hello", victim.join("link"))?;
            fs::hard_link(victim.join("hello"), victim.join("second"))?;
            fs::set_permissions(&victim, fs::Permissions::from_mode(0o711))?;
        }
        let mut canary = Self { directory: directory.to_owned(), before: BTreeMap::new() };
        canary.before = canary.look()?;
        Ok(canary)
    }

    /// The absolute path that archives aim at.
    pub fn victim(&self) -> Vec<u8> {
        self.directory.join("victim").as_os_str().as_bytes().to_vec()
    }

    /// What is not as it was, a line each: content, every attribute of the inode but its time of access, names
    /// that came or went. (The time of change tells of writes that were undone, too.)
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn changes(&self) -> io::Result<Vec<String>> {
        let now = self.look()?;
        let paths: std::collections::BTreeSet<_> = self.before.keys().chain(now.keys()).collect();
        let nothing = String::from("nothing");
        Ok(paths
            .into_iter()
            .filter_map(|path| {
                let (old, new) =
                    (self.before.get(path).unwrap_or(&nothing), now.get(path).unwrap_or(&nothing));
                (old != new).then(|| format!("{}: was {old}, is {new}", path.display()))
            })
            .collect())
    }

    fn look(&self) -> io::Result<BTreeMap<PathBuf, String>> {
        let mut found = BTreeMap::new();
        let mut pending: Vec<_> = ["victim", "victim-sibling"].map(|name| self.directory.join(name)).into();
        // What lies beside them is somebody else's, but something new that is called like a planted file is not.
        pending.extend(
            fs::read_dir(&self.directory)?
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|path| path.to_string_lossy().contains("planted")),
        );
        while let Some(path) = pending.pop() {
            let stat = fs::symlink_metadata(&path)?;
            let content = if stat.is_file() {
                fs::read(&path)?.escape_ascii().to_string()
            } else if stat.is_symlink() {
                fs::read_link(&path)?.display().to_string()
            } else {
                pending.extend(
                    fs::read_dir(&path)?
                        .map(|entry| entry.map(|entry| entry.path()))
                        .collect::<io::Result<Vec<_>>>()?,
                );
                String::new()
            };
            let attributes = attributes(&path)?;
            let text = format!(
                "inode {} mode {:o} {}:{} links {} size {} mtime {}.{:09} ctime {}.{:09} {attributes:?} {content:?}",
                stat.ino(),
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.nlink(),
                stat.len(),
                stat.mtime(),
                stat.mtime_nsec(),
                stat.ctime(),
                stat.ctime_nsec(),
            );
            found.insert(path, text);
        }
        Ok(found)
    }
}

fn attributes(path: &Path) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
