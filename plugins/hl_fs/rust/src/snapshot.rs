//! Snapshots: which handles were open where, and what ephemeral mounts held.
use crate::handle::{Handle, Numbers, OpenFlags};
use crate::mount::{set_mode, status_of, FileKind, OpenFile};
use crate::{lock, tree, CapFs, Error, Result};
use cap_std::fs::{Dir, MetadataExt};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// What JSON numbers hold exactly (RFC 8259 section 6), and more than anybody opens.
const MOST_HANDLES: u64 = 1 << 53;

/// A directory for this process alone, removed with all that is in it when dropped.
struct Private(TempDir);

impl Private {
    fn new(within: Option<&Path>) -> Result<Private> {
        use std::os::unix::fs::PermissionsExt;
        let mut builder = tempfile::Builder::new();
        builder.prefix("hl_fs-").permissions(std::fs::Permissions::from_mode(0o700));
        Ok(Private(match within {
            Some(directory) => builder.tempdir_in(directory)?,
            None => builder.tempdir()?,
        }))
    }

    fn open(&self) -> Result<Dir> {
        Ok(Dir::open_ambient_dir(self.0.path(), cap_std::ambient_authority())?)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // TempDir alone would stop at a directory to which a guest has denied all access. What is
        // left after an error here, it tries to remove.
        let _ = self.open().and_then(|dir| empty(&dir));
    }
}

/// Removes all that is in a private directory.
fn empty(dir: &Dir) -> Result<()> {
    set_mode(dir, 0o700)?;
    tree::empty(dir)
}

/// The private directory of an ephemeral mount.
pub struct Ephemeral {
    directory: Private,
    within: Option<PathBuf>,
    /// Whether the content may differ from `tree`.
    changed: AtomicBool,
    /// The last tree taken or put back; None is the empty one.
    tree: Mutex<Option<Arc<Tree>>>,
}

/// A copy of what an ephemeral mount held; it never changes.
struct Tree {
    directory: Private,
    /// Held while somebody copies from it: that opens what a guest has shut, for the moment.
    copying: Mutex<()>,
    names: HashMap<u64, PathBuf>,
}

impl Ephemeral {
    pub fn new(within: Option<&Path>) -> Result<Ephemeral> {
        Ok(Ephemeral {
            directory: Private::new(within)?,
            within: within.map(Path::to_path_buf),
            changed: AtomicBool::new(false),
            tree: Mutex::new(None),
        })
    }

    pub fn path(&self) -> &Path {
        self.directory.0.path()
    }

    /// Notes that the content changes.
    pub fn touch(&self) {
        self.changed.store(true, SeqCst);
    }

    fn take(&self, root: &Dir) -> Result<Option<Arc<Tree>>> {
        let mut tree = lock(&self.tree);
        if self.changed.swap(false, SeqCst) {
            *tree = copy(root, self.within.as_deref()).inspect_err(|_| self.touch())?;
        }
        Ok(tree.clone())
    }

    /// Says whether anything had to change.
    fn put_back(&self, root: &Dir, wanted: Option<&Arc<Tree>>) -> Result<bool> {
        let mut tree = lock(&self.tree);
        let same = tree.as_ref().map(Arc::as_ptr) == wanted.map(Arc::as_ptr);
        if same && !self.changed.load(SeqCst) {
            return Ok(false);
        }
        self.touch();
        empty(root)?;
        if let Some(wanted) = wanted {
            let (_copying, from) = (lock(&wanted.copying), wanted.directory.open()?);
            tree::Copy::default().run(&from, root, root, Path::new(""))?;
        }
        *tree = wanted.cloned();
        self.changed.store(false, SeqCst);
        Ok(true)
    }
}

/// A copy of what is in `root`, or None if that is nothing.
fn copy(root: &Dir, within: Option<&Path>) -> Result<Option<Arc<Tree>>> {
    // A guest may have shut out its own host.
    set_mode(root, root.dir_metadata()?.mode() | 0o700)?;
    if root.entries()?.next().is_none() {
        return Ok(None);
    }
    let directory = Private::new(within)?;
    let target = directory.open()?;
    let mut copy = tree::Copy::default();
    copy.run(root, &target, &target, Path::new(""))?;
    Ok(Some(Arc::new(Tree { directory, copying: Mutex::new(()), names: copy.names })))
}

/// What a file system remembers of one moment; it never changes and may outlive it.
pub struct Snapshot {
    numbers: Numbers,
    handles: Vec<(u64, Option<Saved>)>,
    trees: Vec<Option<Arc<Tree>>>,
}

impl Snapshot {
    /// The number that the next handle would have had: all that outlives the process, for
    /// [`CapFs::restart`].
    pub fn next_handle(&self) -> u64 {
        self.numbers.next
    }
}

/// A handle at that moment.
struct Saved {
    flags: OpenFlags,
    position: u64,
    file: SavedFile,
}

