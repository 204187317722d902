//! Whether a layer is what its tar says: the digest of the tar that is put together again, and, in the same pass, each
//! of its entries beside the view.
//!
//! The digest alone says nothing of what the record holds by itself: of types, owners, modes, times, links, attributes,
//! of what was removed, and where only the blob gives the tar back, of any file. Only what leaves no doubt counts: not
//! what another entry of the tar took the place of, and not the attributes that a file system may refuse. What the layer
//! shows and no entry of its tar tells of is [`beyond`]'s.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, BufWriter, Read as _, Write};

use layerstore_changeset::digest::Hashing;
use layerstore_changeset::{
    Change, ChangeSource, Context, Entry, FileData, Kind as EntryKind, Limits, RelPath, tar,
};
use layerstore_driver::LayerId;
use layerstore_driver::mount::DetachedMount;
use layerstore_sys::{Dir, FileType};

use crate::db::layers::{Kept, LayerRow};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::export::damaged;
use crate::store::Store;
use crate::way::Way;

use beyond::{Beyond, Described};
use entry::{differs, same_data};
use place::{Found, Step};
use skipped::Skipped;

mod beyond;
mod entry;
mod place;
mod skipped;

/// What travels from the tar to the comparison at once, in bytes.
const BUFFER: usize = 256 << 10;
/// How many entries that differ are remembered.
const MOST: usize = 1000;
/// How many symlinks are followed on the way to an entry, as the kernel does.
const MOST_LINKS: usize = 40;

/// Entries that differ, by their places: how, and what the tar calls them.
type Differing = BTreeMap<RelPath, (Fault, RelPath)>;

impl Store {
    /// Compares a layer with the tar that it came in. What it shows beside that is returned: it is said in comparison
    /// with the parent, and no damage of the layer if the parent is damaged.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Kind::Corrupt) when it differs.
    pub(crate) fn verify_layer(
        &self,
        operation: &'static str,
        layer: &LayerRow,
        context: &Context,
    ) -> Result<Option<String>> {
        let view = View::open(self, operation, &layer.layer.id, layer.kept == Some(Kept::Blob))?;
        let compared = self.with_tar(operation, layer, context, |changes| view.compare(changes, context))?;
        let Some((mut differing, described)) = compared else { return Ok(None) };
        if !differing.is_empty() {
            // Entries take each other's place, which the first look did not see.
            let sifted =
                self.with_tar(operation, layer, context, |changes| view.sift(changes, differing, context))?;
            differing = sifted.unwrap_or_default();
        }
        if let Some((path, (how, _))) = differing.first_key_value() {
            return Err(damaged(operation, layer, &first_of(path, how, differing.len())));
        }
        let beyond: Beyond = self.beyond(operation, layer, (&view, described), context)?;
        Ok(beyond.first_key_value().map(|(path, how)| first_of(path, how, beyond.len())))
    }

    /// Writes a layer's tar and compares its digest.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Kind::Corrupt) when it is another one.
    pub(crate) fn write_verified(
        &self,
        operation: &'static str,
        layer: &LayerRow,
        out: &mut dyn Write,
        context: &Context,
    ) -> Result<()> {
        let mut out = Hashing::new(out);
        self.write_layer(operation, layer, &mut out, context)?;
        let (_, found, _) = out.finish();
        if Some(found) == layer.layer.diff_id {
            return Ok(());
        }
        Err(damaged(operation, layer, &format!("its tar has the diff ID {found}")))
    }

