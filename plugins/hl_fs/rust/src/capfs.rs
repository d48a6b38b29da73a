//! The operations. Each resolves its paths to a mount, asks the mount for the right, and acts through
//! a descriptor that `Mount::node` or `Mount::parent` has found.
use crate::handle::{self, Handle, OpenFlags, Table};
use crate::ledger::Usage;
use crate::mount::{set_mode, status_at, status_of, Node, OpenFile, Parent};
use crate::mount::{FileKind, Mount, MountOptions, Permissions};
use crate::snapshot::access;
use crate::{lock, path, tree, Error, Limits, Result};
use cap_std::fs::{DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, RawDir, SeekFrom, Statx, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// Symlinks followed when a file is made through one, as in path_resolution(7).
const LINKS: u32 = 40;
/// Size of a block in `Space`.
const BLOCK: u64 = 4096;

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

/// What one listing call put into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Listing {
    /// Entries.
    pub count: u64,
    /// Bytes of the buffer used.
    pub bytes: u64,
    /// Where to go on.
    pub cursor: u64,
    /// 1 if there is nothing more.
    pub end: u32,
}

/// Where a seek counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Whence {
    /// The beginning of the file.
    Start = 0,
    /// The position of the handle.
    Current = 1,
    /// The end of the file.
    End = 2,
}

/// Granted directories in one tree, and the open handles into it. Any thread may call any operation.
pub struct CapFs {
    pub(crate) mounts: Vec<Arc<Mount>>,
    guests: Vec<Vec<u8>>,
    limits: Limits,
    pub(crate) table: Mutex<Table>,
}

/// A path, split into its mount and the rest.
struct At<'a> {
    mount: &'a Arc<Mount>,
    rest: Vec<u8>,
}

impl At<'_> {
    fn node(&self, follow: bool) -> Result<Node<'_>> {
        self.mount.node(&self.rest, follow)
    }

    fn parent(&self) -> Result<Parent<'_>> {
        self.mount.parent(&self.rest)
    }
}

impl CapFs {
    /// Grants directories. An ephemeral one is made here.
    ///
    /// # Errors
    /// The index of the mount that failed, and why: EINVAL for a guest path that is not plain, lies
    /// in the guest's own system or comes twice, else those of opening the host's directory.
    pub fn new(
        limits: Limits,
        options: &[MountOptions],
    ) -> std::result::Result<CapFs, (usize, Error)> {
        let mut mounts: Vec<Arc<Mount>> = Vec::new();
        for (index, option) in options.iter().enumerate() {
            if mounts.iter().any(|mount| mount.guest == option.guest) {
                return Err((index, Error::invalid(Errno::INVAL)));
            }
            mounts.push(Arc::new(
                Mount::open(option).map_err(|error| (index, error))?,
            ));
        }
        let guests = mounts.iter().map(|mount| mount.guest.clone()).collect();
        Ok(CapFs {
            mounts,
            guests,
            limits,
            table: Table::new(),
        })
    }

