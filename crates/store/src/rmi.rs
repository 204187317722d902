//! Removing images, with docker's rules and messages.

use crate::error::Result;
use crate::model::Removal;
use crate::store::{Store, unfinished};

impl Store {
    /// Removes an image by name or ID, with docker's rules; returns what went, in docker's order.
    ///
    /// # Errors
    /// [`InUse`](crate::Kind::InUse) with docker's words for a conflict;
    /// [`NotFound`](crate::Kind::NotFound) `No such image: …`.
    pub fn remove_image(&self, image: &str, force: bool) -> Result<Vec<Removal>> {
        let _ = (image, force);
        unfinished()
    }
}
