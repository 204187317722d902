//! Random trees, changesets and edits: both encodings against the oracle and the kernel.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use layerstore_changeset::Context;
use layerstore_changeset::encoding::overlay::Namespace;
use layerstore_changeset::tree::{self, View};
use layerstore_sys::Dir;
use layerstore_testkit::strategy::{self, Options};
use layerstore_testkit::{Tree, differences, model, read_tree_at};
use proptest::prelude::*;
use support::*;

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(96)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn a_changeset_means_what_the_oracle_says_in_both_encodings(
        lower in strategy::tree(Options::default(), 25),
        first in strategy::changeset(Options::default(), 25),
        second in strategy::changeset(Options::default(), 12),
        threads in prop::sample::select(vec![1_usize, 3]),
        user in any::<bool>(),
        raw in proptest::bool::weighted(0.25),
    ) {
        let namespace = if user { Namespace::User } else { Namespace::Trusted };
        let mut stage = Stage::on(layerstore_testkit::scratch::scratch_dir().unwrap(), &lower, namespace);
        let mut expected = lower;
        for (round, changes) in [first, second].into_iter().enumerate() {
            // Most random changesets are refused somewhere, and then show little: mostly without what is.
            let changes = if raw { changes } else { model::accepted(&expected, &changes) };
            let outcome = model::apply(&expected, &changes);
            let flat = stage.apply_flat(&changes, threads);
            let overlay =
                if round == 0 { stage.apply_overlay(&changes, threads) } else { stage.apply_again(&changes) };
            match outcome {
                Err(model_code) => {
                    prop_assert_eq!(code(&flat.unwrap_err()), model_code.0);
                    prop_assert_eq!(code(&overlay.unwrap_err()), model_code.0);
                    return Ok(());
                }
                Ok(tree) => expected = tree,
            }
            let (flat, overlay) = (flat.unwrap(), overlay.unwrap());
            prop_assert_eq!(&flat.relocated, &overlay.relocated);
            prop_assert_eq!((flat.entries, flat.bytes, flat.replaced), (overlay.entries, overlay.bytes, overlay.replaced));
            if let Some(counted) = overlay.usage {
                let walked = tree::measure(&stage.view().layers()[0], 2, &Context::new()).unwrap();
                prop_assert_eq!(counted, walked, "usage");
            }
            prop_assert_eq!(differences(&expected, &read_tree_at(&stage.flat).unwrap()), None, "flat");
            prop_assert_eq!(differences(&expected, &read_view(&stage.view())), None, "view");
            prop_assert_eq!(differences(&expected, &stage.merged()), None, "kernel");
        }
    }

    #[test]
    fn the_difference_of_two_trees_is_the_oracles_and_leads_from_one_to_the_other(
        base in strategy::tree(Options::default(), 25),
        changes in strategy::changeset(Options::default(), 25),
        unrelated in strategy::tree(Options::default(), 15),
    ) {
        let mut stage = Stage::new(&base);
        let changes = model::accepted(&base, &changes);
        for now in [model::apply(&base, &changes).unwrap_or_else(|_| unrelated.clone()), unrelated] {
            let other = Stage::new(&now);
            let expected = model::diff(&base, &now);
            let found = diff(&stage.flat_view(), &other.flat_view());
            prop_assert_eq!(model::changeset_differences(&expected, &found), None, "flat");
            let applied = Stage::new(&base);
            applied.apply_flat(&found, 2).unwrap();
            prop_assert_eq!(differences(&now, &read_tree_at(&applied.flat).unwrap()), None, "flat applied");
            stage.apply_overlay(&found, 2).unwrap();
            prop_assert_eq!(differences(&now, &stage.merged()), None, "overlay applied");
            let again = diff(&stage.view_of(1), &stage.view());
            prop_assert_eq!(model::changeset_differences(&expected, &again), None, "overlay");
            let empty = tree::compare(&other.flat_view(), &stage.view(), 10, &Context::new()).unwrap();
            prop_assert!(empty.is_empty(), "{:?}", empty);
            stage.layers.truncate(1);
            std::fs::remove_dir_all(stage.folder.path().join("layer1")).unwrap();
        }
    }

    #[test]
    fn what_is_done_through_the_kernels_overlay_is_read_and_told_like_a_plain_tree(
        lower in strategy::tree(Options::default(), 25),
        rounds in prop::collection::vec(strategy::edits(Options::default(), 25), 1..4),
        user in any::<bool>(),
    ) {
        let namespace = if user { Namespace::User } else { Namespace::Trusted };
        let mut stage = Stage::on(layerstore_testkit::scratch::scratch_dir().unwrap(), &lower, namespace);
        for (round, edits) in rounds.iter().enumerate() {
            stage.add_layer();
            stage.mounted(|path| {
                let root = Dir::open(path).unwrap();
                for edit in edits {
                    let _ = edit.perform(&root);
                }
            });
            // A mount that did the edits shows links to a copied-up symlink as two inodes; a new one does not.
            stage.mounted(|path| {
                let root = Dir::open(path).unwrap();
                let copy = stage.folder.path().join(format!("copy{round}"));
                std::fs::create_dir(&copy).unwrap();
                tree::copy_tree(&root, &Dir::open(&copy).unwrap(), 2, &Context::new()).unwrap();
            });
            let copied = stage.folder.path().join(format!("copy{round}"));
            let merged = stage.merged();
            prop_assert_eq!(differences(&merged, &read_tree_at(&copied).unwrap()), None, "copy");
            prop_assert_eq!(differences(&merged, &read_view(&stage.view())), None, "view");
            let before = read_view(&stage.view_of(stage.layers.len() - 1));
            let expected = model::diff(&before, &merged);
            let found = diff(&stage.view_of(stage.layers.len() - 1), &stage.view());
            prop_assert_eq!(model::changeset_differences(&expected, &found), None, "against the parent");
            let from_base = model::diff(&lower, &merged);
            let found = diff(&stage.view_of(1), &View::flat(Dir::open(&copied).unwrap()));
            prop_assert_eq!(model::changeset_differences(&from_base, &found), None, "copy against the base");
            let found = diff(&stage.view_of(1), &stage.view());
            prop_assert_eq!(model::changeset_differences(&from_base, &found), None, "view against the base");
        }
    }

    #[test]
    fn many_threads_give_what_one_gives(
        changes in strategy::changeset(Options::default(), 60),
    ) {
        let stages: Vec<Stage> = [1, 2, 8]
            .into_iter()
            .map(|threads| {
                let stage = Stage::new(&Tree::new());
                let _ = stage.apply_flat(&changes, threads);
                stage
            })
            .collect();
        if model::apply(&Tree::new(), &changes).is_ok() {
            let serial = read_tree_at(&stages[0].flat).unwrap();
            for stage in &stages[1..] {
                prop_assert_eq!(differences(&serial, &read_tree_at(&stage.flat).unwrap()), None);
            }
        }
    }
}
