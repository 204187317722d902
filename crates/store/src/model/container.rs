//! Containers.

use std::path::PathBuf;

use layerstore_changeset::Digest;
use layerstore_driver::{Access, IdMapping, LayerId, MountFlags};

/// A container: a writable layer over an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The image it was made of; the image itself may be gone.
    pub image: Digest,
    /// What that image was called when the container was made; none when the name does not lead to it any more.
    pub image_name: Option<String>,
    /// Its writable layer.
    pub layer: LayerId,
    /// When it was made, in nanoseconds since 1970.
    #[serde(serialize_with = "super::time")]
    pub created: i64,
    /// Most bytes that its layer may take.
    pub size_limit: Option<u64>,
    /// Words that runtimes attach.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Where it is mounted now, as the kernel sees it from this mount namespace.
    #[serde(serialize_with = "super::paths")]
    pub mounts: Vec<PathBuf>,
    /// Whether it has a mount anywhere, other mount namespaces included.
    pub mounted: bool,
}

/// How a container is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerOptions {
    /// A name that no other container has: letters, digits, `_`, `.`, `-`.
    pub name: Option<String>,
    /// Most bytes that its layer may take (needs the driver's capability `size_limit`); none for what the
    /// configuration says (`size` among the driver's options), which is no limit by default.
    pub size_limit: Option<u64>,
    /// Words that runtimes attach.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// How a container or layer is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Where; none for `RUNROOT/mnt/ID`, which is made.
    pub target: Option<PathBuf>,
    /// Refuses writing.
    pub read_only: bool,
    /// Nothing written has to survive a crash (needs the driver's capability `volatile`).
    pub volatile: bool,
    /// Shows the ids on disk as others (needs the driver's capability `id_mapped`).
    pub id_mapping: Option<IdMapping>,
    /// An SELinux label for every file.
    pub label: Option<String>,
    /// What the mount refuses or leaves out; none for what the configuration says
    /// ([`Store::mount_flags`](crate::Store::mount_flags)).
    pub flags: Option<MountFlags>,
}

impl MountOptions {
    /// What may be done in the mount.
    pub(crate) fn access(&self) -> Access {
        if self.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }
}
