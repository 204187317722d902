//! Moving bytes from one stream to another, so that it can be stopped and each side is blamed for its own errors.

use std::io::{self, Read, Write};

use layerstore_changeset::Context;

use crate::destination::WRITE;
use crate::document::READ;
use crate::error::{Error, Result};

/// Bytes that are moved at once.
const BUFFER: usize = 256 << 10;

/// Moves a stream to its end.
///
/// # Errors
/// Those of either side, and cancellation.
pub(crate) fn transfer(
    from: &mut dyn Read,
    to: &mut dyn Write,
    subject: &str,
    context: &Context,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        context.check().map_err(|error| Error::changeset(READ, subject, error))?;
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::from_io(READ, subject, error)),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(|error| Error::from_io(WRITE, subject, error))?;
    }
}
