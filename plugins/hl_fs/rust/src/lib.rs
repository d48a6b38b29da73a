//! A capability filesystem: untrusted callers reach files beneath a few granted directories, with
//! explicit rights and limits, and nothing else.
//!
//! cap-std confines every path lookup to the granted directory; this crate adds what cap-std leaves
//! to its caller: several directories under one tree, rights, kinds of files, other file systems
//! mounted beneath, limits, handles, snapshots. Read the files in the order in which they stand here.
#![deny(unsafe_code, missing_docs)]

mod error;
mod limits;
mod path;
mod status;

mod mount;

mod capfs;
mod handle;
mod open;

mod files;
mod names;

mod ledger;
mod snapshot;
mod tree;

#[allow(unsafe_code)]
mod ffi;

pub use capfs::CapFs;
pub use error::{Error, Kind, Result};
pub use files::{Listing, Whence};
pub use handle::OpenFlags;
pub use ledger::Usage;
pub use limits::Limits;
pub use mount::{FileKind, MountOptions, Permissions};
pub use path::resolve as resolve_path;
pub use snapshot::Snapshot;
pub use status::{Space, Status};

/// Takes a lock, also after a panic elsewhere: no invariant spans two critical sections.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
