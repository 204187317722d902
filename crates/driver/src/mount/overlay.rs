//! What every way of mounting an overlay has in common: its options, and what a volatile mount leaves behind.

use layerstore_sys::mount::Flags;
use layerstore_sys::{self as sys, Dir, Errno};

use crate::plan::{MountPlan, Overlay, OverlayFeatures, Source, Upper};

/// One option, with a value or without.
pub(super) type Option_ = (&'static str, Option<&'static str>);

/// The features as options, each set explicitly: what the module's parameters say must not matter.
pub(super) fn options(features: &OverlayFeatures) -> Vec<Option_> {
    let on = |on: bool| Some(if on { "on" } else { "off" });
    let mut options = vec![
        // "off" would still follow redirects where the module's parameter says so.
        ("redirect_dir", Some(if features.redirect_dir { "on" } else { "nofollow" })),
        ("metacopy", on(features.metacopy)),
        ("index", on(features.index)),
        ("nfs_export", Some("off")),
        ("xino", Some(if features.xino { "auto" } else { "off" })),
    ];
    if features.userxattr {
        options.push(("userxattr", None));
    }
    if features.volatile {
        options.push(("volatile", None));
    }
    options
}

/// The same, less what an old kernel does not know: an option that has a parameter of the module is left out
/// where the parameter is missing (redirect_dir: Linux 4.10; index: 4.13; nfs_export: 4.16; xino: 4.17;
/// metacopy: 4.19). Such a kernel does what "off" says.
pub(super) fn known_options(features: &OverlayFeatures) -> Vec<Option_> {
    let parameters = Dir::open("/sys/module/overlay/parameters").ok();
    let mut options = options(features);
    options.retain(|&(key, value)| {
        let parameter = if key == "xino" { "xino_auto" } else { key };
        let (Some(parameters), Some("off" | "nofollow")) = (&parameters, value) else { return true };
        !matches!(parameters.try_stat(parameter.as_bytes()), Ok(None))
    });
    options
}

/// The options as text for mount(2), after the directories; values hold no byte that needs escaping.
pub(super) fn join(options: &[Option_]) -> Vec<String> {
    let text = |&(key, value): &Option_| match value {
        Some(value) => format!("{key}={value}"),
        None => key.to_owned(),
    };
    options.iter().map(text).collect()
}

/// Removes the mark of a volatile mount, which makes every later mount fail (`work/incompat/volatile` in the
/// work directory; Documentation/filesystems/overlayfs.rst, "Volatile mount"). Whoever asks for another mount has
/// decided that the data is good enough.
pub(super) fn forget_volatile(directory: &Dir, upper: &Upper) -> sys::Result<()> {
    let mut parent = directory.clone();
    for name in [upper.work.as_bytes(), b"work", b"incompat"] {
        match parent.open_dir(name) {
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            opened => parent = opened?,
        }
    }
    sys::remove::tree(&parent, b"volatile")
}

/// Whether a layer is an overlay that maps ids already: the kernel maps no mount of one, only its layers.
pub(super) fn maps_itself(source: &Source) -> bool {
    match source {
        Source::Plan { plan, .. } => {
            matches!(&**plan, MountPlan::Overlay(inner) if inner.id_mapping.is_some())
        }
        Source::Path(_) => false,
    }
}

/// The flags of its mount. One without an upper directory is read-only by itself, and says so.
pub(super) fn flags(overlay: &Overlay) -> Flags {
    overlay.flags.of_mount(overlay.upper.is_none())
}
