//! The process that does a driver's cases, one after the other, and says how each ended.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use layerstore::{CheckOptions, Config, Context, MountOptions, PullOptions, Store, StoreOptions, SyncMode};
use layerstore_testkit::hostile::canary::Canary;
use layerstore_testkit::hostile::{self, trees};
use layerstore_testkit::{Tree, read_tree_at};

use crate::layout;

/// How a case ended.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ended {
    /// `accepted`, the stable code, or `no code`.
    pub(crate) outcome: String,
    /// The refusal's text.
    pub(crate) message: String,
    /// What the case adds to the lower layer and takes from it.
    pub(crate) tree: String,
    /// What changed outside the store.
    pub(crate) outside: Vec<String>,
    /// What is left in the store.
    pub(crate) left: Vec<String>,
    /// Time of the processors, all threads together: other programs do not count.
    pub(crate) milliseconds: u64,
    /// Memory at its highest, over what there was before.
    pub(crate) kibibytes: u64,
}

/// Does a job in the current directory: `cases DRIVER`, `truncated DRIVER` or `race DRIVER`. `HOSTILE_CASE` picks
/// cases by a part of their names, for a person who looks for a fault.
pub(crate) fn run(job: &str) {
    let (what, driver) = job.split_once(' ').unwrap();
    layerstore_sys::process::raise_descriptor_limit().unwrap();
    match what {
        "cases" => {
            let mut bench = Bench::new(driver);
            let only = std::env::var("HOSTILE_CASE").ok();
            for case in
                hostile::all().filter(|case| only.as_deref().is_none_or(|only| case.name.contains(only)))
            {
                println!("{}", serde_json::to_string(&bench.case(case)).unwrap());
            }
        }
        "truncated" => crate::truncated::work(driver),
        _ => crate::race::work(driver),
    }
}

/// A store with the image of the lower layer alone, and canaries beside it.
pub(crate) struct Bench {
    pub(crate) directory: PathBuf,
    pub(crate) store: Store,
    pub(crate) canary: Canary,
    pub(crate) victim: Vec<u8>,
    lower: Tree,
    files: BTreeMap<PathBuf, u64>,
}

impl Bench {
    pub(crate) fn new(driver: &str) -> Self {
        let directory = std::env::current_dir().unwrap();
        let outside = directory.join("outside");
        std::fs::create_dir(&outside).unwrap();
        let canary = Canary::new(&outside).unwrap();
        let mut config = Config::at(directory.join("root"), directory.join("run")).with_driver(driver);
        // Durability is not what is tested here.
        config.sync.value = SyncMode::None;
        let store = Store::open(StoreOptions { config, registry: layerstore_builtin::registry() }).unwrap();
        let victim = canary.victim();
        let mut bench =
            Self { directory, store, canary, victim, lower: Tree::nothing(), files: BTreeMap::new() };
        let (tree, _) = bench.pull(&[hostile::lower()], true).unwrap();
        bench.lower = tree;
        // A first child leaves a place for the list of children.
        let warm = bench.layer(&hostile::lower(), false);
        assert_eq!(warm.outcome, "accepted", "{}", warm.message);
        bench.files = bench.files();
        bench
    }

    fn case(&mut self, case: &hostile::Case) -> Ended {
        let layer = case.layer(&self.victim);
        let mut ended = self.layer(&layer, case.is_heavy_to_read);
        drop(layer);
        ended.outside =
            self.canary.changes().unwrap().iter().map(|line| format!("outside: {line}")).collect();
        if !ended.outside.is_empty() {
            // The next case shall not be blamed.
            let outside = self.directory.join("outside");
            std::fs::remove_dir_all(&outside).unwrap();
            std::fs::create_dir(&outside).unwrap();
            self.canary = Canary::new(&outside).unwrap();
        }
        ended
    }

