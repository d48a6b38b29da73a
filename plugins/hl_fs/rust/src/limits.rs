//! The limits of one file system and their defaults.

/// How much a guest may use; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Limits {
    /// Open handles, of files and directories together. Over it: EMFILE.
    pub handles: u64,
    /// Bytes of a path. Over it: ENAMETOOLONG.
    pub path_bytes: u64,
    /// Components of a path, and levels of a tree of directories. Over it: ENAMETOOLONG.
    pub depth: u64,
    /// Bytes that one read or write moves; more is cut short.
    pub call_bytes: u64,
    /// Entries that one listing call returns; the next call goes on behind them.
    pub list_entries: u64,
    /// Bytes of a file, holes included, that a write or truncate may reach. Over it: EDQUOT.
    pub file_bytes: u64,
    /// Bytes of all files in a mount, holes included. Over it: ENOSPC.
    pub mount_bytes: u64,
    /// Names in a mount: files, directories and links. Over it: ENOSPC.
    pub mount_files: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handles: 1024,
            path_bytes: 4096,
            depth: 64,
            call_bytes: 16 << 20,
            list_entries: 10_000,
            file_bytes: 4 << 30,
            mount_bytes: 16 << 30,
            mount_files: 1_000_000,
        }
    }
}

impl Limits {
    /// Whether what a mount holds need not be counted.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.mount_bytes == u64::MAX && self.mount_files == u64::MAX
    }
}
