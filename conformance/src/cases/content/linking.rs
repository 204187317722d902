//! Clauses A14, A15, A18, A19, A21, A22: hard links, and what an apply leaves alone.

use std::time::{Duration, Instant};

use layerstore_changeset::{
    self as changeset, ChangeSource, Chunk, Code, FileData, Item, Kind, Metadata, RelPath,
};
use layerstore_testkit::build::*;
use layerstore_testkit::model::Change;
use layerstore_testkit::{model, noise, tree};

use super::super::prelude::*;
use super::kit::{self, applied};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "A14",
        name: "a_link_is_one_inode_with_its_target",
        title: "links to new and lower names share data and metadata, and their own metadata is ignored",
        needs: &[],
        run: one_inode,
    },
    Case {
        clause: "A14",
        name: "a_link_keeps_the_group_of_its_target",
        title: "a link to one name of a lower group joins the whole group",
        needs: &[],
        run: whole_group,
    },
    Case {
        clause: "A15",
        name: "a_link_to_nothing_is_refused",
        title: "links to missing names, directories and themselves are refused with their codes",
        needs: &[],
        run: bad_links,
    },
    Case {
        clause: "A18",
        name: "a_second_apply_adds_to_the_first",
        title: "what the first apply put is lower to the second: it can be removed, linked to and passed through",
        needs: &[],
        run: second_apply,
    },
    Case {
        clause: "A19",
        name: "a_mounted_layer_is_in_use",
        title: "apply to a layer with a writable mount is InUse, and works once it is unmounted",
        needs: &[Has(Feature::Mounts)],
        run: mounted,
    },
    Case {
        clause: "A21",
        name: "a_cancelled_apply_ends_within_a_second",
        title: "an endless changeset of small files is Cancelled, and the layer can be removed",
        needs: &[],
        run: cancelled_between,
    },
    Case {
        clause: "A21",
        name: "a_cancelled_apply_ends_in_the_middle_of_a_file",
        title: "an endless file is Cancelled, and the layer can be removed",
        needs: &[],
        run: cancelled_within,
    },
    Case {
        clause: "A22",
        name: "an_apply_changes_no_other_layer",
        title: "parent and sibling show the same tree after a child replaced, linked, chmodded and removed everything",
        needs: &[],
        run: no_other_layer,
    },
];

fn one_inode(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a14-low" => file("lower").mode(0o4755).mtime(14, 14), "a14-symlink" => symlink("a14-low").mtime(1, 1), "a14-fifo" => fifo(),
    };
    applied(
        bench,
        &lower,
        &[
            &[
                put("a14-x", file("new").mtime(15, 15)),
                put("a14-y", link("a14-x")),
                put("a14-d/z", link("a14-y")),
            ],
            &[put("a14-x", link("a14-low")), put("a14-d/y", link("a14-x"))],
            &[put("a14-s", link("a14-symlink")), put("a14-f", link("a14-fifo"))],
            &[put("a14-x", link("a14-low")), remove("a14-low")],
            &[put("a14-d", dir(0o700).mtime(2, 2)), put("a14-d/x", file("x")), put("a14-y", link("a14-d/x"))],
            &[put("a14-symlink", link("a14-low"))],
        ],
    )
}

fn whole_group(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a14-a" => file("group").mtime(1, 1), "a14-b" => link("a14-a"), "a14-d" => dir(0o755).mtime(3, 3), "a14-d/c" => link("a14-a"),
        "a14-s" => symlink("x"), "a14-t" => link("a14-s"),
    };
    applied(
        bench,
        &lower,
        &[
            &[put("a14-new", link("a14-b"))],
            &[put("a14-b", link("a14-a"))],
            &[put("a14-new", link("a14-d/c")), remove("a14-a")],
            &[put("a14-u", link("a14-t"))],
        ],
    )
}

fn bad_links(bench: &Bench) -> Outcome {
    let lower = tree! { "a15-file" => file("x"), "a15-dir/x" => file("x"), "a15-way" => symlink("a15-dir") };
    let missing = Code::LinkTargetMissing;
    kit::refused(
        bench,
        &lower,
        &[
            (&[put("a15-x", link("a15-nothing"))], missing),
            (&[put("a15-x", link("a15-nothing/below"))], missing),
            (&[remove("a15-file"), put("a15-x", link("a15-file"))], missing),
            (&[put("a15-x", link("a15-y")), put("a15-y", file("too late"))], missing),
            (&[put("a15-x", link("a15-dir"))], Code::LinkToDir),
            (&[put("a15-new", dir(0o755)), put("a15-x", link("a15-new"))], Code::LinkToDir),
            (&[put("a15-file", link("a15-file"))], Code::LinkSelf),
            (&[put("a15-dir/x", link("a15-way/x"))], Code::LinkSelf),
        ],
    )
}

