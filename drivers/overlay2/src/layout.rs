//! What lies in a root and in a layer's directory beside the kit's files: as docker keeps it.
//!
//! ```text
//! ROOT/l/LINK -> ../ID/diff     a short name of the layer, for mount options of one page
//! ROOT/ID/diff/                 the layer's content, an overlay directory
//! ROOT/ID/link                  "LINK", 26 characters of base 32: the token of the layer's creation
//! ROOT/ID/lower                 "l/LINK:l/LINK…", its ancestors from the parent downwards; not in a base layer
//! ROOT/ID/work/                 the kernel's, while the layer is mounted writable; not in a base layer
//! ROOT/ID/empty/                nothing; in a layer of limited size only, see `plan`
//! ```
//!
//! Invariant: `lower` alone says what a view is made of, so a plan reads one small file however long the chain is.

use std::collections::HashMap;
use std::path::Path;

use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::encoding::overlay::Namespace;
use layerstore_changeset::encoding::xattr::is_reserved;
use layerstore_changeset::tree::{LayerTree, View};
use layerstore_driver::layout::{Format, Layer, Layout, Operation, Staged};
use layerstore_driver::{Kind, Result};
use layerstore_sys::xattr::{self, On};
use layerstore_sys::{self as sys, Dir, Timestamp};

use crate::NAME;

/// The layer's content.
pub(crate) const DIFF: &str = "diff";
/// The kernel's work directory.
pub(crate) const WORK: &str = "work";
/// A directory that stays empty.
pub(crate) const EMPTY: &str = "empty";
/// The file that holds the layer's short name.
pub(crate) const LINK: &str = "link";
/// The file that lists the ancestors.
pub(crate) const LOWER: &str = "lower";
/// Makes the kernel's work directory again where it is gone: nothing in it is worth anything. Says whether it was.
pub(crate) fn ensure_work(layer: &Dir) -> sys::Result<bool> {
    let work = layer.try_stat(WORK.as_bytes())?;
    if work.is_some_and(|stat| stat.kind == sys::FileType::Directory) {
        return Ok(false);
    }
    sys::remove::tree(layer, WORK.as_bytes())?;
    layer.make_dir(WORK.as_bytes(), 0o700)?;
    Ok(true)
}

/// The directory of short names.
pub(crate) const LINKS: &str = "l";
/// Most layers in one chain: the kernel takes 500 lower directories (`OVL_MAX_STACK`), and a read-only view has
/// no other.
pub(crate) const MAX_CHAIN: usize = 500;
/// Length of a short name.
const LINK_LENGTH: usize = 26;

/// Roots of this driver.
pub(crate) const FORMAT: Format = Format { driver: NAME, version: 1, reserved: &[LINKS] };

/// The root's setting that says where the kernel keeps its marks in the layers: `trusted` or `user`.
const XATTRS: &str = "xattrs";

