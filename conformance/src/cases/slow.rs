//! Which cases are slow, so that a run of many runs can leave out those that it is not about.
//!
//! Every saboteur has the whole suite run over it, and what takes long there are a few cases that have little to do
//! with what it breaks. A case belongs in this table when it takes over a tenth of a second with the reference driver
//! on tmpfs and an idle machine: the sixteen of them take three quarters of the suite's time.

/// Full names of the slow cases.
pub(super) const SLOW: &[&str] = &[
    "a1::every_kind_is_put_with_its_metadata",
    "a4::random_changesets_mean_what_the_oracle_says",
    "l13::another_handle_finds_every_layer",
    "l14::killed_in_apply",
    "l14::killed_in_create",
    "l14::killed_in_remove",
    "l14::killed_in_seal",
    "l17::a_chain_of_128_layers_works",
    "m4::read_only_views_are_not_limited",
    "n1::random_trees_are_diffed_as_the_oracle_says",
    "n11::a_diff_meanwhile_is_in_or_out",
    "p1::fifty_threads_do_not_disturb_each_other",
    "v1::128_layers_are_one_view",
    "v1::500_layers_are_one_view",
    "v2::random_edits_give_what_a_plain_directory_gives",
    "x1::what_one_driver_diffs_every_other_applies",
    "x2::the_tar_is_the_same_from_every_driver",
];
