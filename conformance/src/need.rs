//! What a case needs besides a driver: capabilities that the driver claims (or does not), and what the machine,
//! the file system and the privileges of the run can do, found out by trying it.

use std::collections::BTreeMap;
use std::path::Path;

use layerstore_driver::Capabilities;

use crate::probe;

/// One thing that a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The driver claims the capability.
    Claims(Claim),
    /// The driver does not claim the capability (for what the contract says of that).
    Without(Claim),
    /// The machine has it.
    Has(Feature),
}

impl Need {
    /// Why the case cannot run, or none when it can.
    pub fn missing(self, environment: &Environment) -> Option<String> {
        match self {
            Self::Claims(claim) => (!environment.claims.contains(&claim))
                .then(|| format!("the driver does not claim {}", claim.name())),
            Self::Without(claim) => {
                environment.claims.contains(&claim).then(|| format!("the driver claims {}", claim.name()))
            }
            Self::Has(feature) => {
                environment.missing.get(&feature).map(|reason| format!("no {}: {reason}", feature.name()))
            }
        }
    }
}

macro_rules! words {
    ($(#[$outer:meta])* $type:ident { $($(#[doc = $doc:literal])* $variant:ident = $name:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $type { $($(#[doc = $doc])* #[serde(rename = $name)] $variant,)* }

        impl $type {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word that reports and pinned files use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, for a person.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)*),)* }
            }
        }
    };
}

words! {
    /// A capability that a driver claims or does not.
    Claim {
        /// Full copies of whole trees.
        LastResort = "last_resort",
        /// Hard-link groups survive a write through a mount.
        LinksSurviveCopyUp = "links_survive_copy_up",
        /// A lower directory can be renamed through a mount.
        RenameLowerDirectory = "rename_lower_directory",
        /// The cost of a diff follows the changes.
        DiffFollowsChanges = "diff_follows_changes",
        /// A layer can be made without its parent.
        Rebase = "rebase",
        /// A size limit is enforced.
        SizeLimit = "size_limit",
        /// A view can be id-mapped.
        IdMapped = "id_mapped",
        /// A view can be volatile.
        Volatile = "volatile",
        /// A plan can be said as mount strings.
        MountStrings = "mount_strings",
        /// Layers may hold device nodes.
        Devices = "devices",
        /// Layers may hold `trusted.*` and `security.*` xattrs.
        PrivilegedXattrs = "privileged_xattrs",
        /// Chains are limited in length.
        MaxChain = "max_chain",
    }
}

impl Claim {
    /// The claims of a driver.
    pub fn of(capabilities: &Capabilities) -> Vec<Self> {
        // Written out, so that a new capability does not compile before it is a claim that cases can ask for.
        let Capabilities {
            last_resort,
            links_survive_copy_up,
            rename_lower_directory,
            diff_follows_changes,
            rebase,
            size_limit,
            id_mapped,
            volatile,
            mount_strings,
            devices,
            privileged_xattrs,
            max_chain,
        } = *capabilities;
        let all = [
            (Self::LastResort, last_resort),
            (Self::LinksSurviveCopyUp, links_survive_copy_up),
            (Self::RenameLowerDirectory, rename_lower_directory),
            (Self::DiffFollowsChanges, diff_follows_changes),
            (Self::Rebase, rebase),
            (Self::SizeLimit, size_limit),
            (Self::IdMapped, id_mapped),
            (Self::Volatile, volatile),
            (Self::MountStrings, mount_strings),
            (Self::Devices, devices),
            (Self::PrivilegedXattrs, privileged_xattrs),
            (Self::MaxChain, max_chain.is_some()),
        ];
        all.into_iter().filter_map(|(claim, is)| is.then_some(claim)).collect()
    }
}

words! {
    /// What the machine, the scratch file system and the privileges can do.
    Feature {
        /// A mount namespace of its own and the right to mount in it (CAP_SYS_ADMIN in its user namespace).
        Mounts = "mounts",
        /// Files can be given to any user (CAP_CHOWN, and a mapping of more than one id).
        Owners = "owners",
        /// The file system keeps `user.*` xattrs.
        UserXattrs = "user-xattrs",
        /// `trusted.*` xattrs can be set (CAP_SYS_ADMIN in the first user namespace).
        TrustedXattrs = "trusted-xattrs",
        /// File capabilities can be set (CAP_SETFCAP).
        FileCapabilities = "file-capabilities",
        /// The file system keeps POSIX ACLs.
        Acls = "acls",
        /// Device nodes can be made (CAP_MKNOD in the first user namespace).
        DeviceNodes = "device-nodes",
        /// The file system keeps holes and tells where they are.
        Holes = "holes",
        /// Files can share extents (FICLONE).
        Reflinks = "reflinks",
        /// A clone of a mount on the scratch file system can be id-mapped (mount_setattr, Linux 5.12).
        IdMappedMounts = "id-mapped-mounts",
        /// A process may count the system calls of its children (ptrace(2)).
        Tracing = "tracing",
        /// Files can be made immutable (`chattr +i`: a file system with inode flags, and CAP_LINUX_IMMUTABLE).
        ProtectedFiles = "protected-files",
        /// Times before 1970 and after 2038 are kept to the nanosecond.
        WideTimes = "wide-times",
    }
}

/// What a run found: the driver's claims and the machine's gaps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Environment {
    /// Type of the file system that holds the scratch directory.
    pub file_system: String,
    /// The kernel's release.
    pub kernel: String,
    /// Why the driver cannot run here at all, when it cannot.
    pub unusable: Option<String>,
    /// What the driver claims.
    pub claims: Vec<Claim>,
    /// Which features are missing, and why.
    pub missing: BTreeMap<Feature, String>,
}

impl Environment {
    /// Tries every feature in `scratch`, a directory that is empty and may be filled.
    pub fn probe(scratch: &Path) -> (String, BTreeMap<Feature, String>) {
        let missing = Feature::ALL
            .iter()
            .filter_map(|&feature| Some((feature, probe::feature(feature, scratch).err()?)))
            .collect();
        (probe::file_system(scratch), missing)
    }
}
