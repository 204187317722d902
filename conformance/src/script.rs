//! Changesets said in a few words: `script().dir("etc").file("etc/hosts", "::1").mode(0o600).remove("old")`.

use std::ops::Range;

use layerstore_changeset::{
    Change, ChangeSink, ChangeSource, Chunk, Device, Entry, FileData, Item, Kind, Metadata, RelPath, Time,
};

/// A changeset in memory, built by chained words. Modifiers (`mode`, `owner` …) act on the last entry.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<Step>,
    /// The first name that is no path: reported when the script is read.
    wrong: Option<String>,
}

/// One change and the data of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The change.
    pub change: Change,
    /// The data, where it puts a file.
    pub data: Vec<u8>,
    /// Parts of the data that are offered as holes; they hold zeros.
    pub holes: Vec<Range<usize>>,
}

/// The time that entries get unless they say otherwise: 2001-09-09T01:46:40.000000001Z, with nanoseconds, so
/// that whoever loses them is found out.
pub const TIME: Time = Time { seconds: 1_000_000_000, nanos: 1 };

/// An empty script.
pub fn script() -> Script {
    Script::default()
}

impl Script {
    fn put(mut self, path: impl AsRef<[u8]>, kind: Kind, mode: u32, data: Vec<u8>) -> Self {
        if let Some(path) = self.path(path.as_ref()) {
            let metadata = Metadata { mode, mtime: TIME, ..Metadata::default() };
            self.steps.push(Step {
                change: Change::Put(Entry { path, kind, metadata }),
                data,
                holes: Vec::new(),
            });
        }
        self
    }

    fn path(&mut self, path: &[u8]) -> Option<RelPath> {
        match RelPath::clean(path) {
            Ok(path) => Some(path),
            Err(error) => {
                self.wrong.get_or_insert_with(|| error.to_string());
                None
            }
        }
    }

    /// A regular file, 0644.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref().to_vec();
        self.put(path, Kind::File { size: data.len() as u64 }, 0o644, data)
    }

    /// A regular file of so many bytes that no compression makes small, the same for the same seed.
    #[must_use]
    pub fn noise(self, path: impl AsRef<[u8]>, size: usize, seed: u64) -> Self {
        self.file(path, layerstore_testkit::noise(seed, size))
    }

    /// A directory, 0755; `.` is the root.
    #[must_use]
    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.put(path, Kind::Directory, 0o755, Vec::new())
    }

    /// A symlink.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.put(path, Kind::Symlink { target: target.as_ref().into() }, 0o777, Vec::new())
    }

    /// Another name for `target`.
    #[must_use]
    pub fn link(mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        match self.path(target.as_ref()) {
            Some(target) => self.put(path, Kind::HardLink { target }, 0, Vec::new()),
            None => self,
        }
    }

    /// A named pipe, 0644.
    #[must_use]
    pub fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.put(path, Kind::Fifo, 0o644, Vec::new())
    }

    /// A socket, 0755.
    #[must_use]
    pub fn socket(self, path: impl AsRef<[u8]>) -> Self {
        self.put(path, Kind::Socket, 0o755, Vec::new())
    }

    /// A character device, 0600.
    #[must_use]
    pub fn char_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.put(path, Kind::CharDevice(Device { major, minor }), 0o600, Vec::new())
    }

    /// A block device, 0600.
    #[must_use]
    pub fn block_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.put(path, Kind::BlockDevice(Device { major, minor }), 0o600, Vec::new())
    }

    /// A whiteout.
    #[must_use]
    pub fn remove(mut self, path: impl AsRef<[u8]>) -> Self {
        if let Some(path) = self.path(path.as_ref()) {
            self.steps.push(Step { change: Change::Remove(path), data: Vec::new(), holes: Vec::new() });
        }
        self
    }

    /// An opaque mark.
    #[must_use]
    pub fn opaque(mut self, path: impl AsRef<[u8]>) -> Self {
        if let Some(path) = self.path(path.as_ref()) {
            self.steps.push(Step { change: Change::Opaque(path), data: Vec::new(), holes: Vec::new() });
        }
        self
    }

    fn last(mut self, edit: impl FnOnce(&mut Metadata)) -> Self {
        match self.steps.last_mut() {
            Some(Step { change: Change::Put(entry), .. }) => edit(&mut entry.metadata),
            _ => self.wrong = Some("a modifier needs an entry before it".to_owned()),
        }
        self
    }

    /// Sets all twelve mode bits of the last entry.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        self.last(|metadata| metadata.mode = mode)
    }

    /// Sets the owner of the last entry.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        self.last(|metadata| (metadata.uid, metadata.gid) = (uid, gid))
    }

    /// Sets the time of the last entry.
    #[must_use]
    pub fn mtime(self, seconds: i64, nanos: u32) -> Self {
        self.last(|metadata| metadata.mtime = Time { seconds, nanos })
    }

    /// Adds an xattr to the last entry.
    #[must_use]
    pub fn xattr(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.last(|metadata| {
            metadata.xattrs.insert(name.as_ref().into(), value.as_ref().into());
        })
    }

    /// Offers a part of the last file's data as a hole, and fills it with zeros.
    #[must_use]
    pub fn hole(mut self, range: Range<usize>) -> Self {
        match self.steps.last_mut() {
            Some(step) if range.end <= step.data.len() => {
                step.data[range.clone()].fill(0);
                step.holes.push(range);
            }
            _ => self.wrong = Some("a hole needs a file that is as large".to_owned()),
        }
        self
    }

    /// Adds the steps of another script.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self.wrong = self.wrong.or(other.wrong);
        self
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The script as a stream.
    pub fn source(&self) -> ScriptSource<'_> {
        ScriptSource { steps: self.steps.iter(), wrong: self.wrong.clone(), data: None }
    }
}

