//! What a mount holds: the bytes and names charged against its limits.
//!
//! One ledger per granted directory and process, shared by every file system that grants it. It starts
//! from a count of what is there, so it survives a crash, and charges before each change. The bytes of
//! a removed file stay charged until its last open handle closes.
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
use std::sync::{Arc, LazyLock, Mutex, Weak};

/// Bytes of files, holes included, and names of any kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all files.
    pub bytes: u64,
    /// Names of files, directories and links.
    pub files: u64,
}

/// Device and inode number.
type Key = (u32, u32, u64);

fn key_of(status: &Statx) -> Key {
    (status.stx_dev_major, status.stx_dev_minor, status.stx_ino)
}

/// A file with open handles.
pub struct Inode {
    key: Key,
    /// Bytes charged for it; changed only under `resizing`.
    charged: AtomicU64,
    /// Held while its size changes, and taken before the lock of the ledger.
    resizing: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// None until something is charged: read-mostly use pays for no count.
    used: Option<Usage>,
    open: HashMap<Key, Weak<Inode>>,
}

/// The account of one directory.
pub struct Ledger {
    root: Dir,
    state: Mutex<State>,
}

static LEDGERS: LazyLock<Mutex<HashMap<Key, Weak<Ledger>>>> = LazyLock::new(Mutex::default);

impl Ledger {
    /// The ledger of the directory `root`, whoever else has it open.
    pub fn of(root: &Dir, status: &Statx) -> Result<Arc<Ledger>> {
        let mut ledgers = lock(&LEDGERS);
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        if let Some(ledger) = ledgers.get(&key_of(status)).and_then(Weak::upgrade) {
            return Ok(ledger);
        }
        let ledger = Arc::new(Ledger {
            root: root.try_clone()?,
            state: Mutex::default(),
        });
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
        let (more_bytes, more_files) = (
            used.bytes.saturating_add(bytes),
            used.files.saturating_add(files),
        );
        if bytes > 0 && more_bytes > limits.mount_bytes
            || files > 0 && more_files > limits.mount_files
        {
            return Err(Error::limit(Errno::NOSPC));
        }
        *used = Usage {
            bytes: more_bytes,
            files: more_files,
        };
        Ok(())
    }

    /// Takes from the account.
    pub fn refund(&self, bytes: u64, files: u64) {
        if bytes > 0 || files > 0 {
            take(&mut lock(&self.state), bytes, files);
        }
    }

    /// Notes that `file` is open, if it is a regular file, and tells what it is. A file whose last
    /// name has gone meanwhile is not there: ENOENT.
    pub fn opened(&self, file: impl AsFd) -> Result<(Statx, Option<Arc<Inode>>)> {
        let mut state = lock(&self.state);
        let status = status_of(file)?;
        if FileKind::of(&status) != FileKind::File {
            return Ok((status, None));
        }
        if status.stx_nlink == 0 {
            return Err(Error::from(Errno::NOENT));
        }
        let key = key_of(&status);
        if let Some(inode) = state.open.get(&key).and_then(Weak::upgrade) {
            return Ok((status, Some(inode)));
        }
        let inode = Arc::new(Inode {
            key,
            charged: AtomicU64::new(status.stx_size),
            resizing: Mutex::new(()),
        });
        state.open.insert(key, Arc::downgrade(&inode));
        Ok((status, Some(inode)))
    }

    /// Notes that one of its open files closes; the last one gives back what a removed file held.
    pub fn closing(&self, inode: Arc<Inode>, file: &File) {
        let mut state = lock(&self.state);
        if Arc::strong_count(&inode) > 1 {
            return;
        }
        state.open.remove(&inode.key);
        if status_of(file).is_ok_and(|status| status.stx_nlink == 0) {
            take(&mut state, inode.charged.load(Relaxed), 0);
        }
    }

    /// Changes the size of an open file by `change`, which gets the size it has and returns the one
    /// it then has. `target` says from the former how large it will be at most.
    pub fn resize(
        &self,
        limits: &Limits,
        (inode, file): (&Inode, &File),
        target: impl FnOnce(u64) -> Result<u64>,
        change: impl FnOnce(u64) -> Result<u64>,
    ) -> Result<()> {
        let _resizing = lock(&inode.resizing);
        let size = status_of(file)?.stx_size;
        self.correct(inode, size);
        let wanted = target(size)?;
        if wanted > size && wanted > limits.file_bytes {
            return Err(Error::limit(Errno::DQUOT));
        }
        self.charge(limits, wanted.saturating_sub(size), 0)?;
        inode.charged.store(wanted.max(size), Relaxed);
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
        &self,
        limits: &Limits,
        (parent, name): (&Dir, &OsStr),
        check: impl FnOnce(Option<&Statx>) -> Result<()>,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        if !limits.is_unlimited() {
            self.counted(&mut state, limits)?;
        }
        let before = match status_at(parent, name) {
            Err(error) if error.is(Errno::NOENT) => None,
            other => Some(other?),
        };
        check(before.as_ref())?;
        change()?;
        // A rename onto another name of the same file removes nothing.
        let after = status_at(parent, name).ok().map(|status| key_of(&status));
        let Some(status) = before.filter(|status| after != Some(key_of(status))) else {
            return Ok(());
        };
        let last = status.stx_nlink == 1 && !state.open.contains_key(&key_of(&status));
        let frees = last && FileKind::of(&status) == FileKind::File;
        take(&mut state, if frees { status.stx_size } else { 0 }, 1);
        Ok(())
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
        // Removed files that are still open have no name to be found by.
        for inode in state.open.values().filter_map(Weak::upgrade) {
            if !seen.contains(&inode.key.2) {
                used.bytes = used.bytes.saturating_add(inode.charged.load(Relaxed));
            }
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
