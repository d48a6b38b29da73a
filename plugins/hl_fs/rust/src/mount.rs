//! One granted directory: its rights, and the two ways to reach what lies beneath it.
//!
//! `node` finds an existing file, `parent` the directory in which a name is made or removed. Both let
//! cap-std resolve the path and then look at what was found, through the descriptor that was found, so
//! that nothing can be swapped in between. `look` and `open` are short cuts through the parent for a
//! last name that is no symlink; they end in the same checks.
use crate::ledger::{self, Inode, Ledger};
use crate::snapshot::Ephemeral;
use crate::{path, Error, Kind, Result};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

bitflags::bitflags! {
    /// What a guest may do in a mount.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Permissions: u32 {
        /// Read files.
        const READ = 1;
        /// Write and truncate files, set their times.
        const WRITE = 2;
        /// List directories.
        const LIST = 4;
        /// Make files, directories and links.
        const CREATE = 8;
        /// Remove files, directories and links, also by renaming something onto them.
        const REMOVE = 16;
        /// Rename within the mount.
        const RENAME = 32;
        /// Change permission bits.
        const CHMOD = 64;
        /// Go into other file systems that the host has mounted beneath the directory.
        const CROSS = 128;
    }
}

impl Permissions {
    /// Rights that change something.
    pub(crate) const CHANGE: Permissions =
        Permissions::READ.union(Permissions::LIST).union(Permissions::CROSS).complement();
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A FIFO, socket or device: visible, and never opened.
    Other = 4,
}

impl FileKind {
    pub(crate) fn of(status: &Statx) -> FileKind {
        FileKind::of_mode(status.stx_mode)
    }

    /// From the bits of st_mode, inode(7).
    pub(crate) fn of_mode(mode: u16) -> FileKind {
        match u32::from(mode) & 0o170_000 {
            0o100_000 => FileKind::File,
            0o040_000 => FileKind::Directory,
            0o120_000 => FileKind::Symlink,
            _ => FileKind::Other,
        }
    }
}

/// A directory to grant.
pub struct MountOptions<'a> {
    /// The host's directory. For an ephemeral mount: where its private directory is made, None for
    /// the system's temporary directory.
    pub host: Option<&'a Path>,
    /// Absolute path at which the guest sees it.
    pub guest: &'a [u8],
    /// What the guest may do.
    pub permissions: Permissions,
    /// Private to one file system, empty at first, gone with it.
    pub ephemeral: bool,
}

/// A granted directory.
pub struct Mount {
    pub guest: Vec<u8>,
    pub permissions: Permissions,
    pub ledger: Arc<Ledger>,
    pub ephemeral: Option<Ephemeral>,
    pub root: Dir,
    place: u64,
    root_depth: usize,
}

/// An existing file.
pub struct Node<'a> {
    pub status: Statx,
    place: Place<'a>,
}

enum Place<'a> {
    /// Held by a descriptor that allows neither reading nor writing (O_PATH).
    Held(File),
    /// Found under a name that is no symlink, or shall not be followed: two system calls less.
    Named(Parent<'a>),
}

/// A directory of a mount, and a name in it.
pub struct Parent<'a> {
    opened: Option<Dir>,
    mount: &'a Mount,
    pub name: &'a OsStr,
}

/// statx(2) of an open file.
pub fn status_of(file: impl AsFd) -> Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, mask)?)
}

/// statx(2) of one name in `parent`, not following a symlink.
pub fn status_at(parent: &Dir, name: &OsStr) -> Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, mask)?)
}

/// Which mount of the host a file is on; Linux before 5.8 tells only the device.
fn place_of(status: &Statx) -> u64 {
    if StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID) {
        return status.stx_mnt_id;
    }
    u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor)
}

