//! Images: lists, details and names.

use crate::error::Result;
use crate::model::{HistoryLine, Image, ImageName, ImageSummary, TreeNode};
use crate::store::{Store, unfinished};

impl Store {
    /// Every image, the newest first.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        unfinished()
    }

    /// One image, by name, ID or unique prefix of an ID.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an ambiguous prefix.
    pub fn image(&self, image: &str) -> Result<Image> {
        let _ = image;
        unfinished()
    }

    /// What `inspect` prints of an image or a container, in docker's shape: for an image `Id`, `RepoTags`,
    /// `RootFS.Layers` (diff IDs), `GraphDriver` …; for a container `Id`, `Name`, `Image`, `GraphDriver`,
    /// `Mounts` … A container wins where both fit.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn inspect(&self, name: &str) -> Result<serde_json::Value> {
        let _ = name;
        unfinished()
    }

    /// A line per build step, the newest first.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn history(&self, image: &str) -> Result<Vec<HistoryLine>> {
        let _ = image;
        unfinished()
    }

    /// Layers as a forest, with the images and containers that stand on them: of one image or of the whole
    /// store.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn tree(&self, image: Option<&str>) -> Result<Vec<TreeNode>> {
        let _ = image;
        unfinished()
    }

    /// Gives an image a name; a name that another image has moves to this one.
    ///
    /// # Errors
    /// As [`Store::image`]; [`InvalidInput`](crate::Kind::InvalidInput) for a name that is none.
    pub fn tag(&self, image: &str, name: &str) -> Result<ImageName> {
        let _ = (image, name);
        unfinished()
    }

    /// Takes a name away; the image stays.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) for a name that no image has.
    pub fn untag(&self, name: &str) -> Result<ImageName> {
        let _ = name;
        unfinished()
    }
}
