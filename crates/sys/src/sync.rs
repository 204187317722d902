//! Making one tree durable without making everybody else's data durable too.
//!
//! `syncfs` is one call, but it waits for whatever anybody wrote to the same file system. This syncs file by file
//! instead, several at once, so that their commits share the journal's.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::dir::Dir;
use crate::error::Result;
use crate::file::File;
use crate::stat::FileType;

/// Entries that wait for a thread, each with its directory open.
const BACKLOG: usize = 128;
/// With fewer entries than this, starting threads takes longer than what they would share: the first `fsync` commits
/// what the others wait for.
const FEW: usize = 16;

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
    let mut walk = Walk { pending: vec![(dir.clone(), None)], found: Vec::new() };
    let mut few = Vec::with_capacity(FEW);
    while few.len() < FEW {
        let Some(job) = walk.next()? else { return at_once(few) };
        few.push(job);
    }
    let (sender, receiver) = sync_channel(BACKLOG);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let start =
            || std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, || work(&receiver));
        // Where there are no more threads, fewer do; without any this one does it all.
        let workers: Vec<_> = (0..threads.max(1)).map_while(|_| start().ok()).collect();
        let mut result = if workers.is_empty() { alone(few, walk) } else { hand_out(few, walk, &sender) };
        drop(sender);
        for worker in workers {
            let worked = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(worked);
        }
        result
    })
}

/// Makes a few things durable with as few commits of the journal as the file system allows. The data of all files is
/// on its way before the first `fsync`, because writing it allocates blocks, and that is one more change of each inode:
/// the first commit then takes along what the other files and the directories would each have committed for.
fn at_once(jobs: Vec<Job>) -> Result<()> {
    let mut files = Vec::with_capacity(FEW);
    let mut directories = Vec::with_capacity(FEW);
    for job in jobs {
        match job {
            Job::Names(dir) => directories.push(dir),
            Job::File(dir, name) => {
                if let Some(file) = open(&dir, &name)? {
                    // It only hurries: where it cannot, `fsync` writes.
                    let _ = file.begin_write_back();
                    files.push(file);
                }
            }
        }
    }
    files.iter().try_for_each(File::sync)?;
    directories.iter().try_for_each(Dir::sync)
}

/// Opens a file; none when somebody removed it: then there is nothing to make durable.
fn open(dir: &Dir, name: &[u8]) -> Result<Option<File>> {
    match dir.open_file(name) {
        Err(error) if error.is_not_found() => Ok(None),
        opened => opened.map(Some),
    }
}

/// Gives every job to the threads, which are gone only when this has ended.
fn hand_out(first: Vec<Job>, mut rest: Walk, jobs: &SyncSender<Job>) -> Result<()> {
    for job in first {
        drop(jobs.send(job));
    }
    while let Some(job) = rest.next()? {
        drop(jobs.send(job));
    }
    Ok(())
}

/// Does every job.
fn alone(first: Vec<Job>, mut rest: Walk) -> Result<()> {
    first.into_iter().try_for_each(Job::run)?;
    while let Some(job) = rest.next()? {
        job.run()?;
    }
    Ok(())
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
            Self::File(dir, name) => open(&dir, &name)?.map_or(Ok(()), |file| file.sync()),
        }
    }
}

/// Finds everything below a directory. A directory is open as long as something in it is to be done.
struct Walk {
    /// Directories to look into: the name below an open one, none for the top itself.
    pending: Vec<(Dir, Option<Vec<u8>>)>,
    /// What the last one gave.
    found: Vec<Job>,
}

impl Walk {
    fn next(&mut self) -> Result<Option<Job>> {
        while self.found.is_empty() {
            let Some((above, name)) = self.pending.pop() else { return Ok(None) };
            let dir = match name {
                None => above,
                Some(name) => match above.open_dir(&name) {
                    Err(error) if error.is_not_found() => continue,
                    opened => opened?,
                },
            };
            self.look_into(&dir)?;
            self.found.push(Job::Names(dir));
        }
        Ok(self.found.pop())
    }

    fn look_into(&mut self, dir: &Dir) -> Result<()> {
        for entry in dir.entries()? {
            let kind = match entry.kind {
                FileType::Unknown => match dir.try_stat(&entry.name)? {
                    Some(stat) => stat.kind,
                    None => continue,
                },
                kind => kind,
            };
            match kind {
                FileType::Directory => self.pending.push((dir.clone(), Some(entry.name))),
                FileType::Regular => self.found.push(Job::File(dir.clone(), entry.name)),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Once without threads, once with them.
    #[rstest::rstest]
    #[case::few(1)]
    #[case::many(50)]
    fn a_tree_with_every_kind_of_entry_is_synced(#[case] levels: u8) {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        let mut dir = root.clone();
        for level in 0..levels {
            dir = dir.ensure_dir(&[b'd', b'0' + level % 10], 0o700).unwrap();
            for index in 0..10_u8 {
                dir.create_file(&[b'f', b'a' + index], 0o600).unwrap().write_all_at(b"x", 0).unwrap();
            }
            // Leads nowhere, and would fail if it were followed; a fifo would block.
            dir.make_symlink(b"link", b"/nowhere").unwrap();
            dir.make_node(b"fifo", FileType::Fifo, 0o600, crate::DeviceId { major: 0, minor: 0 }).unwrap();
        }
        let mut walk = Walk { pending: vec![(root.clone(), None)], found: Vec::new() };
        let mut found = 0;
        while walk.next().unwrap().is_some() {
            found += 1;
        }
        assert_eq!(found, 1 + usize::from(levels) * 11, "files and directories");
        assert_eq!(found < FEW, levels == 1);
        tree(&root, 4).unwrap();
    }
}