    fn at(&self, guest: &[u8], wanted: Permissions) -> Result<At<'_>> {
        let (index, rest) = path::resolve(guest, &self.guests, &self.limits)?;
        self.mounts[index].require(wanted)?;
        Ok(At {
            mount: &self.mounts[index],
            rest,
        })
    }

    // ---- handles ------------------------------------------------------------------------------

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
        let at = self.at(
            path,
            if writes {
                Permissions::WRITE
            } else {
                Permissions::empty()
            },
        )?;
        lock(&self.table).check(self.limits.handles)?;
        let open = Arc::new(self.open_or_make(at, flags, mode)?);
        if flags.contains(OpenFlags::TRUNCATE) {
            self.resize(&open, 0)?;
        }
        let kind = open.kind;
        let handle = Handle {
            open,
            flags,
            position: Mutex::new(0),
        };
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
        let exists = |error: Error| {
            if error.is(Errno::BUSY) {
                Errno::EXIST.into()
            } else {
                error
            }
        };
        let parent = at.parent().map_err(exists)?;
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
        options
            .read(flags.contains(OpenFlags::READ))
            .create_new(true)
            .mode(mode & 0o777);
        options.append(flags.contains(OpenFlags::APPEND));
        options.write(!flags.contains(OpenFlags::APPEND));
        self.named(at.mount, || {
            let file = parent.dir().open_with(parent.name, &options)?.into_std();
            OpenFile::new(file, at.mount)
        })
    }

    fn open_existing(&self, at: &At, flags: OpenFlags) -> Result<OpenFile> {
        let node = at.node(!flags.contains(OpenFlags::NOFOLLOW))?;
        let kind = FileKind::of(&node.status);
        let writes = flags.intersects(OpenFlags::WRITES);
        match kind {
            FileKind::Directory if writes => return Err(Error::from(Errno::ISDIR)),
            FileKind::Directory => at.mount.require(Permissions::LIST)?,
            _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Error::from(Errno::NOTDIR)),
            _ if flags.contains(OpenFlags::READ) => at.mount.require(Permissions::READ)?,
            _ => {}
        }
        OpenFile::new(node.open(access(flags, kind))?, at.mount)
    }

    /// Charges one name for what `make` makes, and takes it back if that fails.
    fn named<T>(&self, mount: &Mount, make: impl FnOnce() -> Result<T>) -> Result<T> {
        mount.ledger.charge(&self.limits, 0, 1)?;
        make().inspect_err(|_| mount.ledger.refund(0, 1))
    }

    /// Closes a handle.
    pub fn close(&self, number: u64) -> Result<()> {
        let handle = lock(&self.table).remove(number)?;
        drop(handle);
        Ok(())
    }

    /// Closes every handle and empties the ephemeral mounts.
    pub fn close_all(&self) -> Result<()> {
        self.restore(None)
    }

    fn file(&self, number: u64, wanted: OpenFlags) -> Result<Arc<Handle>> {
        let handle = handle::get(&self.table, number)?;
        if handle.open.kind == FileKind::Directory {
            return Err(Error::from(Errno::ISDIR));
        }
        if !handle.flags.intersects(wanted) {
            return Err(Error::invalid(Errno::BADF));
        }
        Ok(handle)
    }

    /// Reads into `buffer`, at `offset` or at the handle's position; fewer bytes only at the end of
    /// the file or over the limit of a call.
    pub fn read(&self, number: u64, buffer: &mut [u8], offset: Option<u64>) -> Result<usize> {
        let handle = self.file(number, OpenFlags::READ)?;
        let size = buffer.len().min(self.call_bytes());
        let file = &handle.open.file;
        if let Some(offset) = offset {
            return read_at(file, &mut buffer[..size], offset);
        }
        let mut position = lock(&handle.position);
        let size = read_at(file, &mut buffer[..size], *position)?;
        *position += size as u64;
        Ok(size)
    }

    /// Writes `data` at `offset`, at the handle's position, or at the end for a handle that appends.
    ///
    /// # Errors
    /// As write(2); EDQUOT and ENOSPC over the limits of a file and of the mount.
    pub fn write(&self, number: u64, data: &[u8], offset: Option<u64>) -> Result<usize> {
        let handle = self.file(number, OpenFlags::WRITES)?;
        handle.open.mount.require(Permissions::WRITE)?;
        let data = &data[..data.len().min(self.call_bytes())];
        if data.is_empty() {
            return Ok(0);
        }
        let appends = handle.flags.contains(OpenFlags::APPEND);
        let mut position = lock(&handle.position);
        let start = if appends {
            None
        } else {
            Some(offset.unwrap_or(*position))
        };
        let (size, end) = self.write_at(&handle.open, data, start)?;
        if offset.is_none() {
            *position = end;
        }
        Ok(size)
    }

    /// The bytes written and the place behind them.
    fn write_at(&self, open: &OpenFile, data: &[u8], start: Option<u64>) -> Result<(usize, u64)> {
        let mut written = (0, 0);
        let inode = open.inode.as_ref().ok_or(Error::invalid(Errno::BADF))?;
        let end = |size: u64| {
            let end = start.unwrap_or(size).checked_add(data.len() as u64);
            end.filter(|end| i64::try_from(*end).is_ok())
                .ok_or(Error::from(Errno::FBIG))
        };
        open.mount
            .ledger
            .resize(&self.limits, (inode, &open.file), end, |size| {
                let count = match start {
                    Some(start) => open.file.write_at(data, start)?,
                    None => (&open.file).write(data)?,
                };
                written = (count, start.unwrap_or(size) + count as u64);
                Ok(written.1.max(size))
            })?;
        Ok(written)
    }

    fn call_bytes(&self) -> usize {
        usize::try_from(self.limits.call_bytes).unwrap_or(usize::MAX)
    }

    /// Moves the position of a handle and returns it.
    pub fn seek(&self, number: u64, offset: i64, whence: Whence) -> Result<u64> {
        let handle = handle::get(&self.table, number)?;
        let mut position = lock(&handle.position);
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => *position,
            Whence::End => {
                handle.open.mount.require_status()?;
                status_of(&handle.open.file)?.stx_size
            }
        };
        let moved = base
            .checked_add_signed(offset)
            .filter(|moved| i64::try_from(*moved).is_ok());
        *position = moved.ok_or(Error::invalid(Errno::INVAL))?;
        Ok(*position)
    }

    /// Sets the size of an open file.
    pub fn truncate(&self, number: u64, size: u64) -> Result<()> {
        let handle = self.file(number, OpenFlags::WRITES)?;
        self.resize(&handle.open, size)
    }

    fn resize(&self, open: &OpenFile, wanted: u64) -> Result<()> {
        open.mount.require(Permissions::WRITE)?;
        let inode = open.inode.as_ref().ok_or(Error::invalid(Errno::BADF))?;
        open.mount.ledger.resize(
            &self.limits,
            (inode, &open.file),
            |_| Ok(wanted),
            |_| {
                open.file.set_len(wanted)?;
                Ok(wanted)
            },
        )
    }

    /// Waits until a file is on the host's disk; with `data_only` without times and such.
    pub fn sync(&self, number: u64, data_only: bool) -> Result<()> {
        let handle = handle::get(&self.table, number)?;
        let file = &handle.open.file;
        Ok(if data_only {
            file.sync_data()
        } else {
            file.sync_all()
        }?)
    }

    /// What stat(2) tells of an open file.
    pub fn fstat(&self, number: u64) -> Result<Status> {
        let handle = handle::get(&self.table, number)?;
        handle.open.mount.require_status()?;
        Ok(Status::from(&status_of(&handle.open.file)?))
    }

    /// Puts entries of an open directory into `buffer`, from `cursor` on (0 at first): u64 inode,
    /// u8 kind, u16 length, name; little endian, packed. The cursor is the host's own cookie, so
    /// entries that stay are listed once, whatever else comes and goes.
    pub fn list(&self, number: u64, cursor: u64, limit: u64, buffer: &mut [u8]) -> Result<Listing> {
        let handle = handle::get(&self.table, number)?;
        if handle.open.kind != FileKind::Directory {
            return Err(Error::from(Errno::NOTDIR));
        }
        handle.open.mount.require(Permissions::LIST)?;
        let _alone = lock(&handle.position);
        list(
            &handle.open.file,
            cursor,
            limit.min(self.limits.list_entries),
            buffer,
        )
    }

    // ---- paths --------------------------------------------------------------------------------

    /// What stat(2), or without `follow` lstat(2), tells.
    pub fn stat(&self, path: &[u8], follow: bool) -> Result<Status> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.require_status()?;
        Ok(Status::from(&at.node(follow)?.status))
    }

    /// Makes a directory; `mode` without set-id bits.
    pub fn mkdir(&self, path: &[u8], mode: u32) -> Result<()> {
        let at = self.at(path, Permissions::CREATE)?;
        let exists = |error: Error| {
            if error.is(Errno::BUSY) {
                Errno::EXIST.into()
            } else {
                error
            }
        };
        let parent = at.parent().map_err(exists)?;
        if parent.depth()? > self.limits.depth {
            return Err(Error::limit(Errno::NAMETOOLONG));
        }
        let mut builder = DirBuilder::new();
        builder.mode(mode & 0o777);
        self.named(at.mount, || {
            Ok(parent.dir().create_dir_with(parent.name, &builder)?)
        })
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &[u8]) -> Result<()> {
        self.remove(path, |parent| Ok(parent.dir().remove_dir(parent.name)?))
    }

    /// Removes a name that is no directory.
    pub fn unlink(&self, path: &[u8]) -> Result<()> {
        self.remove(path, |parent| Ok(parent.dir().remove_file(parent.name)?))
    }

    fn remove(&self, path: &[u8], act: impl FnOnce(&Parent) -> Result<()>) -> Result<()> {
        let at = self.at(path, Permissions::REMOVE)?;
        let parent = at.parent()?;
        let name = (parent.dir(), parent.name);
        at.mount
            .ledger
            .removing(&self.limits, name, |_| Ok(()), || act(&parent))
    }

    /// Renames within a mount; what has the name `target` is replaced.
    ///
    /// # Errors
    /// As rename(2); EXDEV from one mount to another.
    pub fn rename(&self, source: &[u8], target: &[u8]) -> Result<()> {
        let (from, to) = self.pair(source, target, Permissions::RENAME)?;
        let (source, target) = (from.parent()?, to.parent()?);
        self.check_height(&source, &target)?;
        let may_replace = |there: Option<&Statx>| match there {
            Some(_) => to.mount.require(Permissions::REMOVE),
            None => Ok(()),
        };
        to.mount.ledger.removing(
            &self.limits,
            (target.dir(), target.name),
            may_replace,
            || {
                Ok(source
                    .dir()
                    .rename(source.name, target.dir(), target.name)?)
            },
        )
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
        let depth = target.depth()?;
        let is_directory = status_at(source.dir(), source.name)
            .is_ok_and(|status| FileKind::of(&status) == FileKind::Directory);
        if !is_directory || depth <= source.depth()? {
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
        let (source, target) = (from.parent()?, to.parent()?);
        self.named(to.mount, || {
            Ok(source
                .dir()
                .hard_link(source.name, target.dir(), target.name)?)
        })
    }

    /// Makes a symlink. An absolute target would mean another file on the host: refused.
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()> {
        let at = self.at(path, Permissions::CREATE)?;
        let parent = at.parent()?;
        self.named(at.mount, || {
            Ok(parent
                .dir()
                .symlink(OsStr::from_bytes(target), parent.name)?)
        })
    }

    /// The target of a symlink. An absolute one is a host path: refused.
    pub fn readlink(&self, path: &[u8]) -> Result<Vec<u8>> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.require_status()?;
        let parent = at.parent()?;
        Ok(parent
            .dir()
            .read_link(parent.name)?
            .into_os_string()
            .into_vec())
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
        let times = Timestamps {
            last_access: timespec(access_ns),
            last_modification: timespec(change_ns),
        };
        Ok(rustix::fs::utimensat(
            &held,
            c"",
            &times,
            AtFlags::EMPTY_PATH,
        )?)
    }

    /// How much room the limits, and the host's disk, leave in a mount.
    pub fn statfs(&self, path: &[u8]) -> Result<Space> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.require_status()?;
        let limits = &self.limits;
        let writable = at.mount.permissions.intersects(Permissions::CHANGE);
        let used = if writable {
            at.mount.ledger.usage(limits)?
        } else {
            Usage::default()
        };
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

    /// What a mount holds, counted anew: the host may have changed it.
    pub fn recount(&self, path: &[u8]) -> Result<Usage> {
        let at = self.at(path, Permissions::empty())?;
        at.mount.ledger.forget();
        at.mount.ledger.usage(&self.limits)
    }
}