/// What is settled when a root is made.
pub(crate) fn settings(namespace: Namespace) -> [(&'static str, String); 1] {
    let value = match namespace {
        Namespace::Trusted => "trusted",
        Namespace::User => "user",
    };
    [(XATTRS, value.to_owned())]
}

/// What a root was made with; none if it was not made yet.
pub(crate) fn settled_namespace(root: &Path) -> Result<Option<Namespace>> {
    match Layout::settings_of(root, FORMAT)?.as_ref().and_then(|settings| settings.get(XATTRS)) {
        None => Ok(None),
        Some(value) if value == "trusted" => Ok(Some(Namespace::Trusted)),
        Some(value) if value == "user" => Ok(Some(Namespace::User)),
        Some(value) => Err(Operation::new(NAME, "open root")
            .error(Kind::Unsupported, format!("the root's layers keep their marks in {value:?} attributes"))
            .with_hint("use the program that wrote it, or a newer one")),
    }
}

/// Makes what the driver keeps of a new layer. `lower` are its ancestors' short names, the parent first.
pub(crate) fn fill(staged: &Staged<'_>, layout: &Layout, lower: &[String]) -> sys::Result<()> {
    let (dir, record) = (staged.dir(), staged.record());
    dir.make_dir(DIFF.as_bytes(), 0o755)?;
    let diff = dir.open_dir(DIFF.as_bytes())?;
    match staged.parent() {
        None => set_root(&diff)?,
        Some(parent) => inherit_root(&parent.dir.open_dir(DIFF.as_bytes())?, &diff)?,
    }
    write(dir, LINK, &record.token)?;
    make_link(layout, &record.token, &layout.name_of(&record.id))?;
    if staged.parent().is_some() {
        write(dir, LOWER, &join(lower))?;
        dir.make_dir(WORK.as_bytes(), 0o700)?;
        if record.limit.is_some() {
            dir.make_dir(EMPTY.as_bytes(), 0o755)?;
        }
    }
    Ok(())
}

/// The root directory of a base layer.
fn set_root(diff: &Dir) -> sys::Result<()> {
    diff.set_owner(b".", 0, 0)?;
    diff.set_mode_self(0o755)?;
    diff.set_mtime(b".", Timestamp::default())
}

/// A child's root directory looks like its parent's, or the topmost layer would change it: overlay shows the
/// attributes of the topmost directory only.
fn inherit_root(parent: &Dir, diff: &Dir) -> sys::Result<()> {
    let stat = parent.stat_self()?;
    diff.set_owner(b".", stat.uid, stat.gid)?;
    for name in xattr::list(On::Dir(parent))? {
        if is_reserved(&name) {
            continue;
        }
        if let Some(value) = xattr::get(On::Dir(parent), &name)? {
            xattr::set(On::Dir(diff), &name, &value)?;
        }
    }
    // After the ACL, which may hold another mask than the mode.
    diff.set_mode_self(stat.mode)?;
    diff.set_mtime(b".", stat.mtime)
}

/// Makes the short name of a layer whose directory is called `name`.
pub(crate) fn make_link(layout: &Layout, link: &str, name: &str) -> sys::Result<()> {
    links(layout)?.make_symlink(link.as_bytes(), &link_target(name))
}

/// Where the short name of the layer whose directory is called `name` leads.
pub(crate) fn link_target(name: &str) -> Vec<u8> {
    format!("../{name}/{DIFF}").into_bytes()
}

/// The directory of short names.
pub(crate) fn links(layout: &Layout) -> sys::Result<Dir> {
    layout.root().ensure_dir(LINKS.as_bytes(), 0o700)
}

/// Removes the short name of the layer that lay in `dir`, and is gone from its place.
pub(crate) fn drop_link(layout: &Layout, dir: &Dir) -> sys::Result<()> {
    let link = dir.open_file(LINK.as_bytes()).and_then(|mut file| file.read_to_end_limited(LINK_LENGTH));
    match link {
        Ok(link) if is_link(&link) => drop_name(layout, &link),
        // A power cut emptied the file, or it was never written.
        _ => drop_dangling(layout, &links(layout)?).map(drop),
    }
}

/// Removes a short name, if it is there.
pub(crate) fn drop_name(layout: &Layout, name: &[u8]) -> sys::Result<()> {
    match links(layout)?.unlink(name) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// The short names that no creation is about to give to a layer: each is its layer's own, or none's.
pub(crate) struct Settled {
    /// Those that lead somewhere.
    pub(crate) kept: Vec<Vec<u8>>,
    /// Those that led nowhere, and were removed.
    pub(crate) dropped: Vec<Vec<u8>>,
}

/// Removes every short name that leads nowhere.
pub(crate) fn drop_dangling(layout: &Layout, links: &Dir) -> sys::Result<Settled> {
    let mut settled = Settled { kept: Vec::new(), dropped: Vec::new() };
    for entry in links.entries()? {
        let name = entry.name;
        // In this order: a creation that ends meanwhile is in one place or the other.
        if std::str::from_utf8(&name).is_ok_and(|token| layout.is_staged(token).unwrap_or(true)) {
            continue;
        }
        if sys::fs::exists(links.path().join(as_path(&name)))? {
            settled.kept.push(name);
        } else {
            sys::remove::tree(links, &name)?;
            settled.dropped.push(name);
        }
    }
    Ok(settled)
}

fn as_path(name: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::Path::new(std::ffi::OsStr::from_bytes(name))
}

/// Writes a small file that is not there yet.
pub(crate) fn write(dir: &Dir, name: &str, text: &str) -> sys::Result<()> {
    dir.create_file(name.as_bytes(), 0o600)?.write_all_at(text.as_bytes(), 0)
}

/// The text of [`LOWER`].
pub(crate) fn join(lower: &[String]) -> String {
    let names: Vec<_> = lower.iter().map(|link| format!("{LINKS}/{link}")).collect();
    names.join(":")
}

/// The short names of a layer's ancestors, the parent first; none for a base layer.
///
/// # Errors
/// `Corrupt` when the file is not what [`fill`] wrote.
pub(crate) fn lower(layer: &Layer, operation: Operation<'_>) -> Result<Vec<String>> {
    if layer.record.parent.is_none() {
        return Ok(Vec::new());
    }
    let limit = (LINKS.len() + 1 + LINK_LENGTH + 1) * MAX_CHAIN;
    let damaged = || {
        let message = format!("the file {} does not list its ancestors", layer.dir.show(LOWER.as_bytes()));
        operation.error(Kind::Corrupt, message).with_hint("`check --repair` makes it again from the records")
    };
    let text =
        match layer.dir.open_file(LOWER.as_bytes()).and_then(|mut file| file.read_to_end_limited(limit)) {
            Ok(text) => text,
            Err(error) if error.is_not_found() || error.errno() == sys::Errno::FBIG => return Err(damaged()),
            Err(error) => return Err(operation.system(error)),
        };
    parse_lower(&text).ok_or_else(damaged)
}

/// Reads the text of [`LOWER`].
pub(crate) fn parse_lower(text: &[u8]) -> Option<Vec<String>> {
    let prefix = [LINKS.as_bytes(), b"/"].concat();
    let link = |part: &[u8]| {
        let link = part.strip_prefix(prefix.as_slice()).filter(|link| is_link(link))?;
        String::from_utf8(link.to_vec()).ok()
    };
    text.split(|&byte| byte == b':').map(link).collect()
}

/// Whether this is a short name: one component, so that it leads nowhere but into [`LINKS`].
fn is_link(link: &[u8]) -> bool {
    link.len() == LINK_LENGTH && link.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

/// Opens the directories of chains; one that occurs in several is opened once, so that comparing them sees at
/// once what they have in common.
#[derive(Debug)]
pub(crate) struct Opener<'a> {
    layout: &'a Layout,
    namespace: Namespace,
    open: HashMap<String, Dir>,
}

impl<'a> Opener<'a> {
    /// An opener of layers whose marks are in `namespace`.
    pub(crate) fn new(layout: &'a Layout, namespace: Namespace) -> Self {
        Self { layout, namespace, open: HashMap::new() }
    }

    /// The layer's own tree.
    pub(crate) fn own(&mut self, layer: &Layer, operation: Operation<'_>) -> Result<LayerTree> {
        let token = &layer.record.token;
        if !self.open.contains_key(token) {
            let dir = layer.dir.open_dir(DIFF.as_bytes()).map_err(|error| operation.system(error))?;
            self.open.insert(token.clone(), dir);
        }
        self.tree(token, operation)
    }

    /// The view of the layer's ancestors.
    pub(crate) fn below(&mut self, layer: &Layer, operation: Operation<'_>) -> Result<View> {
        let lower = lower(layer, operation)?;
        let trees = lower.iter().map(|link| self.tree(link, operation)).collect::<Result<_>>()?;
        Ok(View::new(trees))
    }

    /// The layer's view; of none, the empty view.
    pub(crate) fn view(&mut self, layer: Option<&Layer>, operation: Operation<'_>) -> Result<View> {
        let Some(layer) = layer else { return Ok(View::default()) };
        let mut trees = vec![self.own(layer, operation)?];
        trees.extend_from_slice(self.below(layer, operation)?.layers());
        Ok(View::new(trees))
    }

    fn tree(&mut self, link: &str, operation: Operation<'_>) -> Result<LayerTree> {
        let encoding = Encoding::Overlay(self.namespace);
        if let Some(root) = self.open.get(link) {
            return Ok(LayerTree { root: root.clone(), encoding });
        }
        let path = self.layout.path().join(LINKS).join(link);
        let root = Dir::open(&path).map_err(|error| {
            if error.is_not_found() {
                let message = format!("the ancestor that {LINKS}/{link} leads to is missing");
                operation.error(Kind::Corrupt, message).with_source(error)
            } else {
                operation.system(error)
            }
        })?;
        self.open.insert(link.to_owned(), root.clone());
        Ok(LayerTree { root, encoding })
    }
}
