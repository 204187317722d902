//! Comparing records with what lies on disk.

use layerstore_changeset::Context;

use crate::error::Result;
use crate::model::{Check, CheckOptions};
use crate::store::{Store, unfinished};

impl Store {
    /// Compares records with what lies on disk and, unless `quick`, puts the tar of every layer together again
    /// and compares its digest with the diff ID.
    ///
    /// # Errors
    /// Only what keeps it from checking; what it finds is in the report.
    pub fn check(&self, options: CheckOptions, context: &Context) -> Result<Check> {
        let _ = (options, context);
        unfinished()
    }
}
