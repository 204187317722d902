//! What a writable layer takes, counted while a changeset was applied to it, so that sealing has nothing to measure.
//!
//! ```text
//! counted.json  {"version":1,"bytes":…,"inodes":…}     in the layer's directory
//! ```
//!
//! Invariant: it is gone before anything is written in another way, and once the layer is sealed.

use layerstore_changeset::tree::{Applied, Usage};
use layerstore_sys as sys;

use super::operation::Operation;
use super::record::{self, VERSION};
use super::root::Layer;
use crate::error::Result;

const COUNTED: &str = "counted.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Counted {
    version: u32,
    bytes: u64,
    inodes: u64,
}

impl Counted {
    fn new(usage: Usage) -> Self {
        Self { version: VERSION, bytes: usage.bytes, inodes: usage.inodes }
    }

    fn usage(&self) -> Usage {
        Usage { bytes: self.bytes, inodes: self.inodes }
    }
}

impl Layer {
    /// Applies a changeset and keeps what was counted meanwhile, so that sealing has nothing to measure. Whoever
    /// calls this calls [`drop_count`](Self::drop_count) before anything is written in any other way.
    ///
    /// # Errors
    /// `System`, and those of `apply`.
    pub fn count_while(
        &self,
        operation: Operation<'_>,
        apply: impl FnOnce() -> Result<Applied>,
    ) -> Result<Applied> {
        let system = |error| operation.system(error);
        self.drop_count().map_err(system)?;
        let applied = apply()?;
        if let Some(usage) = applied.usage {
            record::write(&self.dir, COUNTED, &Counted::new(usage)).map_err(system)?;
        }
        Ok(applied)
    }

    /// Drops what was counted, before a writable mount say. A power cut that brings it back makes a wrong number,
    /// nothing else.
    ///
    /// # Errors
    /// Those of `unlinkat`.
    pub fn drop_count(&self) -> sys::Result<()> {
        match self.dir.unlink(COUNTED.as_bytes()) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// What was counted, if everything was; one that cannot be read counts for nothing.
    pub fn count(&self, operation: Operation<'_>) -> Option<Usage> {
        record::read::<Counted>(&self.dir, COUNTED, operation).ok().flatten().map(|counted| counted.usage())
    }
}
