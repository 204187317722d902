//! Making an image of a container.

use layerstore_changeset::{Context, Digest};

use crate::error::Result;
use crate::model::CommitOptions;
use crate::store::{Store, unfinished};

impl Store {
    /// Makes a new image of what a container changed, and returns its ID; the container goes on as it is.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an instruction or a
    /// name; those of diff and apply.
    pub fn commit(&self, container: &str, options: &CommitOptions, context: &Context) -> Result<Digest> {
        let _ = (container, options, context);
        unfinished()
    }
}
