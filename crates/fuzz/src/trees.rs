//! The appliers: one archive applied in overlay form and in flat form gives one tree, or one refusal.

use std::path::Path;

use layerstore_changeset::encoding::{Encoding, overlay::Namespace};
use layerstore_changeset::tar::Reader;
use layerstore_changeset::tree::{self, ApplyOptions, LayerTree, View};
use layerstore_changeset::{Change, ChangeSink, Chunk, Context, Error, FileData, Limits, Result};
use layerstore_sys::Dir;
use layerstore_testkit::hostile;
use layerstore_testkit::hostile::canary::Canary;

use crate::tars::{check_error, inflate};

/// Applies a layer over the corpus's lower layer in both forms and compares what they show.
pub(crate) fn apply(data: &[u8]) {
    let Some(plain) = inflate(data) else { return };
    let scratch = layerstore_testkit::scratch::scratch_dir().unwrap();
    let folder = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (outside, base, flat, upper) = (folder("outside"), folder("base"), folder("flat"), folder("upper"));
    let canary = Canary::new(&outside).unwrap();
    let overlay = Encoding::Overlay(Namespace::Trusted);
    let lower = hostile::lower();
    write(&base, overlay, &View::default(), &lower, 1).unwrap();
    write(&flat, Encoding::Flat, &View::default(), &lower, 1).unwrap();
    let below = View::new(vec![layer(&base, overlay)]);
    let by_overlay = write(&upper, overlay, &below, &plain, 2);
    let by_copy = write(&flat, Encoding::Flat, &View::default(), &plain, 1);
    assert_eq!(canary.changes().unwrap(), Vec::<String>::new(), "something outside was touched");
    match (by_overlay, by_copy) {
        (Ok(()), Ok(())) => {
            let merged = View::new(vec![layer(&upper, overlay), layer(&base, overlay)]);
            let (one, other) = (shown(&merged), shown(&View::flat(Dir::open(&flat).unwrap())));
            if one != other {
                let differ = one.iter().zip(&other).find(|(one, other)| one != other);
                panic!(
                    "the forms show different trees ({} and {} names): {differ:#?}",
                    one.len(),
                    other.len()
                );
            }
        }
        (Err(one), Err(other)) => {
            assert_eq!(one.code(), other.code(), "{one} and {other}");
            if !matches!(one, Error::System(_)) {
                check_error(&one);
            }
        }
        (one, other) => panic!("overlay: {one:?}, flat: {other:?}"),
    }
}

fn layer(path: &Path, encoding: Encoding) -> LayerTree {
    LayerTree { root: Dir::open(path).unwrap(), encoding }
}

fn write(to: &Path, encoding: Encoding, below: &View, plain: &[u8], threads: usize) -> Result<()> {
    let limits = Limits { entries: 2000, bytes: 4 << 20, ..Limits::default() };
    let mut reader = Reader::new(plain, limits.clone());
    let options = ApplyOptions { threads, limits };
    tree::apply(&layer(to, encoding), below, &mut reader, &options, &Context::new())?;
    reader.finish().map(drop)
}

/// Everything that a view shows, as changes from nothing.
fn shown(view: &View) -> Vec<(Change, u64)> {
    let mut found = Collect(Vec::new());
    tree::diff(&View::default(), view, &mut found, &Context::new()).unwrap();
    // The root of the upper layer is the driver's to make.
    found.0.into_iter().filter(|(change, _)| !change.path().is_root()).collect()
}

struct Collect(Vec<(Change, u64)>);

impl ChangeSink for Collect {
    fn put(&mut self, change: Change, data: Option<&mut dyn FileData>) -> Result<()> {
        let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
        if let Some(data) = data {
            while let Some(chunk) = data.next_chunk()? {
                match chunk {
                    Chunk::Data(bytes) => {
                        for &byte in bytes {
                            // Zeros may be holes on one side.
                            if byte != 0 {
                                hash = (hash ^ (u64::from(byte) << 32) ^ at).wrapping_mul(0x100_0000_01b3);
                            }
                            at += 1;
                        }
                    }
                    Chunk::Hole(length) => at += length,
                }
            }
        }
        self.0.push((change, hash));
        Ok(())
    }
}
