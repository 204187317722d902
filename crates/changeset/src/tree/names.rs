//! The names of a directory, a few hundred in memory at a time, for walks that look at each once.

use layerstore_sys::{Dir, DirEntry};

use crate::error::Result;

/// What is left to look at in a directory that nobody changes meanwhile.
#[derive(Debug)]
pub(crate) struct Names {
    batch: Vec<DirEntry>,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    After(u64),
    End,
}

impl Names {
    /// Every name of a directory.
    pub(crate) fn new() -> Self {
        Self { batch: Vec::new(), place: Place::Start }
    }

    /// The next name; none at the end, or when the directory was removed.
    ///
    /// # Errors
    /// System calls.
    pub(crate) fn next(&mut self, dir: &Dir) -> Result<Option<Vec<u8>>> {
        Ok(self.next_entry(dir)?.map(|entry| entry.name))
    }

    /// As [`next`](Self::next), with the type that the file system says.
    ///
    /// # Errors
    /// System calls.
    pub(crate) fn next_entry(&mut self, dir: &Dir) -> Result<Option<DirEntry>> {
        loop {
            if let Some(entry) = self.batch.pop() {
                return Ok(Some(entry));
            }
            let place = match self.place {
                Place::Start => None,
                Place::After(place) => Some(place),
                Place::End => return Ok(None),
            };
            match dir.batch(place) {
                Ok(batch) => {
                    self.place = batch.next.map_or(Place::End, Place::After);
                    self.batch = batch.entries;
                }
                Err(error) if error.is_not_found() => self.place = Place::End,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