/// The name under which proc(5) shows an open descriptor.
fn self_fd(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Levels between the host's root and a directory.
fn host_depth(dir: impl AsFd) -> Result<usize> {
    let path = rustix::fs::readlink(self_fd(dir), Vec::new())?;
    Ok(path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count())
}

impl Mount {
    /// Opens the directory to grant: the only place where this crate uses the host's own namespace.
    pub fn open(options: &MountOptions) -> Result<Mount> {
        path::check_mount_point(options.guest)?;
        let ephemeral = options.ephemeral.then(|| Ephemeral::new(options.host)).transpose()?;
        let host = match (&ephemeral, options.host) {
            (Some(own), _) => own.path(),
            (None, Some(host)) => host,
            (None, None) => return Err(Error::invalid(Errno::INVAL)),
        };
        let root = Dir::open_ambient_dir(host, cap_std::ambient_authority())?;
        if rustix::fs::fstatfs(&root)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
            return Err(Error::invalid(Errno::INVAL));
        }
        let status = status_of(&root)?;
        Ok(Mount {
            guest: options.guest.to_vec(),
            permissions: options.permissions,
            ledger: Ledger::of(&root, &status)?,
            ephemeral,
            place: place_of(&status),
            root_depth: host_depth(&root)?,
            root,
        })
    }

    /// Whether the guest may do all of `wanted`: EROFS where nothing may change, else EACCES.
    pub fn require(&self, wanted: Permissions) -> Result<()> {
        if !self.permissions.contains(wanted) {
            let changes = |rights: Permissions| rights.intersects(Permissions::CHANGE);
            let read_only = changes(wanted) && !changes(self.permissions);
            return Err(Error::denied(if read_only { Errno::ROFS } else { Errno::ACCESS }));
        }
        if wanted.intersects(Permissions::CHANGE) {
            self.ephemeral.iter().for_each(Ephemeral::touch);
        }
        Ok(())
    }

    /// Whether the guest may see what a file is: who may neither read nor list may not probe.
    pub fn require_status(&self) -> Result<()> {
        if self.permissions.intersects(Permissions::READ | Permissions::LIST) {
            return Ok(());
        }
        Err(Error::denied(Errno::ACCESS))
    }

    /// The existing file at `rest`.
    pub fn node<'a>(&'a self, rest: &'a [u8], follow: bool) -> Result<Node<'a>> {
        let named = if rest.ends_with(b"/") { None } else { self.parent(rest, Errno::INVAL).ok() };
        if let Some(parent) = named {
            let status = status_at(parent.dir(), parent.name)?;
            if !follow || FileKind::of(&status) != FileKind::Symlink {
                self.check_place(&status)?;
                return Ok(Node { status, place: Place::Named(parent) });
            }
        }
        let file = self.hold(rest, follow)?;
        let status = status_of(&file)?;
        Ok(Node { status, place: Place::Held(file) })
    }

    /// The same, by a descriptor that allows neither reading nor writing (O_PATH).
    pub fn hold(&self, rest: &[u8], follow: bool) -> Result<File> {
        let follow = if follow { FollowSymlinks::Yes } else { FollowSymlinks::No };
        let mut options = OpenOptions::new();
        options.read(true).follow(follow).custom_flags(OFlags::PATH.bits() as i32);
        let file = self.root.open_with(OsStr::from_bytes(rest), &options)?.into_std();
        self.check_place(&status_of(&file)?)?;
        Ok(file)
    }

    /// The directory that has, or shall have, the last name of `rest`; the error `special` where
    /// that is no name: the mount itself, `.` or `..`.
    pub fn parent<'a>(&'a self, rest: &'a [u8], special: Errno) -> Result<Parent<'a>> {
        let (directory, name) = path::split(rest);
        let opened = if directory.is_empty() {
            None
        } else {
            let dir = self.root.open_dir(OsStr::from_bytes(directory))?;
            self.check_place(&status_of(&dir)?)?;
            Some(dir)
        };
        if matches!(name, b"." | b"..") {
            return Err(Error::from(special));
        }
        let parent = Parent { opened, mount: self, name: OsStr::from_bytes(name) };
        if rest.ends_with(b"/") && parent.look().is_ok_and(|kind| kind != FileKind::Directory) {
            return Err(Error::from(Errno::NOTDIR));
        }
        Ok(parent)
    }

    fn check_place(&self, status: &Statx) -> Result<()> {
        if place_of(status) == self.place || self.permissions.contains(Permissions::CROSS) {
            return Ok(());
        }
        Err(Error { kind: Kind::Denied, errno: Errno::XDEV.raw_os_error() })
    }
}

impl Node<'_> {
    /// Opens it. Only regular files and directories open.
    pub fn open(&self, flags: OFlags) -> Result<File> {
        check_opens(FileKind::of(&self.status))?;
        // NONBLOCK: a FIFO swapped in does not wait, nor does a lease of another process, open(2).
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        match &self.place {
            Place::Held(file) => Ok(rustix::fs::open(self_fd(file), flags, Mode::empty())?.into()),
            Place::Named(parent) => {
                let options = options_of(flags);
                Ok(parent.dir().open_with(parent.name, &options)?.into_std())
            }
        }
    }
}

/// Refuses kinds that are never opened.
fn check_opens(kind: FileKind) -> Result<()> {
    match kind {
        FileKind::File | FileKind::Directory => Ok(()),
        FileKind::Symlink => Err(Error::from(Errno::LOOP)),
        FileKind::Other => Err(Error::denied(Errno::ACCESS)),
    }
}

/// The flags of open(2) in the words of cap-std, not following symlinks.
fn options_of(flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    let appends = flags.contains(OFlags::APPEND);
    options.read(!flags.contains(OFlags::WRONLY)).append(appends);
    options.write(flags.intersects(OFlags::WRONLY | OFlags::RDWR) && !appends);
    options.follow(FollowSymlinks::No).custom_flags(flags.bits() as i32);
    options
}

/// Sets the permission bits of a held file; the set-id bits and the sticky bit are the host's.
pub fn set_mode(held: impl AsFd, mode: u32) -> Result<()> {
    check_opens(FileKind::of(&status_of(&held)?))?;
    Ok(rustix::fs::chmod(self_fd(held), Mode::from_raw_mode(mode & 0o777))?)
}

impl Parent<'_> {
    pub fn dir(&self) -> &Dir {
        self.opened.as_ref().unwrap_or(&self.mount.root)
    }

    /// What has the name now.
    pub fn look(&self) -> Result<FileKind> {
        Ok(FileKind::of(&status_at(self.dir(), self.name)?))
    }

    /// Levels of directories between the mount and a file in this directory. The path does not tell:
    /// symlinks on it may lead deeper.
    pub fn depth(&self) -> Result<u64> {
        Ok(host_depth(self.dir())?.saturating_sub(self.mount.root_depth) as u64 + 1)
    }
}

/// An open file or directory; the descriptor is its identity.
pub struct OpenFile {
    pub file: File,
    pub kind: FileKind,
    pub mount: Arc<Mount>,
    /// Of a regular file.
    pub inode: Option<Arc<Inode>>,
}

impl OpenFile {
    /// Checks that what was opened is a regular file or directory of this mount, and notes it.
    /// `seen` is what it seems to be.
    pub fn new(file: File, seen: &Statx, mount: &Arc<Mount>) -> Result<OpenFile> {
        let (status, inode) = ledger::opened(&file, seen)?;
        let open = OpenFile { file, kind: FileKind::of(&status), mount: mount.clone(), inode };
        check_opens(open.kind)?;
        mount.check_place(&status)?;
        Ok(open)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.inode.iter().for_each(|inode| ledger::closing(inode));
    }
}