enum SavedFile {
    /// Of a granted directory: the open file itself, and whether it had a name.
    Granted(Arc<OpenFile>, bool),
    /// Of an ephemeral mount: its index and the path beneath it, None if it had no name.
    Ephemeral(usize, FileKind, Option<PathBuf>),
}

impl CapFs {
    /// Remembers the open handles and the content of ephemeral mounts.
    ///
    /// # Errors
    /// Those of copying the ephemeral files.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let trees = (self.mounts.iter())
            .map(|mount| match &mount.ephemeral {
                Some(ephemeral) => ephemeral.take(&mount.root),
                None => Ok(None),
            })
            .collect::<Result<Vec<_>>>()?;
        let (numbers, entries) = lock(&self.table).entries();
        let handles = (entries.into_iter())
            .map(|(number, handle)| (number, handle.map(|handle| self.save(&handle, &trees))))
            .collect();
        Ok(Snapshot { numbers, handles, trees })
    }

    fn save(&self, handle: &Handle, trees: &[Option<Arc<Tree>>]) -> Saved {
        let open = &handle.open;
        let status = status_of(&open.file);
        let index = self.mounts.iter().position(|mount| Arc::ptr_eq(mount, &open.mount));
        let file = match index.filter(|_| open.mount.ephemeral.is_some()) {
            None => {
                let named = status.is_ok_and(|status| status.stx_nlink > 0);
                SavedFile::Granted(open.clone(), named)
            }
            Some(index) => {
                let inode = status.map_or(0, |status| status.stx_ino);
                let is_root = status_of(&open.mount.root).is_ok_and(|root| root.stx_ino == inode);
                let found = trees[index].as_ref().and_then(|tree| tree.names.get(&inode)).cloned();
                let path = if is_root { Some(PathBuf::from(".")) } else { found };
                SavedFile::Ephemeral(index, open.kind, path)
            }
        };
        Saved { flags: handle.flags, position: *lock(&handle.position), file }
    }

    /// Goes back to a snapshot of this file system or of one with the same mounts; without one, to
    /// the start. Handles opened since are closed; those of the snapshot are at their position
    /// again, or answer ESTALE if their file has gone.
    ///
    /// # Errors
    /// Those of emptying and copying; every handle is closed then.
    pub fn restore(&self, snapshot: Option<&Snapshot>) -> Result<()> {
        self.close_handles();
        for (index, mount) in self.mounts.iter().enumerate() {
            if let Some(ephemeral) = &mount.ephemeral {
                let tree = snapshot.and_then(|snapshot| snapshot.trees.get(index)?.as_ref());
                if ephemeral.put_back(&mount.root, tree)? {
                    mount.ledger.forget();
                }
            }
        }
        if let Some(snapshot) = snapshot {
            let handles = (snapshot.handles.iter()).map(|(number, saved)| {
                (*number, saved.as_ref().and_then(|saved| self.reopen(saved)))
            });
            drop(lock(&self.table).replace(snapshot.numbers, handles));
        }
        Ok(())
    }

    /// Goes to the start for a guest from another process, which has used the handles below `next`:
    /// they answer ESTALE until the next restore, closing them succeeds, and none is given out.
    ///
    /// # Errors
    /// EINVAL for a number that no guest gets to; else those of emptying.
    pub fn restart(&self, next: u64) -> Result<()> {
        if next > MOST_HANDLES {
            return Err(Error::invalid(Errno::INVAL));
        }
        self.restore(None)?;
        drop(lock(&self.table).replace(Numbers { next, lost: next }, std::iter::empty()));
        Ok(())
    }

    fn reopen(&self, saved: &Saved) -> Option<Handle> {
        let open = match &saved.file {
            SavedFile::Granted(open, named) => {
                let gone =
                    *named && status_of(&open.file).is_ok_and(|status| status.stx_nlink == 0);
                (!gone).then(|| open.clone())?
            }
            SavedFile::Ephemeral(index, kind, path) => {
                let mount = self.mounts.get(*index)?;
                let node = mount.node(path.as_ref()?.as_os_str().as_bytes(), false).ok()?;
                let file = node.open(access(saved.flags, *kind)).ok()?;
                Arc::new(OpenFile::new(file, &node.status, mount).ok()?)
            }
        };
        Some(Handle { open, flags: saved.flags, position: Mutex::new(saved.position) })
    }

    /// Closes every handle.
    pub(crate) fn close_handles(&self) {
        drop(lock(&self.table).replace(Numbers { next: 0, lost: 0 }, std::iter::empty()));
    }
}

/// The flags of open(2) for a handle.
pub fn access(flags: OpenFlags, kind: FileKind) -> OFlags {
    let end = if flags.contains(OpenFlags::APPEND) { OFlags::APPEND } else { OFlags::empty() };
    match (kind, flags.contains(OpenFlags::READ), flags.intersects(OpenFlags::WRITES)) {
        (FileKind::Directory, _, _) => OFlags::RDONLY | OFlags::DIRECTORY,
        (_, true, true) => OFlags::RDWR | end,
        (_, false, true) => OFlags::WRONLY | end,
        (_, _, false) => OFlags::RDONLY,
    }
}