fn second_apply(bench: &Bench) -> Outcome {
    let (base, lower) = kit::base(bench, &tree! { "a18-low/x" => file("lower"), "a18-old" => file("old") })?;
    let first = [
        put("a18-dir", dir(0o711).mtime(18, 18)),
        put("a18-dir/one", file("1")),
        put("a18-dir/two", file("2")),
        put("a18-low/y", file("y")),
        remove("a18-old"),
        put("a18-full/x", file("x")),
    ];
    let second = [
        put("a18-dir/three", file("3")),
        remove("a18-dir/one"),
        put("a18-link", link("a18-dir/two")),
        remove("a18-low"),
        opaque("a18-full"),
        put("a18-old", file("new")),
    ];
    let child = kit::layer(&**bench.driver(), "child", Some(&base), &first)?;
    bench.driver().apply(&child, &mut kit::stream(&second), &Context::new())?;
    let expected = model::apply(&lower, &first).and_then(|view| model::apply(&view, &second));
    let expected = expected.map_err(|refused| Failure::new(refused.0))?;
    kit::ensure_same(&expected, &kit::show(bench, &child)?, "the layer after two applies")
}

fn mounted(bench: &Bench) -> Outcome {
    let (child, view) = kit::writable(bench, "child", None)?;
    let changes = [put("a19-x", file("x"))];
    let context = Context::new();
    ensure_refused!(
        bench.driver().apply(&child, &mut kit::stream(&changes), &context),
        InUse,
        "apply to a mounted layer"
    );
    ensure!(kit::shown(&view)?.get("a19-x").is_none(), "the refused apply wrote into the mounted layer");
    view.unmount()?;
    bench.driver().apply(&child, &mut kit::stream(&changes), &context)?;
    Ok(())
}

/// Files without end, or one file without end; gives up by itself after ten seconds.
#[derive(Debug)]
struct Endless {
    started: Instant,
    entries: u64,
    one_file: bool,
    block: Vec<u8>,
}

impl Endless {
    fn new(one_file: bool) -> Self {
        Self { started: Instant::now(), entries: 0, one_file, block: noise(21, 256 << 10) }
    }

    fn give_up(&self) -> changeset::Result<()> {
        if self.started.elapsed() > Duration::from_secs(10) {
            return Err(changeset::Error::stream(
                "read",
                std::io::Error::other("nobody cancelled for ten seconds"),
            ));
        }
        Ok(())
    }
}

impl ChangeSource for Endless {
    fn next(&mut self) -> changeset::Result<Option<Item<'_>>> {
        self.give_up()?;
        self.entries += 1;
        let path = RelPath::new(format!("a21-{}/file{}", self.entries / 1000, self.entries))?;
        let size = if self.one_file { 1 << 50 } else { 0 };
        let entry = changeset::Entry { path, kind: Kind::File { size }, metadata: Metadata::default() };
        Ok(Some(Item { change: changeset::Change::Put(entry), data: Some(self), offset: None }))
    }
}

impl FileData for Endless {
    fn next_chunk(&mut self) -> changeset::Result<Option<Chunk<'_>>> {
        self.give_up()?;
        // Slowly, or the disk would be full before anybody could cancel.
        std::thread::sleep(Duration::from_millis(5));
        Ok(self.one_file.then_some(Chunk::Data(&self.block)))
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

fn cancelled(bench: &Bench, one_file: bool) -> Outcome {
    let child = kit::layer(&**bench.driver(), "a21-child", None, &[])?;
    let context = Context::new();
    let cancel = context.clone();
    let timer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
        Instant::now()
    });
    let result = bench.driver().apply(&child, &mut Endless::new(one_file), &context);
    let ended = Instant::now();
    let since = timer.join().map_err(|_| Failure::new("the timer failed"))?;
    ensure_refused!(result, Cancelled, "an apply without end that was cancelled");
    let late = ended.saturating_duration_since(since);
    ensure!(late < Duration::from_secs(1), "it took {late:?} to notice that it was cancelled");
    Ok(bench.driver().remove(&child)?)
}

fn cancelled_between(bench: &Bench) -> Outcome {
    cancelled(bench, false)
}

fn cancelled_within(bench: &Bench) -> Outcome {
    cancelled(bench, true)
}

fn no_other_layer(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a22-file" => file("data").mtime(1, 1), "a22-group" => file("group"), "a22-other" => link("a22-group"),
        "a22-dir" => dir(0o700).mtime(2, 2), "a22-dir/x" => file(noise(3, 100_000)), "a22-symlink" => symlink("a22-dir"),
    };
    let (base, lower) = kit::base(bench, &lower)?;
    let sibling = kit::layer(&**bench.driver(), "sibling", Some(&base), &[put("a22-own", file("own"))])?;
    let beside = kit::show(bench, &sibling)?;
    let changes: Vec<Change> = vec![
        put("a22-file", file("replaced").mode(0o600)),
        put("a22-new", link("a22-group")),
        put("a22-group", file("apart")),
        put("a22-dir", dir(0o755).mtime(9, 9)),
        put("a22-dir/more", file("more")),
        put("a22-symlink/through", link("a22-dir/x")),
        remove("a22-dir/x"),
        put("", dir(0o700).mtime(5, 5)),
    ];
    kit::layer(&**bench.driver(), "a22-child", Some(&base), &changes)?;
    kit::ensure_same(&lower, &kit::show(bench, &base)?, "the parent after its child was applied")?;
    kit::ensure_same(&beside, &kit::show(bench, &sibling)?, "the sibling after a layer beside it was applied")
}
