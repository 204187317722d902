//! The appliers: one archive applied in overlay form and in flat form gives one tree, or one refusal.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use layerstore_changeset::encoding::{Encoding, overlay::Namespace};
use layerstore_changeset::tar::Reader;
use layerstore_changeset::tree::{self, ApplyOptions, LayerTree, View};
use layerstore_changeset::{Change, ChangeSink, Chunk, Context, Error, FileData, Limits, Result};
use layerstore_sys::Dir;
use layerstore_testkit::hostile;
use layerstore_testkit::hostile::canary::Canary;

use tempfile::TempDir;

use crate::mutate::fix_checksums;
use crate::seeds::VICTIM;
use crate::tars::{check_error, inflate};

/// What does not change from run to run: the canaries, and the lower layer in overlay form.
struct Place {
    directory: TempDir,
    canary: Canary,
    /// Where archives of the corpus aim at, of the same length as [`VICTIM`].
    victim: Vec<u8>,
}

/// The place of the next run. A run that breaks a promise does not bring it back, so that the next has a new one.
static PLACE: Mutex<Option<Place>> = Mutex::new(None);

/// Removes the place: nobody does that for a static when the process ends.
pub(crate) fn tidy_up() {
    drop(PLACE.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Place {
    /// Makes a place whose name is as long as the one that seeds aim at, and of this process alone.
    fn new() -> Self {
        // The standard library holds a descriptor for each level of what it removes, and archives are a thousand deep;
        // 1,024 is what a shell gives.
        layerstore_sys::process::raise_descriptor_limit().unwrap();
        let mut number = std::process::id();
        let name: String = (0..4)
            .map(|_| {
                let digit = char::from_digit(number % 36, 36).expect("a digit below 36");
                number /= 36;
                digit
            })
            .collect();
        let path = format!("/dev/shm/layerstore-{name}");
        // A fuzzer that ended in a finding left its own.
        let _ = std::fs::remove_dir_all(&path);
        let directory = tempfile::Builder::new()
            .prefix(&format!("layerstore-{name}"))
            .rand_bytes(0)
            .tempdir_in("/dev/shm")
            .unwrap();
        let canary = Canary::new(directory.path()).unwrap();
        let victim = canary.victim();
        assert_eq!(victim.len(), VICTIM.len());
        let base = directory.path().join("base");
        std::fs::create_dir(&base).unwrap();
        write(&base, OVERLAY, &View::default(), &hostile::lower(), 1).unwrap();
        Self { directory, canary, victim }
    }

    /// The archive, aimed at this place where it is aimed at that of the seeds.
    fn aim(&self, plain: &mut [u8]) {
        let mut from = 0;
        while let Some(at) = plain[from..].windows(VICTIM.len()).position(|part| part == VICTIM) {
            let at = from + at;
            plain[at..at + VICTIM.len()].copy_from_slice(&self.victim);
            from = at + VICTIM.len();
            let block = at / 512 * 512;
            if let Some(block) = plain.get_mut(block..block + 512) {
                fix_checksums(block);
            }
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

const OVERLAY: Encoding = Encoding::Overlay(Namespace::Trusted);

/// Applies a layer over the corpus's lower layer in both forms and compares what they show.
pub(crate) fn apply(data: &[u8]) {
    let Some(mut plain) = inflate(data) else { return };
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(Place::new);
    place.aim(&mut plain);
    let (base, flat, upper) = (place.folder("base"), place.folder("flat"), place.folder("upper"));
    for folder in [&flat, &upper] {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir(folder).unwrap();
    }
    compare(&base, &flat, &upper, &plain);
    assert_eq!(place.canary.changes().unwrap(), Vec::<String>::new(), "something outside was touched");
    let names = std::fs::read_dir(place.directory.path()).unwrap().count();
    assert_eq!(names, 5, "something beside the layers came or went");
    *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
}

fn compare(base: &Path, flat: &Path, upper: &Path, plain: &[u8]) {
    write(flat, Encoding::Flat, &View::default(), &hostile::lower(), 1).unwrap();
    let below = View::new(vec![layer(base, OVERLAY)]);
    let by_overlay = write(upper, OVERLAY, &below, plain, 2);
    let by_copy = write(flat, Encoding::Flat, &View::default(), plain, 1);
    match (by_overlay, by_copy) {
        (Ok(()), Ok(())) => {
            let merged = View::new(vec![layer(upper, OVERLAY), layer(base, OVERLAY)]);
            let (one, other) = (shown(&merged), shown(&View::flat(Dir::open(flat).unwrap())));
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
