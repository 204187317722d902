//! Clause A23: layers that were made to harm, read from their archives as a store reads them.
//!
//! The archives are those of the corpus ([`layerstore_testkit::hostile`]), of each class the cases that have led to
//! advisories elsewhere. What comes of each is written down there: the code that refuses it, or the tree.

use std::collections::BTreeSet;

use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::tar::Reader;
use layerstore_changeset::{Code, Limits};
use layerstore_testkit::Tree as Shown;
use layerstore_testkit::hostile::canary::Canary;
use layerstore_testkit::hostile::{self, Expected, trees};

use super::super::prelude::*;
use super::kit;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "A23",
        name: "names_stay_inside",
        title: "names that climb, are absolute, empty, too long or no names at all are refused or land inside the root",
        needs: &[],
        run: |bench| run(bench, NAMES),
    },
    Case {
        clause: "A23",
        name: "symlinks_stay_inside",
        title: "symlinks that point out, are replaced, or take the place of a directory lead nothing outside the root",
        needs: &[],
        run: |bench| run(bench, SYMLINKS),
    },
    Case {
        clause: "A23",
        name: "hard_links_stay_inside",
        title: "hard links to what lies outside, to themselves, to directories and to symlinks touch nothing else",
        needs: &[],
        run: |bench| run(bench, HARD_LINKS),
    },
    Case {
        clause: "A23",
        name: "whiteouts_stay_inside",
        title: "whiteouts of `..`, of nothing, through symlinks and beside what they name hide what the lower has there and nothing else",
        needs: &[],
        run: |bench| run(bench, WHITEOUTS),
    },
    Case {
        clause: "A23",
        name: "attributes_mean_nothing_to_the_driver",
        title: "a driver's own marks, devices that are whiteouts, ids that wrap and times that are none are dropped or refused",
        needs: &[],
        run: |bench| run(bench, ATTRIBUTES),
    },
    Case {
        clause: "A23",
        name: "archives_have_one_reading",
        title: "what programs would read differently, what is cut, damaged or much from little is refused, or bounded",
        needs: &[],
        run: |bench| run(bench, STREAMS),
    },
];

const NAMES: &[&str] = &[
    "A01_", "A02_", "A03_", "A05_", "A06_", "A08_", "A09_", "A10_", "A12_", "A13_", "A14_", "A15_", "A16_",
    "A20_", "A21_", "A22_", "A23_", "A33_", "A34_",
];

const SYMLINKS: &[&str] = &[
    "B01_", "B02_", "B03_", "B05_", "B06_", "B07_", "B08_", "B09_", "B15_", "B16_", "B17_", "B18_", "B26_",
    "B32_",
];

const HARD_LINKS: &[&str] = &["C01_", "C03_", "C05_", "C06_", "C07_", "C08_", "C09_", "C11_"];

const WHITEOUTS: &[&str] = &[
    "D01_", "D02_", "D03_", "D04_", "D05_", "D06_", "D07_", "D08_", "D09_", "D13_", "D14_", "D15_", "D16_",
    "D17_", "D18_",
];

const ATTRIBUTES: &[&str] =
    &["D22_", "F03_", "F08_", "F09_", "F10_", "F11_", "F20_", "F21_", "F22_", "F27_", "F28_", "F30_", "F31_"];

const STREAMS: &[&str] = &[
    "E01_", "E16_", "E18_", "E19_", "E34_", "E36_", "E38_", "E39_", "G01_", "G02_", "G12_", "G17_", "H01_",
    "H02_", "H03_", "H05_", "H11_", "H13_", "H14_",
];

/// Applies each case to a child of the lower layer, and looks at what it shows and at what lies outside.
fn run(bench: &Bench, wanted: &[&str]) -> Outcome {
    let driver = bench.driver();
    let lower = id("lower")?;
    driver.create(&lower, None, &CreateOptions::default(), &Context::new())?;
    apply(bench, &lower, &hostile::lower())
        .map_err(|code| Failure::new(format!("the lower layer: {code:?}")))?;
    driver.seal(&lower, None, &Context::new())?;
    let below = kit::show(bench, &lower)?;
    let outside = bench.directory().join("outside");
    layerstore_sys::fs::make_dirs(&outside, 0o755)?;
    let canary = Canary::new(&outside)?;
    for start in wanted {
        let case = hostile::all().find(|case| case.name.starts_with(start));
        let case = case.ok_or_else(|| Failure::new(format!("the corpus has no {start}")))?;
        judge(bench, case, &lower, &below, &canary).map_err(|failure| failure.context(case.name))?;
        let changes = canary.changes()?;
        ensure!(changes.is_empty(), "{}: outside of the root: {}", case.name, changes.join("; "));
    }
    Ok(())
}

fn judge(bench: &Bench, case: &hostile::Case, lower: &LayerId, below: &Shown, canary: &Canary) -> Outcome {
    let driver = bench.driver();
    let layer = id("hostile")?;
    driver.create(&layer, Some(lower), &CreateOptions::default(), &Context::new())?;
    let ended = apply(bench, &layer, &case.layer(&canary.victim()));
    match (case.expected, ended) {
        (Expected::Refused(code), Err(Some(found))) if found.as_str() == code => {}
        (Expected::Either(codes), Err(Some(found))) if codes.contains(&found.as_str()) => {}
        (Expected::Either(_), Ok(())) => drop(kit::show(bench, &layer)?),
        (Expected::Accepted, Ok(())) => {
            let found = trees::delta(below, &kit::show(bench, &layer)?, &canary.victim());
            let wanted = trees::expected(case.name).unwrap_or_default();
            ensure_eq!(lines(&found), lines(&wanted), "what it adds to the lower layer and takes from it");
        }
        (expected, ended) => {
            return Err(Failure::new(format!("it should be {expected:?}, and was {ended:?}")));
        }
    }
    driver.remove(&layer)?;
    Ok(())
}

/// The lines of a recorded tree. Devices are not made everywhere, and where the victim stands in the order is up to
/// its path.
fn lines(text: &str) -> BTreeSet<String> {
    trees::without_devices(text).lines().map(str::to_owned).collect()
}

/// Applies a layer as a store does: decompressed, and read to its end. An error is told by its code.
fn apply(bench: &Bench, layer: &LayerId, bytes: &[u8]) -> Result<(), Option<Code>> {
    let limits = Limits::default();
    let code = |error: layerstore_changeset::Error| error.code();
    let stream = Decompressor::detect(bytes, &limits).map_err(code)?;
    let mut reader = Reader::new(std::io::BufReader::new(stream), limits);
    bench.driver().apply(layer, &mut reader, &Context::new()).map_err(|error| error.code())?;
    reader.finish().map(drop).map_err(code)
}
