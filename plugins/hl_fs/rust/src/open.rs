//! Opening files, and making them.
use crate::capfs::At;
use crate::handle::{Handle, OpenFlags};
use crate::mount::{status_at, status_of, OpenFile};
use crate::snapshot::access;
use crate::{lock, path, CapFs, Error, FileKind, Permissions, Result};
use cap_std::fs::{OpenOptions, OpenOptionsExt};
use rustix::io::Errno;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex};

/// Symlinks followed when a file is made through one, as in path_resolution(7).
const LINKS: u32 = 40;

impl CapFs {
    /// Opens a file or directory; `mode` is for a file that is made, without set-id bits.
    ///
    /// # Errors
    /// As open(2); EMFILE over the limit of handles, EACCES for a FIFO, socket or device.
    pub fn open(&self, path: &[u8], flags: OpenFlags, mode: u32) -> Result<(u64, FileKind)> {
        let makes = flags.intersects(OpenFlags::EXCLUSIVE) && !flags.contains(OpenFlags::CREATE);
        let cuts = flags.contains(OpenFlags::TRUNCATE) && !flags.intersects(OpenFlags::WRITES);
        if !flags.intersects(OpenFlags::READ | OpenFlags::WRITES) || makes || cuts {
            return Err(Error::invalid(Errno::INVAL));
        }
        let writes = flags.intersects(OpenFlags::WRITES);
        let at = self.at(path, if writes { Permissions::WRITE } else { Permissions::empty() })?;
        lock(&self.table).check(self.limits.handles)?;
        let open = Arc::new(self.open_or_make(at, flags, mode)?);
        if flags.contains(OpenFlags::TRUNCATE) {
            self.resize(&open, 0)?;
        }
        let kind = open.kind;
        let handle = Handle { open, flags, position: Mutex::new(0) };
        Ok((lock(&self.table).insert(handle, self.limits.handles)?, kind))
    }

    fn open_or_make(&self, mut at: At, flags: OpenFlags, mode: u32) -> Result<OpenFile> {
        for _ in 0..LINKS {
            if flags.contains(OpenFlags::CREATE) {
                match self.make(&at, flags, mode) {
                    Err(error)
                        if error.is(Errno::EXIST) && !flags.contains(OpenFlags::EXCLUSIVE) => {}
                    made => return made,
                }
            }
            match self.open_existing(&at, flags) {
                Err(error) if error.is(Errno::NOENT) && flags.contains(OpenFlags::CREATE) => {}
                opened => return opened,
            }
            // The name was there and leads nowhere: a dangling link, or it has just gone.
            at.rest = link_target(&at)?;
        }
        Err(Error::from(Errno::LOOP))
    }

    fn make(&self, at: &At, flags: OpenFlags, mode: u32) -> Result<OpenFile> {
        if flags.contains(OpenFlags::DIRECTORY) {
            return Err(Error::invalid(Errno::INVAL));
        }
        if flags.contains(OpenFlags::READ) {
            at.mount.require(Permissions::READ)?;
        }
        let exclusive = flags.contains(OpenFlags::EXCLUSIVE);
        let parent = at.parent(if exclusive { Errno::EXIST } else { Errno::ISDIR })?;
        if at.mount.require(Permissions::CREATE).is_err() {
            // Only an existing file may be opened: O_CREAT asks for no more then.
            return status_at(parent.dir(), parent.name)
                .map_err(|_| at.mount.require(Permissions::CREATE).unwrap_err())
                .and(Err(Errno::EXIST.into()));
        }
        if at.rest.ends_with(b"/") {
            return Err(Error::from(Errno::ISDIR));
        }
        let mut options = OpenOptions::new();
        options.read(flags.contains(OpenFlags::READ)).create_new(true).mode(mode & 0o777);
        options.append(flags.contains(OpenFlags::APPEND));
        options.write(!flags.contains(OpenFlags::APPEND));
        self.named(at.mount, || {
            let file = parent.dir().open_with(parent.name, &options)?.into_std();
            let status = status_of(&file)?;
            OpenFile::new(file, &status, at.mount)
        })
    }

    fn open_existing(&self, at: &At, flags: OpenFlags) -> Result<OpenFile> {
        let node = at.node(!flags.contains(OpenFlags::NOFOLLOW))?;
        let kind = FileKind::of(&node.status);
        let changes = OpenFlags::WRITES | OpenFlags::CREATE;
        match kind {
            FileKind::Directory if flags.intersects(changes) => {
                return Err(Error::from(Errno::ISDIR))
            }
            FileKind::Directory => at.mount.require(Permissions::LIST)?,
            _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Error::from(Errno::NOTDIR)),
            _ if flags.contains(OpenFlags::READ) => at.mount.require(Permissions::READ)?,
            _ => {}
        }
        OpenFile::new(node.open(access(flags, kind))?, &node.status, at.mount)
    }
}

/// Where the dangling symlink at `at` leads, beneath the mount.
fn link_target(at: &At) -> Result<Vec<u8>> {
    let parent = at.parent(Errno::ISDIR)?;
    let target = match parent.dir().read_link(parent.name).map_err(Error::from) {
        Err(error) if error.is(Errno::NOENT) => return Ok(at.rest.clone()),
        target => target?.into_os_string().into_vec(),
    };
    let (directory, _) = path::split(&at.rest);
    Ok(if directory.is_empty() { target } else { [directory, b"/", &target].concat() })
}
