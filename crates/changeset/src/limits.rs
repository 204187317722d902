//! Limits against hostile input. They count what really comes, never what a header claims, and none is a ratio.

/// Limits of one changeset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most entries of one changeset.
    pub entries: u64,
    /// Most bytes of file data, holes counted as written by the producer (data only).
    pub bytes: u64,
    /// Most bytes of one extension record (PAX header, GNU long name).
    pub extension_bytes: u64,
    /// Most bytes of one extended attribute's value (`XATTR_SIZE_MAX`).
    pub xattr_value_bytes: usize,
    /// Most extended attributes of one entry.
    pub xattrs: usize,
    /// Largest zstd window, as a power of two. The usual 27 is 128 MiB, what `zstd --ultra -22` writes and the `zstd`
    /// program itself takes without being asked; the window is memory, as far as the stream fills it.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: u64::MAX,
            extension_bytes: 1 << 20,
            xattr_value_bytes: 64 << 10,
            xattrs: 1_000,
            zstd_window_log: 27,
        }
    }
}
