//! Handles: numbers that stand for open files, never used twice.
use crate::mount::OpenFile;
use crate::{lock, Error, Result};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

bitflags::bitflags! {
    /// How to open a file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// For reading.
        const READ = 1;
        /// For writing.
        const WRITE = 2;
        /// For writing at the end, wherever that is at each write.
        const APPEND = 4;
        /// Make the file if it is missing.
        const CREATE = 8;
        /// With CREATE: fail if the name exists.
        const EXCLUSIVE = 16;
        /// Cut the file to nothing.
        const TRUNCATE = 32;
        /// Fail if it is no directory.
        const DIRECTORY = 64;
        /// Fail if the last name is a symlink.
        const NOFOLLOW = 128;
    }
}

impl OpenFlags {
    /// The flags that allow to write.
    pub(crate) const WRITES: OpenFlags = OpenFlags::WRITE.union(OpenFlags::APPEND);
}

/// One open of a file: its rights and its position.
pub struct Handle {
    pub open: Arc<OpenFile>,
    pub flags: OpenFlags,
    pub position: Mutex<u64>,
}

/// A handle by its number; None: open at a snapshot, and gone when it was restored.
pub type Numbered = (u64, Option<Arc<Handle>>);

/// Which numbers handles have.
#[derive(Clone, Copy)]
pub struct Numbers {
    /// What the next one gets.
    pub next: u64,
    /// Below, they may be of a guest's former life elsewhere: those that are not open are stale.
    pub lost: u64,
}

/// The handles of one file system.
pub struct Table {
    numbers: Numbers,
    open: HashMap<u64, Option<Arc<Handle>>>,
}

impl Table {
    pub fn new() -> Mutex<Table> {
        Mutex::new(Table { numbers: Numbers { next: 1, lost: 0 }, open: HashMap::new() })
    }

    /// Whether one more handle fits.
    pub fn check(&self, limit: u64) -> Result<()> {
        if self.open.len() as u64 >= limit {
            return Err(Error::limit(Errno::MFILE));
        }
        Ok(())
    }

    pub fn insert(&mut self, handle: Handle, limit: u64) -> Result<u64> {
        self.check(limit)?;
        let number = self.numbers.next;
        self.numbers.next += 1;
        self.open.insert(number, Some(Arc::new(handle)));
        Ok(number)
    }

    pub fn get(&self, number: u64) -> Result<Arc<Handle>> {
        match self.open.get(&number) {
            Some(Some(handle)) => Ok(handle.clone()),
            Some(None) => Err(Error::from(Errno::STALE)),
            None if number < self.numbers.lost => Err(Error::from(Errno::STALE)),
            None => Err(Error::invalid(Errno::BADF)),
        }
    }

    /// Takes a handle out; the caller drops it after the lock.
    pub fn remove(&mut self, number: u64) -> Result<Option<Arc<Handle>>> {
        match self.open.remove(&number) {
            Some(handle) => Ok(handle),
            None if number < self.numbers.lost => Ok(None),
            None => Err(Error::invalid(Errno::BADF)),
        }
    }

    /// Every handle and the numbers, for a snapshot.
    pub fn entries(&self) -> (Numbers, Vec<Numbered>) {
        (self.numbers, self.open.iter().map(|(number, handle)| (*number, handle.clone())).collect())
    }

    /// Puts other handles in place of all; numbers used so far stay used.
    pub fn replace(
        &mut self,
        numbers: Numbers,
        entries: impl Iterator<Item = (u64, Option<Handle>)>,
    ) -> HashMap<u64, Option<Arc<Handle>>> {
        self.numbers = Numbers { next: self.numbers.next.max(numbers.next), ..numbers };
        let entries = entries.map(|(number, handle)| (number, handle.map(Arc::new))).collect();
        std::mem::replace(&mut self.open, entries)
    }
}

/// The handle with this number.
pub fn get(table: &Mutex<Table>, number: u64) -> Result<Arc<Handle>> {
    lock(table).get(number)
}