    /// Puts a layer's tar together, compares its digest, and shows its changes to somebody meanwhile. None where nobody
    /// could look.
    fn with_tar<T: Send>(
        &self,
        operation: &'static str,
        layer: &LayerRow,
        context: &Context,
        look: impl FnOnce(&mut dyn ChangeSource) -> layerstore_changeset::Result<T> + Send,
    ) -> Result<Option<T>> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::System, operation, layer.layer.id.as_str(), error.to_string()).with_source(error)
        };
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("compare".to_owned());
            let looking = thread.spawn_scoped(scope, move || {
                let mut reader = BufReader::with_capacity(BUFFER, reader);
                let looked = look(&mut tar::Reader::new(reader.by_ref(), Limits::default()));
                // Who writes goes on to the end, whatever was found.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                looked
            });
            let Ok(looking) = looking else {
                tracing::warn!(
                    layer = %layer.layer.id,
                    "only the digest of the layer's tar is compared: there is no thread for more"
                );
                self.write_verified(operation, layer, &mut std::io::sink(), context)?;
                return Ok(None);
            };
            let mut writer = BufWriter::with_capacity(BUFFER, writer);
            let written = self
                .write_verified(operation, layer, &mut writer, context)
                .and_then(|()| writer.flush().map_err(failed));
            drop(writer);
            let looked = looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A tar that is another one says nothing of the entries.
            written.and_then(|()| looked.map(Some).explain(operation, &layer.layer.id))
        })
    }
}

fn is_device(change: &Change) -> bool {
    matches!(change, Change::Put(Entry { kind: EntryKind::CharDevice(_) | EntryKind::BlockDevice(_), .. }))
}

/// What is wrong, for a person: the first entry, and how many there are.
fn first_of(path: &RelPath, how: &Fault, all: usize) -> String {
    let others = match all - 1 {
        0 => String::new(),
        1 => ", and another entry differs".to_owned(),
        more => format!(", and {more} other entries differ"),
    };
    format!("{path} {how}{others}")
}

/// How an entry differs from what the tar says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// In itself.
    Differs(String),
    /// It was removed, and is there.
    IsThere,
    /// It is another file than the one that it is a name of.
    IsNot(RelPath),
    /// It is new, and nothing says so.
    Added,
    /// It is not what it was in the layer below, and nothing says so.
    Changed,
    /// It was in the layer below, and nothing removes it.
    Gone,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Differs(how) => f.write_str(how),
            Self::IsThere => f.write_str("was removed by the layer and is there"),
            Self::IsNot(target) => write!(f, "is not the same file as {target} any more"),
            Self::Added => f.write_str("is there, and the layer came without it"),
            Self::Changed => {
                f.write_str("is not what the layer below has there, and the layer came without it")
            }
            Self::Gone => f.write_str("is hidden, and the layer came with nothing that hides it"),
        }
    }
}

/// The view of a layer, in which nothing is followed.
struct View {
    root: Dir,
    /// Where entries lie whose names lead through symlinks; of some there are several.
    moved: Vec<(RelPath, RelPath)>,
    places: HashMap<RelPath, RelPath>,
    /// Whether the files are to be read, because the tar is not made from them.
    data: bool,
    _mount: DetachedMount,
}

impl View {
    fn open(store: &Store, operation: &'static str, id: &LayerId, data: bool) -> Result<Self> {
        let (root, mount) = store.open_view(operation, id)?;
        let moved = store.read_moved(id)?;
        let places = moved.iter().cloned().collect();
        Ok(Self { root, moved, places, data, _mount: mount })
    }

    /// The entries that differ, as the last one of each place says, and what the tar tells of.
    fn compare(
        &self,
        changes: &mut dyn ChangeSource,
        context: &Context,
    ) -> layerstore_changeset::Result<(Differing, Described)> {
        let mut differing = Differing::new();
        let mut described = Described::default();
        self.moved.iter().for_each(|(_, place)| described.put(place));
        let mut way = Way::new(self.root.clone());
        let mut skipped = Skipped::default();
        while let Some(item) = changes.next()? {
            context.check()?;
            if skipped.is(&item.change) {
                continue;
            }
            if matches!(item.change, Change::Opaque(_)) {
                let place = self.place(&item.change, &mut way)?;
                self.describe(&item.change, place.as_ref(), &mut described);
                continue;
            }
            let path = item.change.path();
            let found = self.find(path, &mut way)?;
            let there = found.as_ref().and_then(|(_, found)| found.as_ref());
            if is_device(&item.change)
                && !there.is_some_and(|found| {
                    matches!(found.stat.kind, FileType::CharDevice | FileType::BlockDevice)
                })
            {
                // Where it was unpacked there may be no devices, as in a user namespace. Then what the layer below has
                // there has to show, as everywhere where the tar tells of nothing.
                skipped.add(path);
                continue;
            }
            self.describe(&item.change, found.as_ref().map(|(place, _)| place), &mut described);
            let Some((place, found)) = found else { continue };
            let fault = match (&item.change, found) {
                (Change::Put(entry), Some(found)) => self.fault(entry, item.data, &found)?,
                (Change::Put(_), None) => Some(Fault::Differs("is missing".to_owned())),
                (_, found) => found.map(|_| Fault::IsThere),
            };
            match fault {
                None => drop(differing.remove(&place)),
                Some(fault) if differing.len() < MOST => {
                    differing.insert(place, (fault, path.clone()));
                }
                Some(_) => {}
            }
        }
        Ok((differing, described))
    }

