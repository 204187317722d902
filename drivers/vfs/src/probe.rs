//! Whether the driver can run on a root: all it needs is names of two cases and the right to give files to others.

use layerstore_driver::layout::{Operation, Scratch};
use layerstore_driver::{OpenOptions, Probe, Result};

use crate::NAME;

/// Tries it in a scratch directory.
pub(crate) fn probe(open: &OpenOptions) -> Result<Probe> {
    let operation = Operation::new(NAME, "probe");
    let scratch = Scratch::new(&open.root).map_err(|error| operation.system(error))?;
    if scratch.ignores_case().map_err(|error| operation.system(error))? {
        return Ok(Probe::Unusable {
            reason: "the file system takes names that differ in case only for one, so files of layers would be lost"
                .to_owned(),
            hint: Some("use a directory without casefold (chattr -F while it is empty)".to_owned()),
        });
    }
    match scratch.dir().set_owner(b".", 0, 0) {
        Ok(()) => Ok(Probe::Usable),
        Err(error) => Ok(Probe::Unusable {
            reason: format!("files cannot be given to root, so the owners in layers would be lost: {error}"),
            hint: Some("run as root or in a user namespace, on a file system that keeps owners".to_owned()),
        }),
    }
}
