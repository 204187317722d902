//! The images of the laboratory: small, made by code, with one of everything that can go wrong by itself; and the
//! trees that they have to show, by the oracle that shares no code with the product.
//!
//! ```text
//! one    base + change          replaced, removed and linked files, an opaque directory, xattrs, a device
//! two    base + other           a large file, and a name that comes twice: its blob is kept
//! three  one + what a container wrote
//! ```

use std::io::Read;
use std::path::Path;

use layerstore::{Config, Context, Digest, PullOptions, PushOptions, Registry, Store, StoreOptions};
use layerstore_changeset::compress::{Compression, Compressor};
use layerstore_image::{self as image, ImageName, ImageSource, Layer, Manifest, Verify};
use layerstore_testkit::build::{
    capability, char_device, dir, fifo, file, link, opaque, put, remove, symlink,
};
use layerstore_testkit::model::{self, Change};
use layerstore_testkit::tree::{Entry, Kind};
use layerstore_testkit::{Tree, noise};

use super::{Outcome, explain};

/// Everything later than this is "now".
const LONG_AGO: i64 = 1_000_000_000;

fn base() -> Vec<Change> {
    let mut changes = vec![
        put("etc", dir(0o755)),
        put("etc/passwd", file("root:x:0:0::/:/bin/sh\n")),
        put("etc/hosts", file("127.0.0.1 localhost\n").owner(3, 4)),
        put("etc/shadow", file("secret").mode(0o600).xattr("user.note", "kept")),
        put("usr", dir(0o755)),
        put("usr/lib", dir(0o755)),
        put("lib", symlink("usr/lib")),
        put("usr/lib/big", file(noise(1, 300_000))),
        put("usr/lib/same", link("usr/lib/big")),
        put("usr/tool", file(noise(2, 5_000)).mode(0o755).xattr("security.capability", capability(0x3000))),
        put("usr/su", file("#!").mode(0o4755)),
        put("dev", dir(0o755)),
        put("dev/null", char_device(1, 3).mode(0o666)),
        put("dev/pipe", fifo().mode(0o600)),
        put("data", dir(0o1777)),
        put("data/deep", dir(0o700).owner(7, 8)),
        put("data/deep/old", file("hidden by the next layer")),
    ];
    for number in 0..12_u64 {
        changes.push(put(&format!("data/small{number}"), file(noise(number, 40 + 700 * number as usize))));
    }
    changes
}

fn change() -> Vec<Change> {
    vec![
        put("etc/hosts", file("127.0.0.1 localhost other\n")),
        remove("etc/passwd"),
        // Lands in usr/lib, because lib is a symlink below.
        put("lib/new", file("through a symlink\n")),
        opaque("data/deep"),
        put("data/deep/fresh", file(noise(3, 9_000)).owner(1, 2)),
        remove("data/small3"),
    ]
}

fn other() -> Vec<Change> {
    vec![
        put("srv", dir(0o755)),
        // Large enough to go past the page cache.
        put("srv/large", file(noise(4, 2_200_000))),
        put("srv/twice", file("the first time")),
        put("srv/twice", file("the second time")),
        remove("usr/lib/same"),
    ]
}

/// The tree of an image, by name.
pub(super) fn tree(name: &str) -> Outcome<Tree> {
    let apply = |lower: &Tree, changes: Vec<Change>| {
        model::apply(lower, &changes).map_err(|refused| format!("{refused:?}"))
    };
    let base = apply(&Tree::new(), base())?;
    match name {
        "two" => apply(&base, other()),
        "three" => {
            let mut tree = apply(&base, change())?;
            wrote(&mut tree);
            Ok(tree)
        }
        _ => apply(&base, change()),
    }
}

