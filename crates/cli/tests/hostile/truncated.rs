//! Every archive of the corpus cut at every block, and at some odd bytes: it is refused with a code, or what is
//! left is an archive by itself; on every driver nothing is left behind.

use std::io::Read as _;

use layerstore::{Context, CreateOptions, LayerId};
use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::tar::Reader;
use layerstore_changeset::{Code, Error, Limits};
use layerstore_testkit::hostile;
use libtest_mimic::{Failed, Trial};

use crate::worker::Bench;

/// Most cuts of one archive: of longer ones as many are tried, evenly spread.
const MOST: usize = 120;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("an_archive_cut_anywhere_is_refused_or_is_an_archive", reader),
        Trial::test("an_archive_cut_anywhere_leaves_nothing_on_any_driver", drivers),
    ]
}

/// Where to cut: every block and a byte on each side of some.
fn cuts(length: usize) -> Vec<usize> {
    let blocks = length / 512;
    let step = (blocks / MOST).max(1);
    let mut cuts: Vec<_> = (0..=blocks).step_by(step).map(|block| block * 512).collect();
    cuts.extend((1..=16).map(|n| (n * 7919) % length.max(1)));
    cuts.extend([1, 511, 513, length.saturating_sub(1)].into_iter().filter(|&at| at < length));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn read(bytes: &[u8]) -> Result<(), Error> {
    let limits = Limits::default();
    let stream = Decompressor::detect(bytes, &limits)?;
    Reader::new(std::io::BufReader::new(stream), limits).finish().map(drop)
}

/// Whether what was cut off begins right behind a file's data: what is left is whole, and a byte less is not.
fn ends_with_data(part: &[u8]) -> bool {
    let shorter = part.split_last().map(|(_, shorter)| read(shorter));
    shorter.is_some_and(|read| read.is_err_and(|error| error.code() == Some(Code::Truncated)))
}

fn is_plain(layer: &[u8]) -> bool {
    !layer.starts_with(b"\x1f\x8b") && !layer.starts_with(b"\x28\xb5\x2f\xfd")
}

fn reader() -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for case in hostile::all().filter(|case| !case.is_bomb) {
        let layer = case.layer(b"/victim");
        for cut in cuts(layer.len()).into_iter().filter(|&cut| cut < layer.len()) {
            let part = &layer[..cut];
            match read(part) {
                Err(error) if error.code().is_none() => {
                    wrong.push(format!("{} at {cut}: {error}", case.name))
                }
                Ok(())
                    if is_plain(&layer)
                        && !cut.is_multiple_of(512)
                        && !behind_the_end(part)
                        && !ends_with_data(part) =>
                {
                    wrong.push(format!("{} at {cut}: accepted", case.name));
                }
                // Only its end mark is missing.
                Ok(())
                    if is_plain(&layer)
                        && read(&[part, &vec![0; 1024 + 511 - (cut + 511) % 512]].concat()).is_err() =>
                {
                    wrong.push(format!("{} at {cut}: accepted, but not with an end mark", case.name));
                }
                Err(error)
                    if cut < 512
                        && cut > 0
                        && case.class() != 'H'
                        && is_plain(&layer)
                        && error.code() != Some(Code::Truncated) =>
                {
                    wrong.push(format!("{} at {cut}: {error}", case.name));
                }
                _ => {}
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// Whether an archive's end mark lies within these bytes.
fn behind_the_end(part: &[u8]) -> bool {
    let zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
    let (blocks, _) = part.as_chunks::<512>();
    blocks.windows(2).any(|pair| pair.iter().all(|block| zero(block)))
}

fn drivers() -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for factory in layerstore_builtin::registry().factories() {
        let directory = crate::directory(false)?;
        let said = crate::start(&format!("truncated {}", factory.name()), directory.path(), false)?;
        wrong.extend(said.lines().map(|line| format!("{}: {line}", factory.name())));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// The worker: what is wrong, a line each.
pub(crate) fn work(driver: &str) {
    let bench = Bench::new(driver);
    let (driver, context) = (bench.store.driver(), Context::new());
    let base = LayerId::new(bench.store.layers().unwrap().first().unwrap().id.as_str()).unwrap();
    let id = LayerId::new("truncated").unwrap();
    for case in hostile::all().filter(|case| !case.is_bomb) {
        let layer = case.layer(&bench.victim);
        if !is_plain(&layer) || layer.len() > 16 << 10 {
            continue;
        }
        for cut in cuts(layer.len()).into_iter().filter(|cut| cut.is_multiple_of(512)) {
            driver.create(&id, Some(&base), &CreateOptions::default(), &context).unwrap();
            let mut reader = Reader::new(layer[..cut].take(u64::MAX), Limits::default());
            if let Err(error) = driver.apply(&id, &mut reader, &context)
                && error.code().is_none()
            {
                println!("{} at {cut}: {error}", case.name);
            }
            if let Err(error) = driver.remove(&id) {
                println!("{} at {cut}: cannot be removed: {error}", case.name);
                return;
            }
        }
        for line in bench.left().into_iter().chain(bench.canary.changes().unwrap()) {
            println!("{}: {line}", case.name);
        }
    }
}