    /// Leaves out what says nothing, because another entry of the same tar takes its place.
    fn sift(
        &self,
        changes: &mut dyn ChangeSource,
        mut differing: Differing,
        context: &Context,
    ) -> layerstore_changeset::Result<Differing> {
        let mut puts: BTreeMap<RelPath, u64> = BTreeMap::new();
        for (fault, _) in differing.values() {
            if let Fault::IsNot(target) = fault {
                puts.insert(target.clone(), 0);
            }
        }
        let mut way = Way::new(self.root.clone());
        let mut skipped = Skipped::default();
        while let Some(item) = changes.next()? {
            context.check()?;
            if skipped.is(&item.change) {
                continue;
            }
            let (put, directory) = match &item.change {
                Change::Put(entry) => (true, entry.kind == EntryKind::Directory),
                Change::Remove(_) => (false, false),
                Change::Opaque(_) => continue,
            };
            let path = item.change.path();
            let place = self.find(path, &mut way)?.map_or_else(|| path.clone(), |(place, _)| place);
            differing.retain(|at, (fault, called)| {
                let below = |one: &RelPath, other: &RelPath| one != other && one.starts_with(other);
                let hides = !directory && (below(at, &place) || below(called, path));
                let refills = put && *fault == Fault::IsThere && place.starts_with(at);
                let cuts = !directory && matches!(fault, Fault::IsNot(target) if below(target, &place));
                !hides && !refills && !cuts
            });
            if put && let Some(count) = puts.get_mut(&place) {
                *count += 1;
            }
        }
        // A link is one to what its target was when it was made.
        differing.retain(|_, (fault, _)| match fault {
            Fault::IsNot(target) => puts.get(target) == Some(&1),
            _ => true,
        });
        Ok(differing)
    }

    /// Where an entry lies, and what is there. None where names lead round in a circle.
    fn find(
        &self,
        path: &RelPath,
        way: &mut Way,
    ) -> layerstore_changeset::Result<Option<(RelPath, Option<Found>)>> {
        let mut place = self.places.get(path).unwrap_or(path).clone();
        for _ in 0..MOST_LINKS {
            match place::find(way, &place)? {
                Step::At(found) => return Ok(Some((place, found))),
                Step::Through(elsewhere) => place = elsewhere,
            }
        }
        Ok(None)
    }

    fn fault(
        &self,
        entry: &Entry,
        data: Option<&mut dyn FileData>,
        found: &Found,
    ) -> layerstore_changeset::Result<Option<Fault>> {
        if let EntryKind::HardLink { target } = &entry.kind {
            let Some((place, other)) = self.find(target, &mut Way::new(self.root.clone()))? else {
                return Ok(None);
            };
            let same = other.is_some_and(|other| other.stat.same_inode(&found.stat));
            return Ok((!same).then_some(Fault::IsNot(place)));
        }
        let mut how = differs(entry, found)?;
        if how.is_none()
            && self.data
            && let Some(data) = data
            && !same_data(data, &found.dir.open_file(&found.name)?)?
        {
            how = Some("has another content".to_owned());
        }
        Ok(how.map(Fault::Differs))
    }
}
