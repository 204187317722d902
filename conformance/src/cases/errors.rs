//! Errors, options and answers (E).

use std::path::Path;

use layerstore_changeset as changeset;
use layerstore_changeset::{ChangeSource, Code, Item};
use layerstore_driver::{DriverOptions, Error, Kind, OptionKind, Probe};
use layerstore_sys as sys;

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "E1",
        name: "an_error_names_operation_and_layer_in_one_line",
        title: "every refusal names its operation and layer, in one line of lower case",
        needs: &[],
        run: errors_name_things,
    },
    Case {
        clause: "E2",
        name: "a_refused_size_limit_makes_no_layer",
        title: "create with a size limit that is not claimed does nothing",
        needs: &[Without(Claim::SizeLimit)],
        run: refused_size_limit,
    },
    Case {
        clause: "E2",
        name: "a_refused_parent_seals_nothing",
        title: "seal with a parent that is not claimed does nothing",
        needs: &[Without(Claim::Rebase)],
        run: refused_rebase,
    },
    Case {
        clause: "E3",
        name: "a_probe_that_passes_is_followed_by_an_open",
        title: "probe of a root that is not there passes, leaves nothing behind, and open works",
        needs: &[],
        run: probe_then_open,
    },
    Case {
        clause: "E3",
        name: "a_root_where_nothing_can_be_made_is_refused_alike",
        title: "where probe finds the driver unusable, open fails with Unsupported and the same reason",
        needs: &[],
        run: unusable_root,
    },
    Case {
        clause: "E4",
        name: "an_unknown_option_or_wrong_value_is_refused",
        title: "an option that the schema lacks, or a value of the wrong kind, is InvalidInput and named",
        needs: &[],
        run: wrong_options,
    },
    Case {
        clause: "E5",
        name: "refused_input_keeps_its_code",
        title: "an apply that is refused for its input carries the stable code",
        needs: &[],
        run: refused_input,
    },
];

/// Fails unless an error is fit for a person and for a program.
fn ensure_fit(error: &Error, layer: Option<&LayerId>) -> Outcome {
    let text = error.to_string();
    ensure!(!error.operation().is_empty(), "an error without an operation: {text}");
    ensure_eq!(error.layer(), layer, "the layer that the error names: {text}");
    for line in [text.as_str(), error.message()] {
        ensure!(!line.is_empty() && !line.contains('\n'), "not one line: {line:?}");
        let coded = error.code().is_some_and(|code| line.starts_with(code.as_str()));
        ensure!(coded || !line.starts_with(char::is_uppercase), "not in lower case: {line:?}");
        ensure!(!line.ends_with('.'), "ends in a full stop: {line:?}");
    }
    Ok(())
}

fn errors_name_things(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let context = Context::new();
    let sealed = bench.sealed("sealed", None, &script())?;
    let child = bench.layer("child", Some(&sealed), &script())?;
    let missing = id("missing")?;
    let (options, changes) = (CreateOptions::default(), script().file("f", ""));
    let refusals: Vec<(&str, Option<Error>, &LayerId)> = vec![
        ("create again", driver.create(&sealed, None, &options, &context).err(), &sealed),
        (
            "create without parent",
            driver.create(&missing, Some(&id("none")?), &options, &context).err(),
            &missing,
        ),
        ("create over writable", driver.create(&missing, Some(&child), &options, &context).err(), &missing),
        ("apply", driver.apply(&missing, &mut changes.source(), &context).err(), &missing),
        ("apply to sealed", driver.apply(&sealed, &mut changes.source(), &context).err(), &sealed),
        ("diff", driver.diff(&missing, Base::Parent, &mut script(), &context).err(), &missing),
        ("changes", driver.changes(&missing, Base::Parent, &context).err(), &missing),
        ("seal", driver.seal(&missing, None, &context).err(), &missing),
        ("plan", driver.plan(&missing, &read_only()).err(), &missing),
        ("writable plan", driver.plan(&sealed, &read_write()).err(), &sealed),
        ("remove", driver.remove(&missing).err(), &missing),
        ("remove a parent", driver.remove(&sealed).err(), &sealed),
        ("layer", driver.layer(&missing).err(), &missing),
        ("usage", driver.usage(&missing, &context).err(), &missing),
        ("metadata", driver.metadata(&missing).err(), &missing),
    ];
    for (what, error, layer) in refusals {
        // That it is refused at all is what other clauses are about.
        let Some(error) = error else { continue };
        ensure_fit(&error, Some(layer)).map_err(|failure| failure.context(what))?;
        ensure!(error.kind() != Kind::System, "{what}: callers cannot act on {}: {error}", error.kind());
    }
    Ok(())
}

fn refused_size_limit(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let layer = id("limited")?;
    let options = CreateOptions { size_limit: Some(1 << 30) };
    // What is answered is clause L18; that nothing happens is this one.
    if driver.create(&layer, None, &options, &Context::new()).is_err() {
        ensure_refused!(driver.layer(&layer), NotFound, "asking for the layer that was refused");
        ensure!(driver.layers()?.is_empty(), "layers after a refused create: {:?}", driver.layers()?);
    }
    Ok(())
}

fn refused_rebase(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script())?;
    let layer = bench.layer("layer", None, &script().file("f", "1"))?;
    if driver.seal(&layer, Some(&base), &Context::new()).is_err() {
        let info = driver.layer(&layer)?;
        ensure_eq!(info.state, LayerState::Writable, "state after a refused seal");
        ensure_eq!(info.parent, None, "parent after a refused seal");
        driver.remove(&base)?;
    }
    Ok(())
}

