//! A look at the whole book, for whoever asks about many layers: those without a use cost nothing then.

use std::collections::HashSet;

use layerstore_sys::mountinfo::Finder;

use super::{Leases, Use};
use crate::error::{Error, Result};
use crate::id::LayerId;

impl Leases {
    /// Looks at the whole book once.
    ///
    /// # Errors
    /// `System`.
    pub fn overview(&self) -> Result<Overview<'_>> {
        let entries = self.uses.entries().map_err(|error| Error::system("read leases", error))?;
        let used = entries.into_iter().map(|entry| entry.name).collect();
        Ok(Overview { leases: self, used, finder: Finder::default() })
    }
}

/// The uses of many layers, of one moment or later.
#[derive(Debug)]
pub struct Overview<'a> {
    leases: &'a Leases,
    /// Names of the layers that had a use.
    used: HashSet<Vec<u8>>,
    finder: Finder,
}

impl Overview<'_> {
    /// Who uses a layer; as [`Leases::uses`], but for uses that began after the overview was made.
    ///
    /// # Errors
    /// As [`Leases::uses`].
    pub fn uses(&self, id: &LayerId) -> Result<Vec<Use>> {
        if self.used.contains(id.as_str().as_bytes()) {
            self.leases.uses_with(id, &self.finder)
        } else {
            Ok(Vec::new())
        }
    }
}