/// A script as a stream of changes.
#[derive(Debug)]
pub struct ScriptSource<'a> {
    steps: std::slice::Iter<'a, Step>,
    wrong: Option<String>,
    data: Option<StepData<'a>>,
}

impl ChangeSource for ScriptSource<'_> {
    fn next(&mut self) -> layerstore_changeset::Result<Option<Item<'_>>> {
        if let Some(wrong) = &self.wrong {
            return Err(layerstore_changeset::Error::stream(
                "read script",
                std::io::Error::other(wrong.clone()),
            ));
        }
        let Some(step) = self.steps.next() else { return Ok(None) };
        let is_file = matches!(&step.change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. }));
        self.data = is_file.then_some(StepData { step, offset: 0 });
        let data = self.data.as_mut().map(|data| data as &mut dyn FileData);
        Ok(Some(Item { change: step.change.clone(), data, offset: None }))
    }
}

#[derive(Debug)]
struct StepData<'a> {
    step: &'a Step,
    offset: usize,
}

impl FileData for StepData<'_> {
    fn next_chunk(&mut self) -> layerstore_changeset::Result<Option<Chunk<'_>>> {
        const CHUNK: usize = 1 << 20;
        let (start, length) = (self.offset, self.step.data.len());
        if start >= length {
            return Ok(None);
        }
        if let Some(hole) = self.step.holes.iter().find(|hole| hole.contains(&start)) {
            self.offset = hole.end;
            return Ok(Some(Chunk::Hole((hole.end - start) as u64)));
        }
        let next_hole = self.step.holes.iter().map(|hole| hole.start).filter(|&at| at > start).min();
        self.offset = next_hole.unwrap_or(length).min(start + CHUNK);
        Ok(self.step.data.get(start..self.offset).map(Chunk::Data))
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// A sink that keeps everything: the script that a diff is.
impl ChangeSink for Script {
    fn put(&mut self, change: Change, data: Option<&mut dyn FileData>) -> layerstore_changeset::Result<()> {
        let mut step = Step { change, data: Vec::new(), holes: Vec::new() };
        if let Some(data) = data {
            while let Some(chunk) = data.next_chunk()? {
                match chunk {
                    Chunk::Data(bytes) => step.data.extend_from_slice(bytes),
                    Chunk::Hole(length) => {
                        let start = step.data.len();
                        let end = start + usize::try_from(length).unwrap_or(0);
                        step.data.resize(end, 0);
                        step.holes.push(start..end);
                    }
                }
            }
        }
        self.steps.push(step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_back_as_it_was_said() {
        let said = script()
            .dir("a")
            .file("a/b", [7; 10])
            .hole(2..4)
            .mode(0o600)
            .xattr("user.x", "1")
            .link("a/c", "a/b")
            .remove("old");
        let mut read = script();
        layerstore_changeset::stream::copy(&mut said.source(), &mut read).unwrap();
        assert_eq!(read.steps(), said.steps());
    }

    #[test]
    fn a_name_that_is_no_path_ends_the_stream() {
        assert!(script().file("../up", "").source().next().is_err());
        assert!(script().mode(0o600).source().next().is_err());
    }
}
