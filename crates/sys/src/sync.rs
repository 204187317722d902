//! Making one tree durable without making everybody else's data durable too.
//!
//! `syncfs` is one call, but it waits for whatever anybody wrote to the same file system. This syncs file by file
//! instead, several at once, so that their commits share the journal's.

use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::dir::Dir;
use crate::error::{Result, call};
use crate::stat::FileType;

/// Entries that wait for a thread, each with its directory open.
const BACKLOG: usize = 128;

/// What a thread makes durable.
enum Job {
    File(Dir, Vec<u8>),
    Names(Dir),
}

/// Makes every regular file and every directory below `dir`, and `dir` itself, durable, with so many threads.
/// Symlinks and special files are durable with the directory that names them. Nothing is followed.
///
/// # Errors
/// The first one of `openat`, `getdents64` or `fsync`; what was written may be lost then, so do not try again.
pub fn tree(dir: &Dir, threads: usize) -> Result<()> {
    let (sender, receiver) = sync_channel(BACKLOG);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| work(&receiver))).collect();
        let walked = walk(dir.clone(), &sender);
        drop(sender);
        let mut result = walked;
        for worker in workers {
            let worked = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(worked);
        }
        result
    })
}

/// Does what comes until nothing comes any more; after an error it only empties the queue, so that the walk ends.
fn work(receiver: &Mutex<Receiver<Job>>) -> Result<()> {
    let mut result = Ok(());
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return result };
        if result.is_ok() {
            result = job.run();
        }
    }
}

impl Job {
    fn run(self) -> Result<()> {
        match self {
            Self::Names(dir) => dir.sync(),
            Self::File(dir, name) => match dir.open_file(&name) {
                // Somebody removed it: there is nothing to make durable.
                Err(error) if error.is_not_found() => Ok(()),
                Err(error) => Err(error),
                Ok(file) => call("fsync", || dir.show(&name), || rustix::fs::fsync(file.as_fd())),
            },
        }
    }
}

/// Hands out everything below `top`. A directory is open as long as something in it is to be done.
fn walk(top: Dir, jobs: &SyncSender<Job>) -> Result<()> {
    let mut pending = vec![(top, None::<Vec<u8>>)];
    while let Some((above, name)) = pending.pop() {
        let dir = match name {
            None => above,
            Some(name) => match above.open_dir(&name) {
                Err(error) if error.is_not_found() => continue,
                opened => opened?,
            },
        };
        for entry in dir.entries()? {
            let kind = match entry.kind {
                FileType::Unknown => match dir.try_stat(&entry.name)? {
                    Some(stat) => stat.kind,
                    None => continue,
                },
                kind => kind,
            };
            match kind {
                FileType::Directory => pending.push((dir.clone(), Some(entry.name))),
                // The threads are gone only when this function has ended.
                FileType::Regular => drop(jobs.send(Job::File(dir.clone(), entry.name))),
                _ => {}
            }
        }
        drop(jobs.send(Job::Names(dir)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_every_kind_of_entry_is_synced() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        let mut dir = root.clone();
        for level in 0..50_u8 {
            dir = dir.ensure_dir(&[b'd', b'0' + level % 10], 0o700).unwrap();
            for index in 0..20_u8 {
                dir.create_file(&[b'f', b'a' + index], 0o600).unwrap().write_all_at(b"x", 0).unwrap();
            }
            // Leads nowhere, and would fail if it were followed; a fifo would block.
            dir.make_symlink(b"link", b"/nowhere").unwrap();
            dir.make_node(b"fifo", FileType::Fifo, 0o600, crate::DeviceId { major: 0, minor: 0 }).unwrap();
        }
        tree(&root, 4).unwrap();
    }
}
