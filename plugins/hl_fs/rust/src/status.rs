//! What stat(2) and statvfs(3) tell.
use crate::FileKind;
use rustix::fs::Statx;

/// What stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Status {
    /// A `FileKind`.
    pub kind: u32,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Names the file has.
    pub nlink: u64,
    /// Inode number.
    pub inode: u64,
    /// Device number of the host.
    pub device: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access, in ns since 1970.
    pub atime_ns: i64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Last change of the status.
    pub ctime_ns: i64,
}

/// What statvfs(3) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Space {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks the mount may have.
    pub blocks: u64,
    /// Blocks that may still be written.
    pub blocks_free: u64,
    /// Names the mount may have.
    pub files: u64,
    /// Names that may still be made.
    pub files_free: u64,
    /// Bytes of a name.
    pub name_max: u64,
}

impl From<&Statx> for Status {
    fn from(status: &Statx) -> Status {
        let time = |time: rustix::fs::StatxTimestamp| {
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
        };
        Status {
            kind: FileKind::of(status) as u32,
            mode: u32::from(status.stx_mode) & 0o7777,
            size: status.stx_size,
            nlink: u64::from(status.stx_nlink),
            inode: status.stx_ino,
            device: rustix::fs::makedev(status.stx_dev_major, status.stx_dev_minor),
            blocks: status.stx_blocks,
            atime_ns: time(status.stx_atime),
            mtime_ns: time(status.stx_mtime),
            ctime_ns: time(status.stx_ctime),
        }
    }
}