/// What [`write`] does, to a tree.
fn wrote(tree: &mut Tree) {
    tree.put("etc/written", file("by a container\n"));
    tree.put("etc/hosts", file("written over\n"));
    tree.remove("usr/lib/new");
    tree.put("app", dir(0o755));
    tree.put("app/large", file(noise(5, 200_000)));
    tree.put("app/link", symlink("large"));
    let moved = tree.get("etc/shadow").cloned();
    tree.remove("etc/shadow");
    if let Some(inode) = moved {
        tree.put("etc/gshadow", inode);
    }
}

/// What a container does in its root file system; durable when this returns.
pub(super) fn write(root: &Path) -> Outcome<()> {
    let work = || -> std::io::Result<()> {
        std::fs::write(root.join("etc/written"), "by a container\n")?;
        std::fs::remove_file(root.join("etc/hosts"))?;
        std::fs::write(root.join("etc/hosts"), "written over\n")?;
        std::fs::remove_file(root.join("usr/lib/new"))?;
        std::fs::create_dir(root.join("app"))?;
        std::fs::write(root.join("app/large"), noise(5, 200_000))?;
        std::os::unix::fs::symlink("large", root.join("app/link"))?;
        std::fs::rename(root.join("etc/shadow"), root.join("etc/gshadow"))?;
        rustix::fs::syncfs(std::fs::File::open(root)?)?;
        Ok(())
    };
    work().map_err(explain)
}

/// A tree without what a crash and its recovery may change: times of directories, and what was written just now.
pub(super) fn comparable(tree: Tree) -> Tree {
    let mut tree = tree.with_times_capped(LONG_AGO);
    tree.for_each_mut(|inode| {
        if inode.is_dir() || inode.meta.mtime.0 == LONG_AGO {
            inode.meta.mtime = (0, 0);
        }
    });
    tree
}

fn tar_of(changes: &[Change]) -> Outcome<Vec<u8>> {
    let mut out = tar::Builder::new(Vec::new());
    for change in changes {
        let path = match change {
            Change::Put(path, _) => path.to_bytes(),
            Change::Remove(path) => marker(path, b".wh.", path.name().unwrap_or_default()),
            Change::Opaque(path) => [path.to_bytes(), b"/.wh..wh..opq".to_vec()].concat(),
        };
        let path = String::from_utf8(path).map_err(explain)?;
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_size(0);
        let Change::Put(_, entry) = change else {
            out.append_data(&mut header, path, std::io::empty()).map_err(explain)?;
            continue;
        };
        let inode = match entry {
            Entry::Link(target) => {
                header.set_entry_type(tar::EntryType::Link);
                out.append_link(&mut header, path, String::from_utf8(target.to_bytes()).map_err(explain)?)
                    .map_err(explain)?;
                continue;
            }
            Entry::Inode(inode) => inode,
        };
        let meta = &inode.meta;
        if !meta.xattrs.is_empty() {
            let records: Vec<u8> = meta.xattrs.iter().flat_map(|(name, value)| pax(name, value)).collect();
            let mut extended = tar::Header::new_ustar();
            extended.set_entry_type(tar::EntryType::XHeader);
            extended.set_size(records.len() as u64);
            out.append_data(&mut extended, "pax", records.as_slice()).map_err(explain)?;
        }
        header.set_mode(meta.mode);
        header.set_uid(meta.uid.into());
        header.set_gid(meta.gid.into());
        let mut data = Vec::new();
        match &inode.kind {
            Kind::File(content) => data = content.to_vec(),
            Kind::Dir => header.set_entry_type(tar::EntryType::Directory),
            Kind::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(String::from_utf8_lossy(target).as_ref()).map_err(explain)?;
            }
            Kind::Fifo => header.set_entry_type(tar::EntryType::Fifo),
            Kind::Char(major, minor) => {
                header.set_entry_type(tar::EntryType::Char);
                header
                    .set_device_major(*major)
                    .and_then(|()| header.set_device_minor(*minor))
                    .map_err(explain)?;
            }
            Kind::Block(..) | Kind::Socket => return Err(format!("{path}: not in the sample")),
        }
        header.set_size(data.len() as u64);
        out.append_data(&mut header, path, data.as_slice()).map_err(explain)?;
    }
    out.into_inner().map_err(explain)
}

