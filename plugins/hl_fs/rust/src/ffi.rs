//! The C interface, as `include/hl_fs.h` declares it; the only file with `unsafe`.
//!
//! What is unsafe is always the same: believing a C caller about pointers and sizes. Every entry
//! catches panics, for one must not unwind into C.
use crate::{CapFs, Error, Limits, Listing, MountOptions, OpenFlags, Permissions, Result};
use crate::{Snapshot, Space, Status, Usage, Whence};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

/// `hl_fs_mount` of the header.
#[repr(C)]
pub struct MountC {
    host: *const u8,
    host_size: usize,
    guest: *const u8,
    guest_size: usize,
    permissions: u32,
    ephemeral: u32,
}

const INVALID: Error = Error { kind: crate::Kind::Invalid, errno: Errno::INVAL.raw_os_error() };

/// Runs an entry: its value, or the negative code of its error.
fn enter(work: impl FnOnce() -> Result<i64>) -> i64 {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::PANIC));
    result.unwrap_or_else(|error| -(i64::from(error.kind as i32) << 16 | i64::from(error.errno)))
}

fn done(_: ()) -> i64 {
    0
}

/// The file system behind a pointer from `hl_fs_new`.
fn open<'a>(fs: *const CapFs) -> Result<&'a CapFs> {
    // SAFETY: the header asks for a pointer from hl_fs_new that has not been freed; CapFs is Sync.
    unsafe { fs.as_ref() }.ok_or(Error::invalid(Errno::BADF))
}

/// The bytes a C caller describes.
fn bytes<'a>(data: *const u8, size: usize) -> Result<&'a [u8]> {
    match (data.is_null(), isize::try_from(size)) {
        (_, Ok(0)) => Ok(&[]),
        // SAFETY: the header asks for `size` readable bytes that nobody changes during the call.
        (false, Ok(_)) => Ok(unsafe { std::slice::from_raw_parts(data, size) }),
        _ => Err(INVALID),
    }
}

/// The buffer a C caller describes.
fn buffer<'a>(data: *mut u8, size: usize) -> Result<&'a mut [u8]> {
    match (data.is_null(), isize::try_from(size)) {
        (_, Ok(0)) => Ok(&mut []),
        // SAFETY: the header asks for `size` writable bytes that nobody else uses during the call.
        (false, Ok(_)) => Ok(unsafe { std::slice::from_raw_parts_mut(data, size) }),
        _ => Err(INVALID),
    }
}

/// Puts a result where a C caller wants it.
fn put<T>(place: *mut T, value: T) -> Result<i64> {
    if place.is_null() {
        return Err(INVALID);
    }
    // SAFETY: the header asks for a pointer to room for one T, aligned as C aligns it.
    unsafe { place.write(value) };
    Ok(0)
}

/// What a C caller passes by pointer.
fn get<'a, T>(place: *const T) -> Result<&'a T> {
    // SAFETY: the header asks for a pointer to one T that nobody changes during the call.
    unsafe { place.as_ref() }.ok_or(INVALID)
}

/// Gives something to C, which gives it back to the matching `free`.
fn give<T>(place: *mut *mut T, value: T) -> Result<i64> {
    put(place, Box::into_raw(Box::new(value)))
}

fn free<T>(pointer: *mut T) -> Result<i64> {
    if !pointer.is_null() {
        // SAFETY: the header asks for a pointer from the matching `new` that is not used again.
        drop(unsafe { Box::from_raw(pointer) });
    }
    Ok(0)
}

/// Of an offset: the position of the handle. Of a time: leave it.
fn unless<T: PartialEq>(value: T, none: T) -> Option<T> {
    (value != none).then_some(value)
}

fn offset_of(offset: i64) -> Result<Option<u64>> {
    unless(offset, -1).map(u64::try_from).transpose().map_err(|_| INVALID)
}

fn mount_of(mount: &MountC) -> Result<MountOptions<'_>> {
    let host = bytes(mount.host, mount.host_size)?;
    Ok(MountOptions {
        host: (!host.is_empty()).then(|| Path::new(OsStr::from_bytes(host))),
        guest: bytes(mount.guest, mount.guest_size)?,
        permissions: Permissions::from_bits(mount.permissions).ok_or(INVALID)?,
        ephemeral: mount.ephemeral != 0,
    })
}

/// The entries: each is a C function of that name, with the arguments the header gives it.
macro_rules! entries {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $body:block)*) => {$(
        #[no_mangle]
        pub extern "C" fn $name($($argument: $type),*) -> i64 {
            enter(|| $body)
        }
    )*};
}

type Fs = *const CapFs;
type Text = *const u8;

