//! What a mount holds: the bytes and names charged against its limits.
//!
//! One ledger per granted directory and process, shared by every file system that grants it. It starts
//! from a count of what is there, so it survives a crash, and charges before each change. The bytes of
//! a removed file stay charged until its last open handle closes, whoever has it open.
use crate::mount::{status_at, status_of, FileKind};
use crate::{lock, tree, Error, Limits, Result};
use cap_std::fs::{Dir, MetadataExt};
use rustix::fs::Statx;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, Weak};

/// Bytes of files, holes included, and names of any kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Usage {
    /// Bytes of all files.
    pub bytes: u64,
    /// Names of files, directories and links.
    pub files: u64,
}

/// Device and inode number.
type Key = (u32, u32, u64);
type Inodes = HashMap<Key, Arc<Inode>>;

fn key_of(status: &Statx) -> Key {
    (status.stx_dev_major, status.stx_dev_minor, status.stx_ino)
}

/// A regular file with open handles.
pub struct Inode {
    key: Key,
    /// Open descriptors; changed only under the lock of `OPEN`.
    opens: AtomicU64,
    /// Bytes charged for it; changed only under `resizing`.
    charged: AtomicU64,
    /// Held while its size changes; no other lock is taken before it.
    resizing: Mutex<()>,
    /// Whom to give the bytes back to, once its last name has gone.
    removed_from: OnceLock<Weak<Ledger>>,
}

impl Inode {
    fn new(status: &Statx) -> Inode {
        Inode {
            key: key_of(status),
            opens: AtomicU64::new(1),
            charged: AtomicU64::new(status.stx_size),
            resizing: Mutex::new(()),
            removed_from: OnceLock::new(),
        }
    }
}

/// Every open regular file, in parts so that one slow disk does not hold up the others. The lock of a
/// part is taken before that of a ledger's state.
static OPEN: [LazyLock<Mutex<Inodes>>; 64] = [const { LazyLock::new(Mutex::default) }; 64];
static LEDGERS: LazyLock<Mutex<HashMap<Key, Weak<Ledger>>>> = LazyLock::new(Mutex::default);

fn open_files(key: Key) -> MutexGuard<'static, Inodes> {
    lock(&OPEN[key.2 as usize % OPEN.len()])
}

/// Notes that `file` is open, if it is a regular file, and tells what it is; `seen` is what it seems
/// to be. A file whose last name has gone meanwhile is not there: ENOENT.
pub fn opened(file: impl AsFd, seen: &Statx) -> Result<(Statx, Option<Arc<Inode>>)> {
    let mut key = key_of(seen);
    loop {
        let mut open = open_files(key);
        let status = status_of(&file)?;
        if FileKind::of(&status) != FileKind::File {
            return Ok((status, None));
        }
        if key_of(&status) != key {
            key = key_of(&status);
            continue;
        }
        if let Some(inode) = open.get(&key) {
            inode.opens.fetch_add(1, Relaxed);
            return Ok((status, Some(inode.clone())));
        }
        if status.stx_nlink == 0 {
            return Err(Error::from(Errno::NOENT));
        }
        let inode = Arc::new(Inode::new(&status));
        open.insert(key, inode.clone());
        return Ok((status, Some(inode)));
    }
}

/// Notes that an open file closes; the last one gives back what a removed file held.
pub fn closing(inode: &Inode) {
    let mut open = open_files(inode.key);
    if inode.opens.fetch_sub(1, Relaxed) > 1 {
        return;
    }
    open.remove(&inode.key);
    if let Some(ledger) = inode.removed_from.get().and_then(Weak::upgrade) {
        take(&mut lock(&ledger.state), inode.charged.load(Relaxed), 0);
    }
}

#[derive(Default)]
struct State {
    /// None until something is charged: read-mostly use pays for no count.
    used: Option<Usage>,
    /// Removed and still open.
    removed: Vec<Weak<Inode>>,
}

/// The account of one directory.
pub struct Ledger {
    root: Dir,
    state: Mutex<State>,
    /// Held while a name goes; taken before any other lock.
    removing: Mutex<()>,
}

impl Ledger {
    /// The ledger of the directory `root`, whoever else has it open.
    pub fn of(root: &Dir, status: &Statx) -> Result<Arc<Ledger>> {
        let mut ledgers = lock(&LEDGERS);
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        if let Some(ledger) = ledgers.get(&key_of(status)).and_then(Weak::upgrade) {
            return Ok(ledger);
        }
        let (state, removing) = (Mutex::default(), Mutex::default());
        let ledger = Arc::new(Ledger { root: root.try_clone()?, state, removing });
        ledgers.insert(key_of(status), Arc::downgrade(&ledger));
        Ok(ledger)
    }

    /// What is charged now.
    pub fn usage(&self, limits: &Limits) -> Result<Usage> {
        self.counted(&mut lock(&self.state), limits).copied()
    }

    /// Counts again what is there when next asked: somebody else has changed it.
    pub fn forget(&self) {
        lock(&self.state).used = None;
    }