    /// Pulls an image of the lower layer and this one, looks at it, removes it, and looks what is left.
    pub(crate) fn layer(&self, layer: &[u8], is_heavy: bool) -> Ended {
        let mut ended = Ended::default();
        let source = self.source(&[hostile::lower(), layer.to_vec()]);
        let before = reset_peak();
        let start = cpu_time();
        let pulled = self.store.pull(&source, &PullOptions::default(), &Context::new());
        ended.milliseconds = cpu_time() - start;
        ended.kibibytes = status("VmHWM").saturating_sub(before);
        match pulled {
            Ok(pulled) => {
                ended.outcome = "accepted".to_owned();
                match self.look(&pulled.id.to_string(), is_heavy) {
                    Ok(tree) => ended.tree = trees::delta(&self.lower, &tree, &self.victim),
                    Err(error) => ended.left.push(format!("the view cannot be read: {error}")),
                }
                if !is_heavy {
                    ended.left.extend(self.findings(false));
                }
                if let Err(error) = self.store.remove_image(&pulled.id.to_string(), true) {
                    ended.left.push(format!("the image cannot be removed: {error}"));
                }
            }
            Err(error) => {
                ended.outcome = error.code().map_or_else(|| "no code".to_owned(), ToString::to_string);
                ended.message = error.to_string();
                let root = self.directory.join("root");
                if error.code().is_some() && ended.message.contains(&*root.to_string_lossy()) {
                    ended
                        .left
                        .push(format!("told of a place in the store, not of an entry: {}", ended.message));
                }
            }
        }
        ended.left.extend(self.left());
        ended
    }

    /// What is in the store that was not there before, and what `check` finds.
    pub(crate) fn left(&self) -> Vec<String> {
        let now = self.files();
        let new = now.iter().filter(|(path, _)| !self.files.contains_key(*path));
        let gone = self.files.keys().filter(|path| !now.contains_key(*path));
        let mut left: Vec<_> = new.map(|(path, _)| format!("left behind: {}", path.display())).collect();
        left.extend(gone.map(|path| format!("gone: {}", path.display())));
        left.truncate(20);
        left.extend(self.findings(true));
        left
    }

    /// What a check finds, which should be nothing.
    fn findings(&self, quick: bool) -> Vec<String> {
        match self.store.check(CheckOptions { quick, ..CheckOptions::default() }, &Context::new()) {
            Ok(check) => check.findings.iter().map(|finding| format!("check: {finding:?}")).collect(),
            Err(error) => vec![format!("check: {error}")],
        }
    }

    fn source(&self, layers: &[Vec<u8>]) -> String {
        let layout = self.directory.join("layout");
        let _ = std::fs::remove_dir_all(&layout);
        std::fs::create_dir(&layout).unwrap();
        layout::write(&layout, layers);
        format!("oci:{}", layout.display())
    }

    fn pull(&self, layers: &[Vec<u8>], look: bool) -> layerstore::Result<(Tree, String)> {
        let pulled = self.store.pull(&self.source(layers), &PullOptions::default(), &Context::new())?;
        let id = pulled.id.to_string();
        let tree = if look { self.look(&id, false).unwrap() } else { Tree::nothing() };
        Ok((tree, id))
    }

    /// The tree that an image shows.
    fn look(&self, image: &str, is_heavy: bool) -> Result<Tree, Box<dyn std::error::Error>> {
        let top = self.store.image(image)?.layers.last().unwrap().id.to_string();
        let path =
            self.store.layer_mount(&top, &MountOptions { read_only: true, ..MountOptions::default() })?;
        let tree = if is_heavy { Ok(sizes(&path)) } else { read_tree_at(&path) };
        self.store.layer_unmount(&top, None)?;
        Ok(tree?)
    }

    /// Every file of the store but the database's, with its size.
    fn files(&self) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.directory.join("root"), self.directory.join("run")];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                if path.as_os_str().as_bytes().windows(3).any(|part| part == b".db") {
                    continue;
                }
                let metadata = std::fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    pending.push(path.clone());
                }
                found.insert(path, metadata.len());
            }
        }
        found
    }
}

/// A tree that says only how large the files at the top are, and how deep it goes down by first directories.
fn sizes(path: &Path) -> Tree {
    use layerstore_testkit::build::{dir, file};
    let mut tree = Tree::nothing();
    tree.put("", dir(0o755));
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_file() {
            tree.put(entry.file_name().as_bytes(), file(&metadata.len().to_string()));
        }
    }
    let mut current = layerstore_sys::Dir::open(path).unwrap();
    let mut depth = 0;
    while let Some(next) = first_directory(&current) {
        current = current.open_dir(&next).unwrap();
        depth += 1;
    }
    tree.put("(depth)", file(&depth.to_string()));
    tree
}

fn first_directory(dir: &layerstore_sys::Dir) -> Option<Vec<u8>> {
    let mut names: Vec<_> = dir.entries().unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names.into_iter().find(|name| dir.stat(name).unwrap().kind == layerstore_sys::FileType::Directory)
}

/// Begins a new measurement of the highest use of memory, and says what is used now, in KiB.
fn reset_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    status("VmRSS")
}

/// A size of /proc/self/status, in KiB.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What this process has used of the processors so far, in milliseconds.
fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap() * 1000 + u64::try_from(time.tv_nsec).unwrap() / 1_000_000
}
