//! Freeing what nothing refers to.

use crate::error::Result;
use crate::model::Gc;
use crate::store::{Store, unfinished};

impl Store {
    /// Frees what nothing refers to: layers without image, container or child, leftovers of crashed processes,
    /// records and files without a row, trash. With `dry_run` it only tells. What living processes work on is
    /// left alone.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn gc(&self, dry_run: bool) -> Result<Gc> {
        let _ = dry_run;
        unfinished()
    }
}