    /// Adds to the account, unless that goes over a limit.
    pub fn charge(&self, limits: &Limits, bytes: u64, files: u64) -> Result<()> {
        let mut state = lock(&self.state);
        if bytes == 0 && files == 0 || state.used.is_none() && limits.is_unlimited() {
            return Ok(());
        }
        let used = self.counted(&mut state, limits)?;
        let bytes_then = used.bytes.saturating_add(bytes);
        let files_then = used.files.saturating_add(files);
        let too_many_bytes = bytes > 0 && bytes_then > limits.mount_bytes;
        if too_many_bytes || files > 0 && files_then > limits.mount_files {
            return Err(Error::limit(Errno::NOSPC));
        }
        *used = Usage { bytes: bytes_then, files: files_then };
        Ok(())
    }

    /// Takes from the account.
    pub fn refund(&self, bytes: u64, files: u64) {
        take(&mut lock(&self.state), bytes, files);
    }

    /// Changes an open file by `change`, which gets the size it has and returns the one it then has.
    /// `target` says from the former how large it will be at most.
    pub fn resize(
        &self,
        limits: &Limits,
        (inode, file): (&Inode, &File),
        target: impl Fn(u64) -> Result<u64>,
        change: impl FnOnce(u64) -> Result<u64>,
    ) -> Result<()> {
        let _resizing = lock(&inode.resizing);
        let mut size = inode.charged.load(Relaxed);
        // What stays within the bytes charged needs no look at the file.
        if target(size)? > size {
            size = status_of(file)?.stx_size;
            self.correct(inode, size);
            let wanted = target(size)?;
            if wanted > limits.file_bytes {
                return Err(Error::limit(Errno::DQUOT));
            }
            self.charge(limits, wanted.saturating_sub(size), 0)?;
            inode.charged.store(wanted.max(size), Relaxed);
        }
        let result = change(size);
        self.correct(inode, *result.as_ref().unwrap_or(&size));
        result.map(|_| ())
    }

    /// Brings what is charged for a file to its true size, which others may have changed.
    fn correct(&self, inode: &Inode, size: u64) {
        if inode.charged.load(Relaxed) == size {
            return;
        }
        let mut state = lock(&self.state);
        let charged = inode.charged.swap(size, Relaxed);
        take(&mut state, charged, 0);
        if let Some(used) = &mut state.used {
            used.bytes = used.bytes.saturating_add(size);
        }
    }

    /// Runs `change`, which removes or replaces the name `name` in `parent`. `check` sees what is
    /// there before, and refuses with an error.
    pub fn removing(
        self: &Arc<Ledger>,
        limits: &Limits,
        (parent, name): (&Dir, &OsStr),
        check: impl FnOnce(Option<&Statx>) -> Result<()>,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _removing = lock(&self.removing);
        if !limits.is_unlimited() {
            self.usage(limits)?;
        }
        let before = match status_at(parent, name) {
            Err(error) if error.is(Errno::NOENT) => None,
            other => Some(other?),
        };
        check(before.as_ref())?;
        let Some(status) = before else { return change() };
        let open = open_files(key_of(&status));
        change()?;
        // A rename onto another name of the same file removes nothing.
        let stays = status_at(parent, name).is_ok_and(|after| key_of(&after) == key_of(&status));
        if !stays {
            self.removed(&status, open.get(&key_of(&status)));
        }
        Ok(())
    }

    /// A name of a file has gone: its bytes are free, unless it has other names or is open.
    fn removed(self: &Arc<Ledger>, status: &Statx, open: Option<&Arc<Inode>>) {
        let mut state = lock(&self.state);
        take(&mut state, 0, 1);
        if FileKind::of(status) != FileKind::File || status.stx_nlink > 1 {
            return;
        }
        match open {
            None => take(&mut state, status.stx_size, 0),
            Some(inode) => {
                state.removed.retain(|inode| inode.strong_count() > 0);
                state.removed.push(Arc::downgrade(inode));
                inode.removed_from.get_or_init(|| Arc::downgrade(self));
            }
        }
    }

    /// The usage, counted at first need.
    fn counted<'a>(&self, state: &'a mut State, limits: &Limits) -> Result<&'a mut Usage> {
        let used = match state.used {
            Some(used) => used,
            None => self.count(state, limits)?,
        };
        Ok(state.used.insert(used))
    }

    fn count(&self, state: &State, limits: &Limits) -> Result<Usage> {
        let mut used = Usage::default();
        let mut seen = HashSet::new();
        let device = self.root.dir_metadata()?.dev();
        tree::walk(&self.root, limits.depth, &mut |status, _| {
            used.files += 1;
            if status.is_file() && seen.insert(status.ino()) {
                used.bytes = used.bytes.saturating_add(status.len());
            }
            status.dev() == device
        })?;
        for inode in state.removed.iter().filter_map(Weak::upgrade) {
            used.bytes = used.bytes.saturating_add(inode.charged.load(Relaxed));
        }
        Ok(used)
    }
}

fn take(state: &mut State, bytes: u64, files: u64) {
    if let Some(used) = &mut state.used {
        used.bytes = used.bytes.saturating_sub(bytes);
        used.files = used.files.saturating_sub(files);
    }
}