entries! {
    fn hl_fs_default_limits(limits: *mut Limits) { put(limits, Limits::default()) }

    fn hl_fs_new(limits: *const Limits, mounts: *const MountC, count: usize, fs: *mut *mut CapFs,
                 failed: *mut usize) {
        put(failed, count)?;
        let mut options = Vec::new();
        for index in 0..count {
            // SAFETY: the header asks for `count` mounts.
            options.push(mount_of(get(unsafe { mounts.add(index) })?)?);
        }
        let built = CapFs::new(*get(limits)?, &options);
        give(fs, built.or_else(|(index, error)| put(failed, index).and(Err(error)))?)
    }

    fn hl_fs_free(fs: *mut CapFs) { free(fs) }

    fn hl_fs_open(fs: Fs, path: Text, path_size: usize, flags: u32, mode: u32, kind: *mut u32) {
        let flags = OpenFlags::from_bits(flags).ok_or(INVALID)?;
        let (handle, opened) = open(fs)?.open(bytes(path, path_size)?, flags, mode)?;
        if !kind.is_null() {
            put(kind, opened as u32)?;
        }
        i64::try_from(handle).map_err(|_| INVALID)
    }

    fn hl_fs_close(fs: Fs, handle: u64) { open(fs)?.close(handle).map(done) }

    fn hl_fs_close_all(fs: Fs) { open(fs)?.close_all().map(done) }

    fn hl_fs_read(fs: Fs, handle: u64, data: *mut u8, size: usize, offset: i64) {
        Ok(open(fs)?.read(handle, buffer(data, size)?, offset_of(offset)?)? as i64)
    }

    fn hl_fs_write(fs: Fs, handle: u64, data: Text, size: usize, offset: i64) {
        Ok(open(fs)?.write(handle, bytes(data, size)?, offset_of(offset)?)? as i64)
    }

    fn hl_fs_seek(fs: Fs, handle: u64, offset: i64, whence: u32) {
        let places = [Whence::Start, Whence::Current, Whence::End];
        let whence = places.get(whence as usize).ok_or(INVALID)?;
        Ok(open(fs)?.seek(handle, offset, *whence)? as i64)
    }

    fn hl_fs_truncate(fs: Fs, handle: u64, size: u64) { open(fs)?.truncate(handle, size).map(done) }

    fn hl_fs_sync(fs: Fs, handle: u64, data_only: u32) {
        open(fs)?.sync(handle, data_only != 0).map(done)
    }

    fn hl_fs_fstat(fs: Fs, handle: u64, status: *mut Status) { put(status, open(fs)?.fstat(handle)?) }

    fn hl_fs_list(fs: Fs, handle: u64, cursor: u64, limit: u64, data: *mut u8, size: usize,
                  listing: *mut Listing) {
        put(listing, open(fs)?.list(handle, cursor, limit, buffer(data, size)?)?)
    }

    fn hl_fs_stat(fs: Fs, path: Text, path_size: usize, follow: u32, status: *mut Status) {
        put(status, open(fs)?.stat(bytes(path, path_size)?, follow != 0)?)
    }

    fn hl_fs_mkdir(fs: Fs, path: Text, path_size: usize, mode: u32) {
        open(fs)?.mkdir(bytes(path, path_size)?, mode).map(done)
    }

    fn hl_fs_rmdir(fs: Fs, path: Text, path_size: usize) {
        open(fs)?.rmdir(bytes(path, path_size)?).map(done)
    }

    fn hl_fs_unlink(fs: Fs, path: Text, path_size: usize) {
        open(fs)?.unlink(bytes(path, path_size)?).map(done)
    }

    fn hl_fs_rename(fs: Fs, source: Text, source_size: usize, target: Text, target_size: usize) {
        open(fs)?.rename(bytes(source, source_size)?, bytes(target, target_size)?).map(done)
    }

    fn hl_fs_link(fs: Fs, source: Text, source_size: usize, target: Text, target_size: usize) {
        open(fs)?.link(bytes(source, source_size)?, bytes(target, target_size)?).map(done)
    }

    fn hl_fs_symlink(fs: Fs, target: Text, target_size: usize, path: Text, path_size: usize) {
        open(fs)?.symlink(bytes(target, target_size)?, bytes(path, path_size)?).map(done)
    }

    fn hl_fs_readlink(fs: Fs, path: Text, path_size: usize, target: *mut u8, target_size: usize) {
        let found = open(fs)?.readlink(bytes(path, path_size)?)?;
        let place = buffer(target, target_size)?.get_mut(..found.len());
        place.ok_or(Error::invalid(Errno::RANGE))?.copy_from_slice(&found);
        Ok(found.len() as i64)
    }

    fn hl_fs_chmod(fs: Fs, path: Text, path_size: usize, mode: u32) {
        open(fs)?.chmod(bytes(path, path_size)?, mode).map(done)
    }

    fn hl_fs_utimes(fs: Fs, path: Text, path_size: usize, access_ns: i64, change_ns: i64,
                    follow: u32) {
        let (access, change) = (unless(access_ns, i64::MIN), unless(change_ns, i64::MIN));
        open(fs)?.utimes(bytes(path, path_size)?, access, change, follow != 0).map(done)
    }

    fn hl_fs_statfs(fs: Fs, path: Text, path_size: usize, space: *mut Space) {
        put(space, open(fs)?.statfs(bytes(path, path_size)?)?)
    }

    fn hl_fs_usage_of(fs: Fs, path: Text, path_size: usize, recount: u32, used: *mut Usage) {
        put(used, open(fs)?.usage(bytes(path, path_size)?, recount != 0)?)
    }

    fn hl_fs_snapshot_take(fs: Fs, snapshot: *mut *mut Snapshot) {
        give(snapshot, open(fs)?.snapshot()?)
    }

    fn hl_fs_restore(fs: Fs, snapshot: *const Snapshot) {
        let wanted = if snapshot.is_null() { None } else { Some(get(snapshot)?) };
        open(fs)?.restore(wanted).map(done)
    }

    fn hl_fs_restart(fs: Fs, next: u64) { open(fs)?.restart(next).map(done) }

    fn hl_fs_snapshot_next_handle(snapshot: *const Snapshot) {
        i64::try_from(get(snapshot)?.next_handle()).map_err(|_| INVALID)
    }

    fn hl_fs_snapshot_free(snapshot: *mut Snapshot) { free(snapshot) }
}
