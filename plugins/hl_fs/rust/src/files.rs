//! What can be done with an open handle.
use crate::handle::{self, Handle, OpenFlags};
use crate::mount::{status_of, FileKind, OpenFile, Permissions};
use crate::status::Status;
use crate::{lock, CapFs, Error, Result};
use rustix::fs::{AtFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

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

impl CapFs {
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
        let start = if appends { None } else { Some(offset.unwrap_or(*position)) };
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
            end.filter(|end| i64::try_from(*end).is_ok()).ok_or(Error::from(Errno::FBIG))
        };
        open.mount.ledger.resize(&self.limits, (inode, &open.file), end, |size| {
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
        let moved = base.checked_add_signed(offset).filter(|moved| i64::try_from(*moved).is_ok());
        *position = moved.ok_or(Error::invalid(Errno::INVAL))?;
        Ok(*position)
    }

    /// Sets the size of an open file.
    pub fn truncate(&self, number: u64, size: u64) -> Result<()> {
        let handle = self.file(number, OpenFlags::WRITES)?;
        self.resize(&handle.open, size)
    }

    pub(crate) fn resize(&self, open: &OpenFile, wanted: u64) -> Result<()> {
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
        Ok(if data_only { file.sync_data() } else { file.sync_all() }?)
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
        list(&handle.open.file, cursor, limit.min(self.limits.list_entries), buffer)
    }
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
    let mut listing = Listing { count: 0, bytes: 0, cursor, end: 0 };
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
