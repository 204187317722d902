//! Extended attributes that a layer must not bring and a diff must not show.

/// Whether an attribute belongs to a storage driver, a file system or the host's security modules, not to the image: such
/// attributes are dropped from layers with a warning (reading them would let a layer hide or expose lower
/// content, or forge labels) and never appear in a diff.
pub fn is_reserved(name: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 4] =
        [b"trusted.overlay.", b"user.overlay.", b"user.containers.", b"user.fuseoverlayfs."];
    const NAMES: [&[u8]; 7] = [
        // How xfs shows a POSIX ACL a second time (fs/xfs/libxfs/xfs_format.h); setting it would set the ACL.
        b"trusted.SGI_ACL_FILE",
        b"trusted.SGI_ACL_DEFAULT",
        b"user.rootlesscontainers",
        b"security.selinux",
        b"security.ima",
        b"security.evm",
        b"system.nfs4_acl",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// The access ACL, in the kernel's xattr form (`linux/posix_acl_xattr.h`).
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The ACL that a directory gives to new entries.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// A file capability (`linux/capability.h`, `struct vfs_cap_data`).
pub const CAPABILITY: &[u8] = b"security.capability";