/// Where the dangling symlink at `at` leads, beneath the mount.
fn link_target(at: &At) -> Result<Vec<u8>> {
    let parent = at.parent()?;
    let target = match parent.dir().read_link(parent.name).map_err(Error::from) {
        Err(error) if error.is(Errno::NOENT) => return Ok(at.rest.clone()),
        target => target?.into_os_string().into_vec(),
    };
    let (directory, _) = path::split(&at.rest)?;
    Ok(if directory.is_empty() {
        target
    } else {
        [directory, b"/", &target].concat()
    })
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(size) => done += size,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

fn list(file: &File, cursor: u64, limit: u64, buffer: &mut [u8]) -> Result<Listing> {
    let start = i64::try_from(cursor).map_err(|_| Error::invalid(Errno::INVAL))?;
    rustix::fs::seek(file, SeekFrom::Start(start as u64))?;
    let mut room = [MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(file, &mut room);
    let mut listing = Listing {
        count: 0,
        bytes: 0,
        cursor,
        end: 0,
    };
    while listing.count < limit {
        let Some(entry) = entries.next() else {
            listing.end = 1;
            break;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let kind = match entry.file_type() {
                rustix::fs::FileType::Unknown => kind_of(file, name)?,
                known => FileKind::of_mode(known.as_raw_mode() as u16),
            };
            let used = listing.bytes as usize;
            let Some(place) = buffer.get_mut(used..used + 11 + name.len()) else {
                break;
            };
            place[..8].copy_from_slice(&entry.ino().to_le_bytes());
            place[8] = kind as u8;
            place[9..11].copy_from_slice(&(name.len() as u16).to_le_bytes());
            place[11..].copy_from_slice(name);
            listing.count += 1;
            listing.bytes += place.len() as u64;
        }
        listing.cursor = entry.next_entry_cookie();
    }
    if listing.count == 0 && listing.end == 0 {
        return Err(Error::invalid(Errno::INVAL));
    }
    Ok(listing)
}

/// For file systems whose getdents(2) does not tell the kind.
fn kind_of(directory: &File, name: &[u8]) -> Result<FileKind> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let status = rustix::fs::statat(directory, name, flags)?;
    Ok(FileKind::of_mode(status.st_mode as u16))
}

fn timespec(nanoseconds: Option<i64>) -> Timespec {
    match nanoseconds {
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        Some(time) => Timespec {
            tv_sec: time.div_euclid(1_000_000_000),
            tv_nsec: time.rem_euclid(1_000_000_000),
        },
    }
}

impl From<&Statx> for Status {
    fn from(status: &Statx) -> Status {
        let time = |time: rustix::fs::StatxTimestamp| {
            time.tv_sec
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::from(time.tv_nsec))
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
