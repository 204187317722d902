//! The oracle: what must hold after any crash. Runs in a child, on the store as the crash left it.
//!
//! 1. The store opens, and a second open changes nothing.
//! 2. What was acknowledged is there; everything that is there is complete: the full check finds nothing, and the
//!    tree of every image and container is what the testkit's model says.
//! 3. Every operation works without a manual step.
//! 4. When all is removed, `gc` brings the store back to what an empty one holds.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use layerstore::{CheckOptions, CommitOptions, ContainerOptions, Context, MountOptions, PullOptions, Store};
use layerstore_testkit::tree::Kind;
use layerstore_testkit::{Tree, differences, read_tree_at};
use serde::{Deserialize, Serialize};

use super::job::Place;
use super::scenario::state;
use super::{Outcome, explain, sample};

/// What is to be verified.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) place: Place,
    /// The machine was started since: what the kernel says to be this boot's number is in this file.
    pub(super) boot: Option<std::path::PathBuf>,
    pub(super) images: Vec<Thing>,
    pub(super) containers: Vec<Thing>,
    /// What was pushed, as sources.
    pub(super) pushed: Vec<String>,
    /// What an empty store holds; see [`listing`].
    pub(super) empty: Vec<String>,
}

/// An image or container by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Thing {
    pub(super) name: String,
    /// The tree that it has to show, where that is settled.
    pub(super) tree: Option<String>,
    /// It has to be there: acknowledged, and nobody was removing it.
    pub(super) must: bool,
    /// It may be there.
    pub(super) may: bool,
}

impl Wanted {
    /// What has to hold when so many steps of the scenario began, and so many were acknowledged.
    pub(super) fn after(place: &Place, begun: usize, done: usize, empty: &[String]) -> Self {
        let (before, after) = (state(done), state(begun));
        let thing = |name: &str, tree: &str, before: bool, after: bool| Thing {
            name: name.to_owned(),
            tree: Some(tree.to_owned()),
            must: before && after,
            may: before || after,
        };
        let mut container = thing("c1", "one", before.container, after.container);
        container.tree = match (before.written, after.written) {
            (false, false) => Some("one".to_owned()),
            (true, true) => Some("three".to_owned()),
            _ => None,
        };
        let pushed = [(before.pushed, false), (before.archived, true)];
        Self {
            place: place.clone(),
            boot: None,
            images: vec![
                thing("one:1", "one", before.one, after.one),
                thing("two:1", "two", before.two, after.two),
                thing("three:1", "three", before.three, after.three),
                thing("kept:1", "three", before.kept, after.kept),
            ],
            containers: vec![container],
            pushed: pushed
                .iter()
                .filter(|(done, _)| *done)
                .map(|(_, archive)| place.pushed(*archive))
                .collect(),
            empty: empty.to_vec(),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// Acknowledged, and not there or not whole.
    pub(super) lost: Vec<String>,
    /// Files that should hold something and are empty.
    pub(super) empty_files: Vec<String>,
    /// An operation that does not work until somebody does something.
    pub(super) manual: Vec<String>,
    /// Visible, and not complete.
    pub(super) partial: Vec<String>,
    /// A second open that did something, leftovers after gc.
    pub(super) other: Vec<String>,
}

impl Report {
    /// Everything, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let kinds = [
            ("lost", &self.lost),
            ("empty file", &self.empty_files),
            ("manual step", &self.manual),
            ("partial", &self.partial),
            ("other", &self.other),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, lines)| lines.iter().map(move |line| format!("{kind}: {line}")))
            .collect()
    }
}

/// Everything below a store's root, but for the database: path, kind and size.
pub(super) fn listing(root: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).map_err(explain)? {
            let path = entry.map_err(explain)?.path();
            let name = path.strip_prefix(root).map_err(explain)?.display().to_string();
            let stat = std::fs::symlink_metadata(&path).map_err(explain)?;
            if name.starts_with("layerstore.db") || name == "lost+found" {
                continue;
            }
            // What it says depends on where the run root is.
            let size = if stat.is_file() && name != "runroot.json" { stat.size() } else { 0 };
            found.push(format!("{name} {:o} {size}", stat.mode()));
            if stat.is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The listing of a store that holds nothing: opened twice, collected once.
pub(super) fn empty(place: &Place) -> Outcome<Vec<String>> {
    place.open().map_err(explain)?;
    place.open().map_err(explain)?.gc(false).map_err(explain)?;
    listing(&place.graphroot)
}

/// Asks the oracle.
///
/// # Errors
/// When the machine cannot be made to look as if it had been started.
pub(super) fn verify(wanted: &Wanted) -> Outcome<Report> {
    if let Some(boot) = &wanted.boot {
        // For this process only: nobody else sees what it mounts from here on.
        layerstore_sys::mount::legacy::unshare_mounts().map_err(explain)?;
        rustix::mount::mount_bind(boot, "/proc/sys/kernel/random/boot_id").map_err(explain)?;
    }
    let mut oracle = Oracle { wanted, trees: BTreeMap::new(), report: Report::default() };
    oracle.judge();
    Ok(oracle.report)
}

struct Oracle<'a> {
    wanted: &'a Wanted,
    trees: BTreeMap<String, Tree>,
    report: Report,
}

