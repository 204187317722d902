//! Limits of chains and layers, and layers made without their parent (L17-L19).

use nix::errno::Errno;

use super::prelude::*;
use super::size_limit::unprivileged;

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "L17",
        name: "a_chain_of_128_layers_works",
        title: "a chain of 128 layers can be made, and its top shows every layer",
        needs: &[],
        run: chain_of_128,
    },
    Case {
        clause: "L17",
        name: "one_layer_more_than_max_chain_is_refused",
        title: "create beyond max_chain is LimitExceeded and leaves nothing",
        needs: &[Claims(Claim::MaxChain)],
        run: one_too_many,
    },
    Case {
        clause: "L18",
        name: "writing_beyond_the_size_limit_fails",
        title: "more data than the limit is ENOSPC or EDQUOT, and the layer stays usable",
        needs: &[Claims(Claim::SizeLimit), Has(Feature::Mounts)],
        run: size_limit_holds,
    },
    Case {
        clause: "L18",
        name: "a_size_limit_that_is_not_claimed_is_refused",
        title: "create with a size limit is Unsupported without the capability",
        needs: &[Without(Claim::SizeLimit)],
        run: size_limit_is_refused,
    },
    Case {
        clause: "L19",
        name: "a_layer_sealed_with_its_parent_shows_what_it_would_over_it",
        title: "a layer applied without its parent shows after the seal what it shows when created over it",
        needs: &[Claims(Claim::Rebase)],
        run: rebase,
    },
    Case {
        clause: "L19",
        name: "a_parent_at_the_seal_that_is_not_claimed_is_refused",
        title: "seal with another parent than the layer's is Unsupported without the capability",
        needs: &[Without(Claim::Rebase)],
        run: rebase_is_refused,
    },
];

/// Makes a chain of so many layers, each with a file of its own, and gives the topmost.
fn chain(bench: &Bench, length: u32) -> Outcome<LayerId> {
    let mut top = None;
    for number in 0..length {
        let changes =
            script().file(format!("f{number}"), format!("{number}")).file("top", format!("{number}"));
        top = Some(bench.sealed(&format!("layer{number}"), top.as_ref(), &changes)?);
    }
    top.ok_or_else(|| Failure::new("a chain of no layers"))
}

/// The least that the contract asks of every driver.
const LEAST: u32 = 128;

fn chain_of_128(bench: &Bench) -> Outcome {
    let capabilities = bench.driver().capabilities();
    ensure!(
        capabilities.max_chain.is_none_or(|most| most >= LEAST),
        "max_chain is {:?}",
        capabilities.max_chain
    );
    let top = chain(bench, LEAST)?;
    let view = bench.view(&top)?;
    for number in 0..LEAST {
        ensure_eq!(
            view.at(format!("f{number}"))?.data,
            format!("{number}").as_bytes(),
            "file of layer {number}"
        );
    }
    ensure_eq!(view.at("top")?.data, b"127", "the topmost layer's file");
    Ok(())
}

fn one_too_many(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let Some(most) = driver.capabilities().max_chain else {
        return Err(Failure::new("max_chain is claimed and none"));
    };
    let context = Context::new();
    let mut top: Option<LayerId> = None;
    for number in 0..most {
        let layer = id(&format!("layer{number}"))?;
        driver.create(&layer, top.as_ref(), &CreateOptions::default(), &context)?;
        driver.seal(&layer, None, &context)?;
        top = Some(layer);
    }
    let more = id("one-too-many")?;
    let made = driver.create(&more, top.as_ref(), &CreateOptions::default(), &context);
    ensure_refused!(made, LimitExceeded, "creating layer {} of a chain of at most {most}", most + 1);
    ensure_refused!(driver.layer(&more), NotFound, "asking for the refused layer");
    Ok(())
}

fn size_limit_holds(bench: &Bench) -> Outcome {
    const LIMIT: u64 = 8 << 20;
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let layer = id("limited")?;
    driver.create(&layer, Some(&base), &CreateOptions { size_limit: Some(LIMIT) }, &Context::new())?;
    let mount = bench.mount(&layer)?;
    let file = mount.dir()?.create_file(b"large", 0o644)?;
    let piece = layerstore_testkit::noise(9, 1 << 20);
    // Delayed allocation may let more through than the limit, but never without end.
    let refused = unprivileged(|| {
        (0..64_u64)
            .find_map(|number| file.write_all_at(&piece, number << 20).and_then(|()| file.sync()).err())
    })?;
    drop(file);
    let Some(error) = refused else {
        return Err(Failure::new("64 MiB were written into a layer that is limited to 8 MiB"));
    };
    let errno = Errno::from_raw(error.errno().raw_os_error());
    ensure!(matches!(errno, Errno::ENOSPC | Errno::EDQUOT), "the limit says {errno}");
    mount.dir()?.unlink(b"large")?;
    mount.write("small", "2")?;
    mount.unmount()?;
    driver.seal(&layer, None, &Context::new())?;
    ensure_eq!(bench.view(&layer)?.names(), "f small", "names after the limit was met");
    Ok(())
}

fn size_limit_is_refused(bench: &Bench) -> Outcome {
    let options = CreateOptions { size_limit: Some(1 << 30) };
    let made = bench.driver().create(&id("limited")?, None, &options, &Context::new());
    let error = ensure_refused!(made, Unsupported, "a size limit");
    ensure!(!error.message().is_empty(), "the refusal has no reason");
    Ok(())
}

fn lower() -> Script {
    script()
        .dir(".")
        .mode(0o711)
        .dir("etc")
        .mode(0o750)
        .file("etc/a", "1")
        .file("etc/b", "1")
        .dir("usr/lib")
        .file("usr/lib/x", "1")
        .symlink("lib", "usr/lib")
        .dir("gone/deep")
        .file("gone/deep/f", "1")
        .dir("closed")
        .file("closed/old", "1")
        .file("becomes-dir", "1")
}

fn upper() -> Script {
    script()
        .remove("etc/a")
        .file("etc/c", "2")
        .file("lib/y", "2")
        .remove("gone")
        .file("gone/new", "2")
        .opaque("closed")
        .file("closed/new", "2")
        .dir("becomes-dir")
        .file("becomes-dir/f", "2")
        .link("linked", "usr/lib/x")
        .remove("never-there")
}

fn rebase(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &lower())?;
    let serial = bench.sealed("serial", Some(&base), &upper())?;
    let late = bench.layer("late", None, &upper())?;
    driver.seal(&late, Some(&base), &Context::new())?;
    ensure_eq!(driver.layer(&late)?.parent, Some(base.clone()), "parent of the layer");
    bench.view(&late)?.ensure_same(&bench.view(&serial)?, "the layer whose parent came late")?;
    ensure_eq!(bench.diff(&late)?.steps(), bench.diff(&serial)?.steps(), "its changeset");
    ensure_refused!(driver.remove(&base), InUse, "removing the parent that came late");
    Ok(())
}

fn rebase_is_refused(bench: &Bench) -> Outcome {
    let driver = bench.driver();
    let base = bench.sealed("base", None, &script().file("f", "1"))?;
    let late = bench.layer("late", None, &script().file("g", "2"))?;
    let error = ensure_refused!(
        driver.seal(&late, Some(&base), &Context::new()),
        Unsupported,
        "a parent given to seal"
    );
    ensure!(!error.message().is_empty(), "the refusal has no reason");
    Ok(())
}
