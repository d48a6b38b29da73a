//! Any sequence of calls of the C interface: no crash, nothing outside touched, the account right.
#![no_main]
use arbitrary::Arbitrary;
use hl_fs as _; // links the entries declared below
use libfuzzer_sys::fuzz_target;
use std::ffi::c_void;
use std::fs;
use std::sync::LazyLock;

#[derive(Arbitrary, Debug)]
enum Step {
    Open(Path, u8, u16),
    Close(u8),
    Read(u8, u16, i64),
    Write(u8, Vec<u8>, i64),
    Seek(u8, i64, u32),
    Truncate(u8, u64),
    Fstat(u8),
    List(u8, u64, u64, u16),
    Stat(Path, bool),
    Mkdir(Path, u16),
    Rmdir(Path),
    Unlink(Path),
    Rename(Path, Path),
    Link(Path, Path),
    Symlink(Path, Path),
    Readlink(Path, u8),
    Chmod(Path, u16),
    Utimes(Path, i64, i64, bool),
    Snapshot,
    Restore(bool),
}

/// Mostly names that other steps use too; sometimes any bytes.
#[derive(Arbitrary, Debug)]
enum Path {
    Known(u8, Vec<u8>),
    Any(Vec<u8>),
}

impl Path {
    fn bytes(&self) -> Vec<u8> {
        const NAMES: [&str; 8] = ["a", "b", "..", ".", "out", "abs", "fifo", ""];
        match self {
            Path::Any(bytes) => bytes.clone(),
            Path::Known(mount, parts) => {
                let mut path = [&b"/data"[..], b"/tmp", b""][*mount as usize % 3].to_vec();
                for part in parts.iter().take(6) {
                    path.push(b'/');
                    path.extend(NAMES[*part as usize % NAMES.len()].bytes());
                }
                path
            }
        }
    }
}

#[repr(C)]
struct Mount(*const u8, usize, *const u8, usize, u32, u32);

#[rustfmt::skip]
extern "C" {
    fn hl_fs_default_limits(limits: *mut [u64; 8]) -> i64;
    fn hl_fs_new(limits: *const [u64; 8], mounts: *const Mount, count: usize, fs: *mut *mut c_void, failed: *mut usize) -> i64;
    fn hl_fs_free(fs: *mut c_void) -> i64;
    fn hl_fs_open(fs: *const c_void, path: *const u8, size: usize, flags: u32, mode: u32, kind: *mut u32) -> i64;
    fn hl_fs_close(fs: *const c_void, handle: u64) -> i64;
    fn hl_fs_read(fs: *const c_void, handle: u64, data: *mut u8, size: usize, offset: i64) -> i64;
    fn hl_fs_write(fs: *const c_void, handle: u64, data: *const u8, size: usize, offset: i64) -> i64;
    fn hl_fs_seek(fs: *const c_void, handle: u64, offset: i64, whence: u32) -> i64;
    fn hl_fs_truncate(fs: *const c_void, handle: u64, size: u64) -> i64;
    fn hl_fs_fstat(fs: *const c_void, handle: u64, status: *mut [u64; 9]) -> i64;
    fn hl_fs_list(fs: *const c_void, handle: u64, cursor: u64, limit: u64, data: *mut u8, size: usize, listing: *mut [u64; 4]) -> i64;
    fn hl_fs_stat(fs: *const c_void, path: *const u8, size: usize, follow: u32, status: *mut [u64; 9]) -> i64;
    fn hl_fs_mkdir(fs: *const c_void, path: *const u8, size: usize, mode: u32) -> i64;
    fn hl_fs_rmdir(fs: *const c_void, path: *const u8, size: usize) -> i64;
    fn hl_fs_unlink(fs: *const c_void, path: *const u8, size: usize) -> i64;
    fn hl_fs_rename(fs: *const c_void, source: *const u8, source_size: usize, target: *const u8, target_size: usize) -> i64;
    fn hl_fs_link(fs: *const c_void, source: *const u8, source_size: usize, target: *const u8, target_size: usize) -> i64;
    fn hl_fs_symlink(fs: *const c_void, target: *const u8, target_size: usize, path: *const u8, path_size: usize) -> i64;
    fn hl_fs_readlink(fs: *const c_void, path: *const u8, size: usize, target: *mut u8, room: usize) -> i64;
    fn hl_fs_chmod(fs: *const c_void, path: *const u8, size: usize, mode: u32) -> i64;
    fn hl_fs_utimes(fs: *const c_void, path: *const u8, size: usize, access_ns: i64, change_ns: i64, follow: u32) -> i64;
    fn hl_fs_usage_of(fs: *const c_void, path: *const u8, size: usize, recount: u32, used: *mut [u64; 2]) -> i64;
    fn hl_fs_snapshot_take(fs: *const c_void, snapshot: *mut *mut c_void) -> i64;
    fn hl_fs_restore(fs: *const c_void, snapshot: *const c_void) -> i64;
    fn hl_fs_snapshot_free(snapshot: *mut c_void) -> i64;
}

static PLACE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("outside")).unwrap();
    fs::write(place.path().join("outside/secret"), "secret").unwrap();
    place
});

