//! What recovery adds for this driver: short names that lead nowhere, and files that a power cut tore.

use std::collections::HashMap;

use layerstore_driver::layout::{Hooks, Layer, Layers, Operation};
use layerstore_driver::{LayerState, Outcome, Recovered, Result};
use layerstore_sys::{self as sys, Dir};

use crate::layout::{self, LINK, LINKS, LOWER, join};

/// The driver's hooks.
pub(crate) struct Repair<'a> {
    pub(crate) layers: &'a Layers,
}

impl Repair<'_> {
    fn operation(&self) -> Operation<'static> {
        self.layers.operation("recover")
    }

    /// Makes a file again whose text is not what the records say.
    fn restore(&self, layer: &Layer, name: &str, text: &str) -> sys::Result<bool> {
        let limit = text.len();
        let found = layer.dir.open_file(name.as_bytes()).and_then(|mut file| file.read_to_end_limited(limit));
        if found.is_ok_and(|found| found == text.as_bytes()) {
            return Ok(false);
        }
        let temporary = format!(".{name}.tmp");
        match layer.dir.unlink(temporary.as_bytes()) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        layout::write(&layer.dir, &temporary, text)?;
        match layer.dir.rename(temporary.as_bytes(), &layer.dir, name.as_bytes()) {
            // A directory in its place.
            Err(error) if error.errno() == sys::Errno::ISDIR => {
                sys::remove::tree(&layer.dir, name.as_bytes())?;
                layer.dir.rename(temporary.as_bytes(), &layer.dir, name.as_bytes())?;
            }
            renamed => renamed?,
        }
        Ok(true)
    }

    /// Whether the file that lists the ancestors can be read, begins with the parent and goes on as the parent's.
    fn lower_is_good(&self, layer: &Layer, parent: &Layer) -> bool {
        let Ok(lower) = layout::lower(layer, self.operation()) else { return false };
        let Some((first, rest)) = lower.split_first() else { return false };
        // A parent whose file is damaged is told of by itself.
        let above = layout::lower(parent, self.operation());
        *first == parent.record.token && above.is_ok_and(|above| above == rest)
    }
}

impl Hooks for Repair<'_> {
    fn forget(&self, dir: &Dir) -> sys::Result<()> {
        layout::drop_link(self.layers.layout(), dir)
    }

    fn repair(&self, layer: &Layer) -> Result<Vec<String>> {
        let (kit, id) = (self.layers.layout(), &layer.record.id);
        let operation = self.operation().on(id);
        let system = |error| operation.system(error);
        let mut found = Vec::new();
        let token = &layer.record.token;
        if self.restore(layer, LINK, token).map_err(system)? {
            found.push("made the file with its short name again".to_owned());
        }
        let links = layout::links(kit).map_err(system)?;
        let target = layout::link_target(&kit.name_of(id));
        let right = match links.read_link(token.as_bytes()) {
            Ok(text) => text == target,
            // `EINVAL`: it is no symlink.
            Err(error) if error.is_not_found() || error.errno() == sys::Errno::INVAL => false,
            Err(error) => return Err(system(error)),
        };
        if !right {
            sys::remove::tree(&links, token.as_bytes()).map_err(system)?;
            links.make_symlink(token.as_bytes(), &target).map_err(system)?;
            found.push("made its short name again".to_owned());
        }
        if layer.record.parent.is_some()
            && layer.state() == LayerState::Writable
            && layout::ensure_work(&layer.dir).map_err(system)?
        {
            found.push("made the kernel's work directory again".to_owned());
        }
        if let Some(parent) = &layer.record.parent
            && let Ok(parent) = kit.load(parent, operation)
            && !self.lower_is_good(layer, &parent)
            && let Ok(chain) = kit.chain(id, operation)
        {
            let lower: Vec<_> = chain.into_iter().skip(1).map(|record| record.token).collect();
            if self.restore(layer, LOWER, &join(&lower)).map_err(system)? {
                found.push("made the list of its ancestors again".to_owned());
            }
        }
        Ok(found)
    }

    fn token(&self, name: &str) -> sys::Result<Option<String>> {
        let (links, target) = (layout::links(self.layers.layout())?, layout::link_target(name));
        for entry in links.entries()? {
            if links.read_link(&entry.name).is_ok_and(|text| text == target) {
                return Ok(String::from_utf8(entry.name).ok());
            }
        }
        Ok(None)
    }

    fn sweep(&self) -> Result<Vec<Recovered>> {
        let operation = self.operation();
        let system = |error| operation.system(error);
        let kit = self.layers.layout();
        let links = layout::links(kit).map_err(system)?;
        let settled = layout::drop_dangling(kit, &links).map_err(system)?;
        let mut report: Vec<_> = settled.dropped.iter().map(|name| dropped_name(name)).collect();
        let mut names = HashMap::<_, Vec<Vec<u8>>>::new();
        for name in settled.kept {
            if let Ok(target) = links.read_link(&name) {
                names.entry(target).or_default().push(name);
            }
        }
        names.retain(|_, names| names.len() > 1);
        // A power cut took the file with the short name of one that was to take the place of another.
        for id in if names.is_empty() { Vec::new() } else { kit.ids(operation)? } {
            let Some(names) = names.get(&layout::link_target(&kit.name_of(&id))) else { continue };
            let Ok(layer) = kit.load(&id, operation) else { continue };
            let (own, others): (Vec<_>, Vec<_>) =
                names.iter().partition(|name| **name == layer.record.token.as_bytes());
            // Without its own it was exchanged just now.
            for name in others.into_iter().filter(|_| !own.is_empty()) {
                sys::remove::tree(&links, name).map_err(system)?;
                report.push(dropped_name(name));
            }
        }
        Ok(report)
    }
}

fn dropped_name(name: &[u8]) -> Recovered {
    let what = format!("dropped the short name {LINKS}/{} of no layer", name.escape_ascii());
    Recovered { id: None, what, outcome: Outcome::Tidied }
}
