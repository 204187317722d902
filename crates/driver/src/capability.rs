//! What a driver can do. Every field is read by at least one conformance case; an operation that is not claimed
//! answers [`Unsupported`](crate::Kind::Unsupported).

/// What a driver, as opened, can do. Write every field out: a new one must be a decision of each driver.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Full copies of whole trees: never selected without a warning while another driver works.
    pub last_resort: bool,
    /// Through a mount, a hard-link group stays one file when a lower member is written (overlay breaks the
    /// group at copy-up).
    pub links_survive_copy_up: bool,
    /// Through a mount, a directory that a lower layer has can be renamed (else `EXDEV`).
    pub rename_lower_directory: bool,
    /// The cost of a diff against the parent follows the number of changes, not the size of the tree.
    pub diff_follows_changes: bool,
    /// A layer can be created and applied without its parent, which `seal` then gives.
    pub rebase: bool,
    /// `CreateOptions::size_limit` is enforced.
    pub size_limit: bool,
    /// `PlanOptions::id_mapping` is done by the kernel, without changing a file.
    pub id_mapped: bool,
    /// `PlanOptions::volatile` skips syncing at unmount.
    pub volatile: bool,
    /// A plan can be said as mount strings for those who mount by themselves.
    pub mount_strings: bool,
    /// Layers may hold device nodes other than the whiteout (needs privilege).
    pub devices: bool,
    /// Layers may hold xattrs of the namespaces `trusted` and `security` (needs privilege).
    pub privileged_xattrs: bool,
    /// Most layers in one chain, the topmost counted; none is no limit below 4,096.
    pub max_chain: Option<u32>,
}
