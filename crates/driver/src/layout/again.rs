//! Making the record of a root again that is missing or cannot be read.
//!
//! The record keeps two drivers from one root, and a program from a layout that it does not know; and it says what was
//! settled when the root was made, without which layers are read wrongly. So it is never made again on the way, by who
//! opens the root: only for a person who wants a repair, in a root that holds layers of this layout and of no other
//! version, and with settings of which the driver is sure.

use std::path::Path;

use layerstore_sys::{self as sys, Dir, lock};

use crate::error::{Kind, Result};

use super::operation::Operation;
use super::record::{self, RECORD, Record};
use super::root::{Format, Layout, RESERVED};
use super::root_record::{self, ROOT_RECORD};
use super::scratch;

impl Layout {
    /// [`DriverFactory::repair_root`](crate::DriverFactory::repair_root); `settings` finds out what was settled when
    /// the root was made, see [`Layout::open`].
    ///
    /// # Errors
    /// `Unsupported` for layers of another version; those of `settings`; `System`.
    pub fn repair_root(
        path: &Path,
        format: Format,
        settings: &dyn Fn() -> Result<Vec<(&'static str, String)>>,
    ) -> Result<Option<String>> {
        let operation = Operation::new(format.driver, "repair root");
        let system = |error| operation.system(error);
        let root = match Dir::open(path) {
            Ok(root) => root,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(system(error)),
        };
        if what_is_wrong(&root, operation)?.is_none() || !is_ours(&root, format, operation)? {
            return Ok(None);
        }
        // It may try what can be done here, which others do under this lock, too.
        let settings = settings()?;
        let _lock =
            lock::Lock::wait(root.open_file(b".").map_err(system)?, lock::Mode::Exclusive).map_err(system)?;
        // Somebody else may have been faster.
        let Some(wrong) = what_is_wrong(&root, operation)? else { return Ok(None) };
        if root.try_stat(ROOT_RECORD.as_bytes()).map_err(system)?.is_some() {
            sys::remove::tree(&root, ROOT_RECORD.as_bytes()).map_err(system)?;
        }
        let said: String = settings.iter().map(|(key, value)| format!(", with {key} = {value}")).collect();
        root_record::write(&root, format, &settings, operation)?;
        Ok(Some(format!("{wrong}; made again as that of a root of {}{said}", format.driver)))
    }
}

/// What is wrong with the record of a root.
fn what_is_wrong(root: &Dir, operation: Operation<'_>) -> Result<Option<String>> {
    match root_record::read(root, operation) {
        Ok(Some(_)) => Ok(None),
        Ok(None) => Ok(Some(format!("the record {} was missing", root.show(ROOT_RECORD.as_bytes())))),
        Err(error) if error.kind() == Kind::Corrupt => Ok(Some(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

/// Whether a directory without a record is a root of this layout: it holds layers, or what a root without layers does.
pub(super) fn is_ours(root: &Dir, format: Format, operation: Operation<'_>) -> Result<bool> {
    let (mut record, mut own, mut layers, mut foreign) = (false, 0, false, false);
    for entry in root.entries().map_err(|error| operation.system(error))? {
        let name = entry.name.as_slice();
        let is = |reserved: &&str| reserved.as_bytes() == name;
        if name == ROOT_RECORD.as_bytes() {
            record = true;
            continue;
        }
        if RESERVED.iter().any(&is) {
            own += 1;
            continue;
        }
        if format.reserved.iter().any(is)
            || name == b"lost+found"
            || name.starts_with(b".driver.json")
            || name.starts_with(scratch::PREFIX.as_bytes())
        {
            continue;
        }
        let read = match root.open_dir(name) {
            Ok(dir) => record::read::<Record>(&dir, RECORD, operation),
            Err(_) => Ok(None),
        };
        match read {
            Ok(Some(record)) if name.ends_with(record.id.as_str().as_bytes()) => layers = true,
            // Whose layout it is nobody here knows.
            Err(error) if error.kind() == Kind::Unsupported => return Err(error),
            _ => foreign = true,
        }
    }
    Ok(layers || !foreign && (record || own + 1 == RESERVED.len()))
}
