//! `export`: a container's file system as a tar, to standard output or into a file.
//!
//! Invariant: a file has its name when it is complete and durable; what was there before stays until then. A pipe or
//! device is written to as it is.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use layerstore_sys::{self as sys, Dir, File, FileType, Temporary};

use crate::args::Export;
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;

pub(super) fn export(session: &Session, arguments: &Export) -> Result<()> {
    let store = session.store()?;
    let container = &arguments.container;
    let Some(path) = &arguments.output else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("export", "a tar does not go to a terminal: use -o FILE or a pipe"));
        }
        store.export(container, &mut output::stream()?, &session.context)?;
        return Ok(());
    };
    let failed = |error: sys::Error| {
        let kind = if error.is_no_space() { layerstore::Kind::NoSpace } else { layerstore::Kind::System };
        let what = path.display().to_string();
        Failure::Store(layerstore::Error::new(kind, "export", what, error.to_string()))
    };
    // Looked up first: a wrong name makes no file, and opens no pipe that somebody waits at.
    store.container(container).map_err(|error| error.with_operation("export"))?;
    match Target::open(path).map_err(failed)? {
        Target::Stream(mut file) => {
            store.export(container, &mut file, &session.context)?;
            Ok(())
        }
        Target::File { mut file, dir, name } => {
            store.export(container, file.file_mut(), &session.context)?;
            let flushed = file.file_mut().flush();
            flushed
                .map_err(|error| sys::Error::from_io(error, "write", || path.display().to_string()))
                .map_err(failed)?;
            // The name too: what was written out is there after a power cut.
            file.file().sync().and_then(|()| file.persist(&name)).and_then(|()| dir.sync()).map_err(failed)
        }
    }
}

/// Where a tar goes.
enum Target {
    /// Into a file without a name, which gets this one in the end.
    File { file: Temporary, dir: Dir, name: Vec<u8> },
    /// Into a pipe or device.
    Stream(File),
}

impl Target {
    fn open(path: &Path) -> sys::Result<Self> {
        let there = sys::fs::stat(path)?;
        if there.is_some_and(|stat| stat.kind != FileType::Regular) {
            return Ok(Self::Stream(sys::fs::open_for_writing(path)?));
        }
        // A symlink stays one: what it leads to is replaced.
        let path = if there.is_some() { sys::fs::canonical(path)? } else { path.to_owned() };
        let dir = Dir::holding(&path)?;
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        let file = Temporary::new(&dir, 0o666)?;
        if let Some(stat) = there {
            file.file().set_mode(stat.mode & 0o7777)?;
        }
        Ok(Self::File { file, dir, name })
    }
}
