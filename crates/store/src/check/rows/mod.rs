//! Rows that can be read and are wrong: somebody changed them, and the record beside the data knows better.
//!
//! The database decides, and records may be behind it. So only what never changes once it is there is compared, and a
//! record counts only where it agrees with itself and with something else: the driver, which knows parents and what is
//! sealed, the chain IDs, and the configurations of images, which are what their digests say.

use std::collections::HashSet;
use std::time::Duration;

use super::Checker;
use crate::db::layers::LayerRow;
use crate::error::Result;
use crate::model::LayerState;

mod containers;
mod images;
mod layers;

/// How long something suspicious is left alone before it is looked at again.
const PAUSE: Duration = Duration::from_millis(50);
const KIND: &str = "row-wrong";

/// A row that is not what its record says.
struct Differs<T> {
    columns: Vec<&'static str>,
    /// What it should be; none where the record is in doubt, with why.
    right: Result<T, String>,
}

impl<T> Differs<T> {
    /// None where no column differs; `right` is asked for where one does.
    fn of<const N: usize>(
        all: [(&'static str, bool); N],
        right: impl FnOnce() -> Result<T, String>,
    ) -> Option<Self> {
        let columns: Vec<_> = all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        (!columns.is_empty()).then(|| Self { columns, right: right() })
    }

    /// Looks again at what differs: who changes something writes its record right after the row.
    fn twice(look: impl Fn() -> crate::error::Result<Option<Self>>) -> crate::error::Result<Option<Self>> {
        if look()?.is_none() {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
        look()
    }

    fn message(&self, repair: bool) -> String {
        let columns = self.columns.join(", ");
        let how = match &self.right {
            Ok(_) if repair => "taken from the record".to_owned(),
            Ok(_) => "`check --repair` takes it from the record".to_owned(),
            Err(why) => format!("nothing is taken from it, because {why}"),
        };
        format!("its row and the record beside the data differ in {columns}; {how}")
    }
}

impl Checker<'_> {
    /// Compares all rows.
    pub(super) fn rows(&mut self) -> Result<()> {
        self.layer_rows()?;
        self.container_rows()?;
        self.image_rows()
    }

    /// Notes that these rows were taken from their records.
    fn taken(&mut self, names: &[String]) {
        let names: HashSet<&String> = names.iter().collect();
        for finding in &mut self.report.findings {
            finding.repaired |= finding.kind == KIND && names.contains(&finding.name);
        }
    }
}

fn is_complete(row: &LayerRow) -> bool {
    matches!(row.layer.state, LayerState::Ready | LayerState::Damaged)
}