fn marker(path: &layerstore_testkit::Path, mark: &[u8], name: &[u8]) -> Vec<u8> {
    let above = path.parent().map(|parent| parent.to_bytes()).unwrap_or_default();
    let slash: &[u8] = if above.is_empty() { b"" } else { b"/" };
    [above.as_slice(), slash, mark, name].concat()
}

/// One record of a PAX header: its length counts itself.
fn pax(name: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" SCHILY.xattr.".as_slice(), name, b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    [length.to_string().into_bytes(), rest].concat()
}

/// An image in memory.
#[derive(Debug)]
struct Memory {
    config: image::Config,
    layers: Vec<Layer>,
    blobs: Vec<Vec<u8>>,
}

impl Memory {
    fn new(layers: &[Vec<Change>]) -> Outcome<Self> {
        let tars: Vec<Vec<u8>> = layers.iter().map(|changes| tar_of(changes)).collect::<Outcome<_>>()?;
        let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config = serde_json::json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = image::Config::parse(serde_json::to_vec(&config).map_err(explain)?).map_err(explain)?;
        let compress = |tar: &Vec<u8>| -> Outcome<Vec<u8>> {
            use std::io::Write as _;
            let mut out = Compressor::new(Vec::new(), Compression::Gzip, None).map_err(explain)?;
            out.write_all(tar).map_err(explain)?;
            out.finish().map_err(explain)
        };
        let blobs: Vec<Vec<u8>> = tars.iter().map(compress).collect::<Outcome<_>>()?;
        let layers = diff_ids.iter().zip(&blobs).map(|(diff_id, blob)| Layer {
            diff_id: *diff_id,
            digest: Some(Digest::of(blob)),
            size: blob.len() as u64,
            media_type: image::MediaType::ImageLayerGzip,
            compression: image::Compression::Gzip,
            annotations: image::Annotations::new(),
        });
        Ok(Self { config, layers: layers.collect(), blobs })
    }
}

impl ImageSource for Memory {
    fn config(&self) -> &image::Config {
        &self.config
    }

    fn manifest(&self) -> Option<&Manifest> {
        None
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn names(&self) -> &[ImageName] {
        &[]
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    fn open_layer(&self, index: usize, _: Verify) -> image::Result<Box<dyn Read + Send>> {
        let blob = self.blobs.get(index).cloned().unwrap_or_default();
        Ok(Box::new(std::io::Cursor::new(blob)))
    }
}

/// Writes both images below `folder`, as the transports that [`source`] names.
pub(super) fn prepare(folder: &Path, registry: &Registry) -> Outcome<()> {
    let place = tempfile::tempdir_in(folder).map_err(explain)?;
    let driver = registry.factories().last().map(|factory| factory.name()).ok_or("no driver")?;
    let config = Config::at(place.path().join("root"), place.path().join("run")).with_driver(driver);
    let store = Store::open(StoreOptions { config, registry: registry.clone() }).map_err(explain)?;
    for (name, layers) in [("one", [base(), change()]), ("two", [base(), other()])] {
        let options = PullOptions { names: vec![format!("{name}:1")], ..PullOptions::default() };
        store.pull_from(&Memory::new(&layers)?, &options, &Context::new()).map_err(explain)?;
        store
            .push(&format!("{name}:1"), &source(folder, name), &PushOptions::default(), &Context::new())
            .map_err(explain)?;
    }
    Ok(())
}

/// Where an image of the sample is pulled from.
pub(super) fn source(folder: &Path, name: &str) -> String {
    match name {
        "two" => format!("docker-archive:{}", folder.join("two.tar").display()),
        _ => format!("oci:{}:{name}", folder.join(name).display()),
    }
}