/// Runs one step; `snapshot` is the last one taken.
fn run(fs: *const c_void, step: &Step, snapshot: &mut *mut c_void) -> i64 {
    let mut buffer = vec![0u8; 1 << 16];
    let (mut status, mut listing, mut kind) = ([0; 9], [0; 4], 0);
    let path = |path: &Path| path.bytes();
    // SAFETY: every pointer is to something alive, as large as is said.
    unsafe {
        match step {
            Step::Open(p, flags, mode) => {
                let p = path(p);
                hl_fs_open(fs, p.as_ptr(), p.len(), u32::from(*flags), u32::from(*mode), &mut kind)
            }
            Step::Close(h) => hl_fs_close(fs, u64::from(*h)),
            Step::Read(h, size, at) => {
                hl_fs_read(fs, u64::from(*h), buffer.as_mut_ptr(), usize::from(*size), *at)
            }
            Step::Write(h, data, at) => {
                hl_fs_write(fs, u64::from(*h), data.as_ptr(), data.len(), *at)
            }
            Step::Seek(h, offset, whence) => hl_fs_seek(fs, u64::from(*h), *offset, *whence),
            Step::Truncate(h, size) => hl_fs_truncate(fs, u64::from(*h), *size),
            Step::Fstat(h) => hl_fs_fstat(fs, u64::from(*h), &mut status),
            Step::List(h, cursor, limit, room) => {
                let (to, room) = (buffer.as_mut_ptr(), usize::from(*room));
                hl_fs_list(fs, u64::from(*h), *cursor, *limit, to, room, &mut listing)
            }
            Step::Stat(p, follow) => {
                let p = path(p);
                hl_fs_stat(fs, p.as_ptr(), p.len(), u32::from(*follow), &mut status)
            }
            Step::Mkdir(p, mode) => {
                let p = path(p);
                hl_fs_mkdir(fs, p.as_ptr(), p.len(), u32::from(*mode))
            }
            Step::Rmdir(p) => {
                let p = path(p);
                hl_fs_rmdir(fs, p.as_ptr(), p.len())
            }
            Step::Unlink(p) => {
                let p = path(p);
                hl_fs_unlink(fs, p.as_ptr(), p.len())
            }
            Step::Rename(p, q) => {
                let (p, q) = (path(p), path(q));
                hl_fs_rename(fs, p.as_ptr(), p.len(), q.as_ptr(), q.len())
            }
            Step::Link(p, q) => {
                let (p, q) = (path(p), path(q));
                hl_fs_link(fs, p.as_ptr(), p.len(), q.as_ptr(), q.len())
            }
            Step::Symlink(p, q) => {
                let (p, q) = (path(p), path(q));
                hl_fs_symlink(fs, p.as_ptr(), p.len(), q.as_ptr(), q.len())
            }
            Step::Readlink(p, room) => {
                let p = path(p);
                hl_fs_readlink(fs, p.as_ptr(), p.len(), buffer.as_mut_ptr(), usize::from(*room))
            }
            Step::Chmod(p, mode) => {
                let p = path(p);
                hl_fs_chmod(fs, p.as_ptr(), p.len(), u32::from(*mode))
            }
            Step::Utimes(p, a, m, follow) => {
                let p = path(p);
                hl_fs_utimes(fs, p.as_ptr(), p.len(), *a, *m, u32::from(*follow))
            }
            Step::Snapshot => {
                hl_fs_snapshot_free(*snapshot);
                *snapshot = std::ptr::null_mut();
                hl_fs_snapshot_take(fs, snapshot)
            }
            Step::Restore(true) => hl_fs_restore(fs, *snapshot),
            Step::Restore(false) => hl_fs_restore(fs, std::ptr::null()),
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let inside = PLACE.path().join("inside");
    fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink("../outside", inside.join("out")).unwrap();
    std::os::unix::fs::symlink(PLACE.path().join("outside"), inside.join("abs")).unwrap();
    let host = inside.to_str().unwrap();
    let mounts = [
        Mount(host.as_ptr(), host.len(), b"/data".as_ptr(), 5, 127, 0),
        Mount(std::ptr::null(), 0, b"/tmp".as_ptr(), 4, 127, 1),
    ];
    let (mut limits, mut fs, mut failed) = ([0; 8], std::ptr::null_mut(), 0);
    let mut snapshot = std::ptr::null_mut();
    // SAFETY: as above; nothing is used after it was freed.
    unsafe {
        assert_eq!(hl_fs_default_limits(&mut limits), 0);
        assert_eq!(hl_fs_new(&limits, mounts.as_ptr(), 2, &mut fs, &mut failed), 0);
        for step in steps.iter().take(64) {
            let code = run(fs, step, &mut snapshot);
            assert_ne!(-code >> 16, 6, "a panic in {step:?}");
        }
        for mount in [&b"/data"[..], b"/tmp"] {
            let (mut charged, mut counted) = ([0; 2], [0; 2]);
            hl_fs_usage_of(fs, mount.as_ptr(), mount.len(), 0, &mut charged);
            hl_fs_usage_of(fs, mount.as_ptr(), mount.len(), 1, &mut counted);
            assert_eq!(charged, counted, "the account of {mount:?}");
        }
        hl_fs_snapshot_free(snapshot);
        hl_fs_free(fs);
    }
    let outside = PLACE.path().join("outside");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    fs::remove_dir_all(&inside).unwrap();
});
