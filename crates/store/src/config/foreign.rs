//! Settings of podman's `storage.conf` that have no meaning here, and why: a file of podman's does what it says,
//! or the reader learns what of it counts for nothing.
//!
//! The list is that of containers-storage.conf(5), version 1.63. A setting that is empty or off asks for nothing,
//! and nothing is said about it.

use toml::de::DeValue;

/// Keys of `[storage]`.
const STORAGE: &[(&str, &str)] = &[
    ("imagestore", "images and containers share one root"),
    ("transient_store", "what dies with a reboot lies in runroot anyway, and costs no sync"),
];

/// Keys of `[storage.options]` and of the drivers' tables in it.
const OPTIONS: &[(&str, &str)] = &[
    ("additionalimagestores", "stores of others are not read"),
    ("additionallayerstores", "layers are always unpacked"),
    ("auto-userns-max-size", "id mappings are given with each mount"),
    ("auto-userns-min-size", "id mappings are given with each mount"),
    ("disable-volatile", "mounts are volatile only where that is asked for"),
    ("force_mask", "modes are always those of the layer"),
    ("ignore_chown_errors", "an owner that cannot be set is an error, because the tree would differ"),
    ("imagestore", "images and containers share one root"),
    ("inodes", "the number of a container's files is not limited"),
    ("mount_program", "views are mounted by the kernel"),
    ("mountopt", "the driver has no flags for its mounts"),
    ("override_kernel_check", "what the kernel can do is tried out"),
    ("pull_options", "layers are pulled whole"),
    ("root-auto-userns-user", "id mappings are given with each mount"),
    ("skip_mount_home", "mounts are private by themselves"),
    ("use_composefs", "layers lie as directories"),
];

/// Drivers that others have, and this program may lack. Options for them, and their names in a list of
/// priorities, are passed over.
pub(super) const DRIVERS: &[&str] = &["aufs", "btrfs", "devicemapper", "overlay", "zfs"];

/// Why a key of `[storage]` counts for nothing.
pub(super) fn storage(key: &str) -> Option<&'static str> {
    reason(STORAGE, key)
}

/// Why an option counts for nothing, unless a driver has one of that name.
pub(super) fn option(key: &str) -> Option<&'static str> {
    reason(OPTIONS, key)
}

/// Whether a table of `[storage.options]` holds no driver's options.
pub(super) fn is_no_driver(table: &str) -> bool {
    table == "pull_options" || table == "thinpool"
}

/// Whether a value asks for nothing: empty, zero or off.
pub(super) fn is_off(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => is_off_text(text),
        DeValue::Boolean(truth) => !truth,
        DeValue::Array(items) => items.iter().all(|item| is_off(item.get_ref())),
        DeValue::Table(table) => table.iter().all(|(_, value)| is_off(value.get_ref())),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => false,
    }
}

/// The same of a value that is a text already.
pub(super) fn is_off_text(text: &str) -> bool {
    text.is_empty() || text == "false"
}

fn reason(keys: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    keys.iter().find(|(name, _)| *name == key).map(|(_, reason)| *reason)
}
