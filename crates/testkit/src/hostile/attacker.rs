//! Somebody who swaps a layer's directories for symbolic links to the victim while the layer is written.
//!
//! ```text
//! renameat2(…/race3, aside/link, RENAME_EXCHANGE)     the driver's next look at race3 finds a link to the victim
//! … a moment …
//! renameat2(…/race3, aside/link, RENAME_EXCHANGE)     and the next one the directory again
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::raw::{Raw, archive, dir, file, hard, pax, symlink as link};

/// What every directory that is swapped is called like.
const MARK: &str = "race";

/// A thread that swaps until it is stopped.
#[derive(Debug)]
pub struct Attacker {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Attacker {
    /// Begins to swap directories below `root` for links to `victim`; `aside` is an empty directory on the same
    /// file system.
    pub fn start(root: &Path, aside: &Path, victim: &Path) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (root, aside, victim) = (root.to_owned(), aside.to_owned(), victim.to_owned());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            let mut number = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                for place in find(&root) {
                    number += 1;
                    let link = aside.join(number.to_string());
                    if symlink(&victim, &link).is_err() {
                        continue;
                    }
                    let swap = || renameat_with(CWD, &link, CWD, &place, RenameFlags::EXCHANGE).is_ok();
                    if swap() {
                        counted.fetch_add(1, Ordering::Relaxed);
                        for _ in 0..number % 7 {
                            std::thread::yield_now();
                        }
                        // It may be gone by now, as a link: then the directory stays aside.
                        swap();
                    }
                }
            }
        });
        Self { stop, swaps, thread: Some(thread) }
    }

    /// How often a directory was swapped so far.
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the attacker is no failure of the attacked.
            let _ = thread.join();
        }
    }
}

/// Directories of the attacked layer, wherever the driver keeps them.
fn find(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(MARK) {
                    found.push(entry.path());
                }
                pending.push(entry.path());
            }
        }
    }
    found
}

/// A layer that would change everything that the victim holds, were it written there: files, modes, owners, times,
/// attributes, links, whiteouts.
pub fn layer() -> Vec<u8> {
    let mut entries: Vec<Raw> = Vec::new();
    for n in 0..40 {
        let at = |name: &str| format!("{MARK}{}/{MARK}{n}/{name}", n % 4);
        entries.push(dir(at("")).mode(0o777).mtime(7));
        entries.push(file(at("hello"), "overwritten").mode(0o666).owner(1, 1));
        entries.push(file(at("setuid"), "overwritten"));
        entries.push(dir(at("sub")).mode(0o770).owner(2, 2).mtime(8));
        entries.push(file(at("sub/file"), "overwritten"));
        entries.push(file(at(".wh.second"), ""));
        entries.push(file(at("sub/.wh..wh..opq"), ""));
        entries.push(pax(&[("SCHILY.xattr.user.planted", "yes")]));
        entries.push(file(at("planted"), "x"));
        entries.push(hard(at("another"), at("planted")));
        entries.push(link(at("link"), "planted"));
        entries.push(dir(at("link")));
        entries.push(file(at("hello"), "again"));
        entries.push(dir(at("sub/deep")).mode(0o700));
        entries.push(file(at("sub/deep"), "a file in place of a directory"));
    }
    archive(&entries)
}