fn probe_then_open(bench: &Bench) -> Outcome {
    let place = bench.directory().join("probed");
    sys::fs::make_dirs(&place, 0o700)?;
    let (root, runroot) = (place.join("root"), place.join("run"));
    let options = bench.open_options(&root, &runroot)?;
    for _ in 0..2 {
        match bench.factory().probe(&options)? {
            Probe::Usable => {}
            Probe::Unusable { reason, .. } => {
                return Err(Failure::new(format!("a root beside one that works is unusable: {reason}")));
            }
        }
        let left = crate::leak::files(&place)?;
        ensure!(left.is_empty(), "a probe leaves behind: {left:?}");
    }
    let driver = bench.factory().open(&options)?;
    crate::hands::sealed(&*driver, "layer", None, &script().file("f", "1"))?;
    // Probing a root that is in use is as harmless.
    ensure_eq!(bench.factory().probe(&options)?, Probe::Usable, "probe of a root in use");
    ensure_eq!(bench.view_of(&*driver, &id("layer")?)?.names(), "f", "names in a layer after a probe");
    for path in [&root, &runroot] {
        let mode = sys::fs::stat(path)?.map(|stat| stat.mode);
        ensure_eq!(
            mode.map(|mode| format!("{mode:o}")),
            Some("700".to_owned()),
            "mode of {}",
            path.display()
        );
    }
    Ok(())
}

fn unusable_root(bench: &Bench) -> Outcome {
    // procfs takes no directories, whoever asks; below a file there is nothing at all.
    let file = bench.directory().join("file");
    sys::fs::create_file(&file, 0o600)?;
    for root in [Path::new("/proc/self/layerstore-conformance").to_owned(), file.join("root")] {
        let options = bench.open_options(&root, &bench.directory().join("unusable-run"))?;
        let opened = bench.factory().open(&options);
        match bench.factory().probe(&options) {
            Ok(Probe::Usable) => {
                return Err(Failure::new(format!("a root at {} is said to be usable", root.display())));
            }
            Ok(Probe::Unusable { reason, .. }) => {
                ensure!(!reason.is_empty() && !reason.contains('\n'), "the reason is {reason:?}");
                let error = ensure_refused!(opened, Unsupported, "opening what the probe says is unusable");
                ensure!(error.message().contains(&reason), "open says {error}, probe says {reason}");
            }
            // A failure that says nothing about the driver is an answer, and then open fails as well.
            Err(error) => {
                ensure_fit(&error, None)?;
                ensure!(opened.is_err(), "open works where probe fails with {error}");
            }
        }
    }
    Ok(())
}

fn wrong_options(bench: &Bench) -> Outcome {
    let schema = bench.factory().options();
    let refuse = |key: &str, value: &str| -> Outcome {
        let checked = DriverOptions::check(schema, [(key, value)]);
        let error = ensure_refused!(checked, InvalidInput, "the option {key}={value}");
        ensure!(error.message().contains(key), "the refusal does not name {key}: {error}");
        Ok(())
    };
    refuse("no-driver-has-this", "1")?;
    let mut keys = std::collections::BTreeSet::new();
    for spec in schema {
        ensure!(keys.insert(spec.key), "the schema has {} twice", spec.key);
        ensure!(!spec.doc.is_empty(), "{} has no explanation", spec.key);
        match spec.kind {
            OptionKind::Bool => refuse(spec.key, "perhaps")?,
            OptionKind::Number { most } => {
                refuse(spec.key, "many")?;
                if let Some(more) = most.checked_add(1) {
                    refuse(spec.key, &more.to_string())?;
                }
            }
            OptionKind::Size => refuse(spec.key, "large")?,
            OptionKind::Choice(_) => refuse(spec.key, "no-such-choice")?,
            _ => {}
        }
        let default = DriverOptions::check(schema, [(spec.key, spec.default)]);
        ensure!(default.is_ok(), "the default of {} is refused: {:?}", spec.key, default.err());
    }
    Ok(())
}

/// Gives one entry and then refuses the rest.
struct Refusing(bool);

impl ChangeSource for Refusing {
    fn next(&mut self) -> changeset::Result<Option<Item<'_>>> {
        if std::mem::replace(&mut self.0, true) {
            return Err(changeset::Error::refused(
                Code::BadWhiteout,
                "bad/.wh.",
                "a whiteout without a name",
            ));
        }
        let path = changeset::RelPath::new("dir")?;
        let metadata = changeset::Metadata { mode: 0o755, ..Default::default() };
        let entry = changeset::Entry { path, kind: changeset::Kind::Directory, metadata };
        Ok(Some(Item { change: changeset::Change::Put(entry), data: None, offset: None }))
    }
}

fn refused_input(bench: &Bench) -> Outcome {
    let layer = bench.layer("layer", None, &script())?;
    let applied = bench.driver().apply(&layer, &mut Refusing(false), &Context::new());
    let error = ensure_refused!(applied, InvalidInput, "input that is refused");
    ensure_eq!(error.code(), Some(Code::BadWhiteout), "the code of {error}");
    ensure_fit(&error, Some(&layer))?;
    Ok(bench.driver().remove(&layer)?)
}