impl Oracle<'_> {
    fn judge(&mut self) {
        let place = self.wanted.place.clone();
        if let Err(error) = self.reopen(&place) {
            self.report.manual.push(error);
            return;
        }
        let store = match place.open() {
            Ok(store) => store,
            Err(error) => return self.report.manual.push(format!("open: {error}")),
        };
        self.images(&store);
        self.check(&store);
        self.containers(&store);
        if let Err(error) = self.pushed(&store) {
            self.report.lost.push(error);
        }
        if let Err(error) = self.next(&store) {
            self.report.manual.push(error);
        }
        if let Err(error) = self.remove_all(&store) {
            self.report.manual.push(error);
            return;
        }
        drop(store);
        match listing(&place.graphroot) {
            Ok(left) if left == self.wanted.empty => {}
            Ok(left) => {
                let more: Vec<_> =
                    left.iter().filter(|line| !self.wanted.empty.contains(line)).cloned().collect();
                let less: Vec<_> =
                    self.wanted.empty.iter().filter(|line| !left.contains(line)).cloned().collect();
                self.report.other.push(format!("after gc: left over {more:?}, missing {less:?}"));
            }
            Err(error) => self.report.other.push(error),
        }
    }

    /// Opens twice: the second time there is nothing to do.
    fn reopen(&mut self, place: &Place) -> Outcome<()> {
        drop(place.open().map_err(|error| format!("open: {error}"))?);
        let first = listing(&place.graphroot)?;
        let store = place.open().map_err(|error| format!("second open: {error}"))?;
        for warning in store.warnings() {
            self.report.other.push(format!("the second open did something: {warning}"));
        }
        drop(store);
        let second = listing(&place.graphroot)?;
        if first != second {
            let changed: Vec<_> = first
                .iter()
                .filter(|line| !second.contains(line))
                .chain(second.iter().filter(|line| !first.contains(line)))
                .collect();
            self.report.other.push(format!("the second open changed {changed:?}"));
        }
        Ok(())
    }

    fn expected(&mut self, name: &str) -> Outcome<&Tree> {
        if !self.trees.contains_key(name) {
            self.trees.insert(name.to_owned(), sample::comparable(sample::tree(name)?));
        }
        self.trees.get(name).ok_or_else(|| "no such tree".to_owned())
    }

    /// Compares what is mounted with what it should be.
    fn compare(&mut self, what: &str, name: &str, mounted: &Path) -> Outcome<()> {
        let found = sample::comparable(read_tree_at(mounted).map_err(|error| format!("{what}: {error}"))?);
        let expected = self.expected(name)?.clone();
        for (path, inode) in expected.iter() {
            let (Kind::File(wanted), Some(Kind::File(there))) =
                (&inode.kind, found.get(path.clone()).map(|it| &it.kind))
            else {
                continue;
            };
            if wanted.size() > 0 && there.size() == 0 {
                self.report.empty_files.push(format!("{what}: {path}"));
            }
        }
        match differences(&expected, &found) {
            None => Ok(()),
            Some(text) => Err(format!("{what}: not the tree of {name}:\n{text}")),
        }
    }

    fn images(&mut self, store: &Store) {
        let there: Vec<String> = match store.images() {
            Ok(images) => images
                .iter()
                .flat_map(|image| image.names.iter().map(ToString::to_string).collect::<Vec<_>>())
                .collect(),
            Err(error) => return self.report.manual.push(format!("images: {error}")),
        };
        for image in &self.wanted.images {
            let what = format!("image {}", image.name);
            let found = there.iter().any(|there| there.ends_with(&*image.name));
            let look = |oracle: &mut Self| match &image.tree {
                Some(tree) => oracle.image(store, &image.name, tree),
                None => Ok(()),
            };
            self.thing(image, &what, found, look);
        }
    }

    /// Judges one thing; `look` sees whether it is whole.
    fn thing(&mut self, thing: &Thing, what: &str, found: bool, look: impl FnOnce(&mut Self) -> Outcome<()>) {
        if !found {
            if thing.must {
                self.report.lost.push(what.to_owned());
            }
            return;
        }
        if !thing.may {
            self.report.other.push(format!("{what} should not be there"));
        }
        if let Err(error) = look(self) {
            let list = if thing.must { &mut self.report.lost } else { &mut self.report.partial };
            list.push(error);
        }
    }

    fn image(&mut self, store: &Store, name: &str, tree: &str) -> Outcome<()> {
        let image = store.image(name).map_err(|error| format!("image {name}: {error}"))?;
        let top = image.layers.last().ok_or_else(|| format!("image {name} has no layers"))?;
        let options = MountOptions { read_only: true, ..MountOptions::default() };
        let place =
            store.layer_mount(top.id.as_str(), &options).map_err(|error| format!("image {name}: {error}"))?;
        let same = self.compare(&format!("image {name}"), tree, &place);
        store.layer_unmount(top.id.as_str(), None).map_err(|error| format!("image {name}: {error}"))?;
        same
    }

    fn check(&mut self, store: &Store) {
        match store.check(CheckOptions::default(), &Context::new()) {
            Ok(check) => {
                // A layer that nobody knows was never acknowledged; that it goes is seen at the end. So was a container
                // whose record survived a power cut and whose row did not.
                let unfinished = ["layer-unknown", "row-lost"];
                for finding in
                    check.findings.into_iter().filter(|finding| !unfinished.contains(&finding.kind))
                {
                    self.report
                        .partial
                        .push(format!("check: {} {}: {}", finding.kind, finding.name, finding.message));
                }
            }
            Err(error) => self.report.manual.push(format!("check: {error}")),
        }
    }

    fn containers(&mut self, store: &Store) {
        let there: Vec<String> = match store.containers() {
            Ok(containers) => containers.into_iter().filter_map(|container| container.name).collect(),
            Err(error) => return self.report.manual.push(format!("containers: {error}")),
        };
        for container in &self.wanted.containers {
            let what = format!("container {}", container.name);
            let name = &*container.name;
            let look = |oracle: &mut Self| -> Outcome<()> {
                let mounted = store
                    .mount(name, &MountOptions::default())
                    .map_err(|error| format!("{what}: {error}"))?;
                if let Some(tree) = &container.tree {
                    oracle.compare(&what, tree, &mounted)?;
                }
                store.unmount(name, None).map_err(|error| format!("{what}: {error}"))?;
                Ok(())
            };
            self.thing(container, &what, there.contains(&container.name), look);
        }
    }

    /// What was pushed can be pulled again.
    fn pushed(&mut self, store: &Store) -> Outcome<()> {
        for source in &self.wanted.pushed {
            let options = PullOptions { names: vec!["back:1".to_owned()], ..PullOptions::default() };
            store.pull(source, &options, &Context::new()).map_err(|error| format!("{source}: {error}"))?;
            self.image(store, "back:1", "three").map_err(|error| format!("{source}: {error}"))?;
        }
        Ok(())
    }

    /// Every operation works, as if nothing had happened.
    fn next(&mut self, store: &Store) -> Outcome<()> {
        let context = Context::new();
        for name in ["one", "two"] {
            let options = PullOptions { names: vec![format!("{name}:1")], ..PullOptions::default() };
            store
                .pull(&sample::source(&self.wanted.place.source, name), &options, &context)
                .map_err(|error| format!("next pull: {error}"))?;
            self.image(store, &format!("{name}:1"), name).map_err(|error| format!("next pull: {error}"))?;
        }
        let options = ContainerOptions { name: Some("next".to_owned()), ..ContainerOptions::default() };
        store
            .create_container("one:1", &options, &context)
            .map_err(|error| format!("next create: {error}"))?;
        let mounted =
            store.mount("next", &MountOptions::default()).map_err(|error| format!("next mount: {error}"))?;
        sample::write(&mounted).map_err(|error| format!("next write: {error}"))?;
        store.unmount("next", None).map_err(|error| format!("next unmount: {error}"))?;
        let options = CommitOptions { name: Some("next:1".to_owned()), ..CommitOptions::default() };
        store.commit("next", &options, &context).map_err(|error| format!("next commit: {error}"))?;
        self.image(store, "next:1", "three").map_err(|error| format!("next commit: {error}"))
    }

    fn remove_all(&mut self, store: &Store) -> Outcome<()> {
        for container in store.containers().map_err(explain)? {
            store.remove_container(&container.id, true).map_err(|error| format!("rm: {error}"))?;
        }
        for image in store.images().map_err(explain)? {
            store.remove_image(&image.id.to_string(), true).map_err(|error| format!("rmi: {error}"))?;
        }
        store.gc(false).map_err(|error| format!("gc: {error}"))?;
        let layers = store.layers().map_err(explain)?;
        if !layers.is_empty() {
            self.report.other.push(format!("{} layers are left after gc", layers.len()));
        }
        Ok(())
    }
}
