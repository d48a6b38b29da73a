//! What can be done with a name.
use crate::capfs::At;
use crate::ledger::Usage;
use crate::mount::{set_mode, FileKind, Parent, Permissions};
use crate::status::{Space, Status};
use crate::{tree, CapFs, Error, Result};
use cap_std::fs::{DirBuilder, DirBuilderExt};
use rustix::fs::{AtFlags, Statx, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// Size of a block in `Space`.
const BLOCK: u64 = 4096;

impl CapFs {
    /// What stat(2), or without `follow` lstat(2), tells.
    pub fn stat(&self, path: &[u8], follow: bool) -> Result<Status> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.require_status()?;
        Ok(Status::from(&at.node(follow)?.status))
    }

    /// Makes a directory; `mode` without set-id bits.
    pub fn mkdir(&self, path: &[u8], mode: u32) -> Result<()> {
        let at = self.at(path, Permissions::CREATE)?;
        let parent = at.parent(Errno::EXIST)?;
        if parent.depth()? > self.limits.depth {
            return Err(Error::limit(Errno::NAMETOOLONG));
        }
        let mut builder = DirBuilder::new();
        builder.mode(mode & 0o777);
        self.named(at.mount, || Ok(parent.dir().create_dir_with(parent.name, &builder)?))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &[u8]) -> Result<()> {
        let special = if path.ends_with(b"..") { Errno::NOTEMPTY } else { Errno::INVAL };
        self.remove(path, special, |parent| Ok(parent.dir().remove_dir(parent.name)?))
    }

    /// Removes a name that is no directory.
    pub fn unlink(&self, path: &[u8]) -> Result<()> {
        self.remove(path, Errno::ISDIR, |parent| Ok(parent.dir().remove_file(parent.name)?))
    }

    fn remove(
        &self,
        path: &[u8],
        special: Errno,
        act: impl FnOnce(&Parent) -> Result<()>,
    ) -> Result<()> {
        let at = self.at(path, Permissions::REMOVE)?;
        let special = if at.rest == b"." { Errno::BUSY } else { special };
        let parent = at.parent(special)?;
        let name = (parent.dir(), parent.name);
        at.mount.ledger.removing(&self.limits, name, |_| Ok(()), || act(&parent))
    }

    /// Renames within a mount; what has the name `target` is replaced.
    ///
    /// # Errors
    /// As rename(2); EXDEV from one mount to another.
    pub fn rename(&self, source: &[u8], target: &[u8]) -> Result<()> {
        let (from, to) = self.pair(source, target, Permissions::RENAME)?;
        let (source, target) = (from.parent(Errno::BUSY)?, to.parent(Errno::BUSY)?);
        self.check_height(&source, &target)?;
        let may_replace = |there: Option<&Statx>| match there {
            Some(_) => to.mount.require(Permissions::REMOVE),
            None => Ok(()),
        };
        to.mount.ledger.removing(&self.limits, (target.dir(), target.name), may_replace, || {
            Ok(source.dir().rename(source.name, target.dir(), target.name)?)
        })
    }

    fn pair(&self, source: &[u8], target: &[u8], wanted: Permissions) -> Result<(At<'_>, At<'_>)> {
        let (from, to) = (self.at(source, wanted)?, self.at(target, wanted)?);
        if Arc::ptr_eq(from.mount, to.mount) {
            return Ok((from, to));
        }
        Err(Error::from(Errno::XDEV))
    }

    /// Keeps a directory that moves down from making the tree deeper than the limit.
    fn check_height(&self, source: &Parent, target: &Parent) -> Result<()> {
        if source.look()? != FileKind::Directory {
            return Ok(());
        }
        let depth = target.depth()?;
        if depth <= source.depth()? {
            return Ok(());
        }
        let room = self.limits.depth.saturating_sub(depth);
        if tree::height(&source.dir().open_dir(source.name)?, room)? > room {
            return Err(Error::limit(Errno::NAMETOOLONG));
        }
        Ok(())
    }

    /// Gives a file a second name in its mount. A symlink is not followed.
    pub fn link(&self, source: &[u8], target: &[u8]) -> Result<()> {
        let (from, to) = self.pair(source, target, Permissions::CREATE)?;
        from.node(false)?;
        let (target, source) = (to.parent(Errno::EXIST)?, from.parent(Errno::PERM)?);
        self.named(to.mount, || {
            Ok(source.dir().hard_link(source.name, target.dir(), target.name)?)
        })
    }

    /// Makes a symlink. An absolute target would mean another file on the host: refused.
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()> {
        let at = self.at(path, Permissions::CREATE)?;
        let parent = at.parent(Errno::EXIST)?;
        self.named(at.mount, || Ok(parent.dir().symlink(OsStr::from_bytes(target), parent.name)?))
    }

    /// The target of a symlink. An absolute one is a host path: refused.
    pub fn readlink(&self, path: &[u8]) -> Result<Vec<u8>> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.require_status()?;
        let parent = at.parent(Errno::INVAL)?;
        Ok(parent.dir().read_link(parent.name)?.into_os_string().into_vec())
    }

    /// Sets permission bits.
    pub fn chmod(&self, path: &[u8], mode: u32) -> Result<()> {
        let at = self.at(path, Permissions::CHMOD)?;
        set_mode(&at.mount.hold(&at.rest, true)?, mode)
    }

    /// Sets the times of access and of content, in ns since 1970; None leaves one as it is.
    pub fn utimes(
        &self,
        path: &[u8],
        access_ns: Option<i64>,
        change_ns: Option<i64>,
        follow: bool,
    ) -> Result<()> {
        let at = self.at(path, Permissions::WRITE)?;
        let held = at.mount.hold(&at.rest, follow)?;
        let times =
            Timestamps { last_access: timespec(access_ns), last_modification: timespec(change_ns) };
        Ok(rustix::fs::utimensat(&held, c"", &times, AtFlags::EMPTY_PATH)?)
    }

    /// How much room the limits, and the host's disk, leave in a mount.
    pub fn statfs(&self, path: &[u8]) -> Result<Space> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.require_status()?;
        let limits = &self.limits;
        let writable = at.mount.permissions.intersects(Permissions::CHANGE);
        let used = if writable { at.mount.ledger.usage(limits)? } else { Usage::default() };
        let host = rustix::fs::fstatvfs(&at.mount.root)?;
        let left = |limit: u64, used: u64| {
            if writable {
                limit.saturating_sub(used)
            } else {
                0
            }
        };
        let host_free = host.f_bavail.saturating_mul(host.f_frsize) / BLOCK;
        Ok(Space {
            block_size: BLOCK,
            blocks: limits.mount_bytes / BLOCK,
            blocks_free: (left(limits.mount_bytes, used.bytes) / BLOCK).min(host_free),
            files: limits.mount_files,
            files_free: left(limits.mount_files, used.files),
            name_max: host.f_namemax,
        })
    }

    /// What a mount holds; with `recount` counted anew, for the host may have changed it.
    pub fn usage(&self, path: &[u8], recount: bool) -> Result<Usage> {
        let at = self.at(path, Permissions::empty())?;
        if recount {
            at.mount.ledger.forget();
        }
        at.mount.ledger.usage(&self.limits)
    }
}

fn timespec(nanoseconds: Option<i64>) -> Timespec {
    match nanoseconds {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(time) => Timespec {
            tv_sec: time.div_euclid(1_000_000_000),
            tv_nsec: time.rem_euclid(1_000_000_000),
        },
    }
}
