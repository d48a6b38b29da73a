//! A file system: its mounts, its limits and its handles.
use crate::handle::Table;
use crate::mount::{Mount, MountOptions, Node, Parent, Permissions};
use crate::{path, Error, Limits, Result};
use rustix::io::Errno;
use std::sync::{Arc, Mutex};

/// Granted directories in one tree, and the open handles into it. Any thread may call any operation.
pub struct CapFs {
    pub(crate) mounts: Vec<Arc<Mount>>,
    guests: Vec<Vec<u8>>,
    pub(crate) limits: Limits,
    pub(crate) table: Mutex<Table>,
}

/// A path, split into its mount and the rest.
pub struct At<'a> {
    pub mount: &'a Arc<Mount>,
    pub rest: Vec<u8>,
}

impl At<'_> {
    pub fn node(&self, follow: bool) -> Result<Node<'_>> {
        self.mount.node(&self.rest, follow)
    }

    pub fn parent(&self, special: Errno) -> Result<Parent<'_>> {
        self.mount.parent(&self.rest, special)
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
            mounts.push(Arc::new(Mount::open(option).map_err(|error| (index, error))?));
        }
        let guests = mounts.iter().map(|mount| mount.guest.clone()).collect();
        Ok(CapFs { mounts, guests, limits, table: Table::new() })
    }

    /// Where a guest path leads, if the guest may do all of `wanted` there.
    pub(crate) fn at(&self, guest: &[u8], wanted: Permissions) -> Result<At<'_>> {
        let (index, rest) = path::resolve(guest, &self.guests, &self.limits)?;
        self.mounts[index].require(wanted)?;
        Ok(At { mount: &self.mounts[index], rest })
    }

    /// Charges one name for what `make` makes, and takes it back if that fails.
    pub(crate) fn named<T>(&self, mount: &Mount, make: impl FnOnce() -> Result<T>) -> Result<T> {
        mount.ledger.charge(&self.limits, 0, 1)?;
        make().inspect_err(|_| mount.ledger.refund(0, 1))
    }
}
