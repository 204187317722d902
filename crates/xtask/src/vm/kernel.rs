//! The kernel to boot: Debian's for clouds, downloaded by apt and unpacked without installing it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Outcome, output};

/// The package that depends on the newest kernel of this Debian.
const NEWEST: &str = "linux-image-cloud-amd64";

/// Modules that the machine needs, without those that they need.
const MODULES: [&str; 7] = ["virtio_pci", "virtio_blk", "xfs", "quota_v2", "overlay", "loop", "virtio-rng"];

/// What was found in a package.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// Name and file of each module, in the order in which they are loaded.
    pub(super) modules: Vec<(String, PathBuf)>,
}

/// Unpacks a package, which is downloaded if none is given.
pub(super) fn get(cache: &Path, package: Option<&Path>) -> Outcome<Kernel> {
    let package = match package {
        Some(package) => package.to_owned(),
        None => download(cache)?,
    };
    let name = package.file_stem().ok_or("the package has no name")?;
    let unpacked = cache.join(name);
    if !unpacked.is_dir() {
        // Under another name until it is whole.
        let half = cache.join("unpacking");
        let _ = std::fs::remove_dir_all(&half);
        make_dir(&half)?;
        output(Command::new("dpkg").arg("-x").arg(&package).arg(&half))?;
        std::fs::rename(&half, &unpacked).map_err(|error| format!("{}: {error}", unpacked.display()))?;
    }
    // Debian 13 and later have everything below `usr`.
    let base = ["", "usr"].map(|folder| unpacked.join(folder));
    let base = base.iter().find(|base| base.join("lib/modules").is_dir()).unwrap_or(&unpacked);
    let release = only(&base.join("lib/modules"))?;
    output(Command::new("depmod").arg("-b").arg(base).arg(&release))?;
    let folder = base.join("lib/modules").join(&release);
    let list = folder.join("modules.dep");
    let list = std::fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    Ok(Kernel {
        image: unpacked.join("boot").join(format!("vmlinuz-{release}")),
        modules: closure(&list, &MODULES)
            .into_iter()
            .map(|path| (path.rsplit('/').next().unwrap_or(path).to_owned(), folder.join(path)))
            .collect(),
    })
}

fn download(cache: &Path) -> Outcome<PathBuf> {
    let hint = |error| format!("{error}; is this Debian, and was `apt-get update` run?");
    let said = output(Command::new("apt-cache").args(["depends", NEWEST])).map_err(hint)?;
    let package = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or_else(|| hint(format!("apt knows no {NEWEST}")))?;
    let debs = cache.join("debs").join(package);
    if let Ok(found) = only(&debs) {
        return Ok(debs.join(found));
    }
    let _ = std::fs::remove_dir_all(&debs);
    let half = cache.join("downloading");
    let _ = std::fs::remove_dir_all(&half);
    make_dir(&half)?;
    output(Command::new("apt-get").args(["download", package]).current_dir(&half)).map_err(hint)?;
    make_dir(&cache.join("debs"))?;
    std::fs::rename(&half, &debs).map_err(|error| format!("{}: {error}", debs.display()))?;
    Ok(debs.join(only(&debs)?))
}

fn make_dir(path: &Path) -> Outcome<()> {
    std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The name of the one entry of a directory.
fn only(path: &Path) -> Outcome<String> {
    let entries = std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(format!("{} has {} entries, and one is expected", path.display(), names.len())),
    }
}

/// Modules with those that they need, those first: lines of `modules.dep` are `PATH: PATH…`, and the last of these
/// is needed by the others. A module that is built in is in no line.
fn closure<'a>(list: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for name in wanted {
        let is_it =
            |path: &str| path.rsplit('/').next().is_some_and(|file| file.split('.').next() == Some(name));
        let line = list.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| is_it(path));
        let Some((path, needs)) = line else { continue };
        let needs: Vec<_> = needs.split_whitespace().collect();
        for path in needs.into_iter().rev().chain([path]) {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let list = "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/d.ko.xz: k/c.ko\n";
        assert_eq!(closure(list, &["a", "d", "built-in"]), ["k/c.ko", "k/b.ko", "k/a.ko", "k/d.ko.xz"]);
    }
}
