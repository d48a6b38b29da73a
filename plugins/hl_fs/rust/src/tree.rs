//! Whole trees of directories: counting, measuring, copying and emptying them.
use crate::{Error, Result};
use cap_std::fs::{Dir, DirEntry, Metadata, MetadataExt, Permissions, PermissionsExt};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Visits every entry beneath `dir`, not deeper than `depth` levels and not following symlinks.
/// `visit` says whether to go into a directory. What vanishes or may not be read is left out: the
/// guest cannot grow it either.
pub fn walk(dir: &Dir, depth: u64, visit: &mut dyn FnMut(&Metadata, u64) -> bool) -> Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let Some(status) = present(entry.metadata())? else {
            continue;
        };
        if visit(&status, depth) && status.is_dir() && depth > 0 {
            if let Some(child) = present(entry.open_dir())? {
                walk(&child, depth - 1, visit)?;
            }
        }
    }
    Ok(())
}

fn present<T>(result: std::io::Result<T>) -> Result<Option<T>> {
    match result.map_err(Error::from) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::ACCESS) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Levels of directories beneath `dir`, counted up to `limit` + 1.
pub fn height(dir: &Dir, limit: u64) -> Result<u64> {
    let mut height = 0;
    walk(dir, limit, &mut |status, left| {
        height = height.max(limit - left + u64::from(status.is_dir()));
        true
    })?;
    Ok(height)
}

/// Removes everything in `dir`, whatever modes a guest has set.
pub fn empty(dir: &Dir) -> Result<()> {
    for entry in dir.entries()? {
        let (entry, status) = with_status(entry)?;
        if status.is_dir() {
            open_up(dir, &entry, &status)?;
            empty(&entry.open_dir()?)?;
            entry.remove_dir()?;
        } else {
            entry.remove_file()?;
        }
    }
    Ok(())
}

fn with_status(entry: std::io::Result<DirEntry>) -> Result<(DirEntry, Metadata)> {
    let entry = entry?;
    let status = entry.metadata()?;
    Ok((entry, status))
}

/// Lets the owner read and change `entry`; says whether it did not before.
fn open_up(dir: &Dir, entry: &DirEntry, status: &Metadata) -> Result<bool> {
    let closed = status.mode() & 0o700 != 0o700 && (status.is_dir() || status.mode() & 0o400 == 0);
    if closed {
        dir.set_permissions(entry.file_name(), Permissions::from_mode(status.mode() | 0o700))?;
    }
    Ok(closed)
}

/// Copies trees and remembers which inode became which path.
#[derive(Default)]
pub struct Copy {
    /// Path beneath the root of the copy, by the inode of the original.
    pub names: HashMap<u64, PathBuf>,
}

impl Copy {
    /// Copies what is in `from` into the empty `to`; `top` is the root of the copy and `at` the path
    /// of `to` beneath it. Modes, times, symlinks and hard links are kept.
    pub fn run(&mut self, from: &Dir, to: &Dir, top: &Dir, at: &Path) -> Result<()> {
        for entry in from.entries()? {
            let (entry, status) = with_status(entry)?;
            let closed = !status.is_symlink() && open_up(from, &entry, &status)?;
            let result = self.one(from, to, top, at, &entry, &status);
            if closed {
                let mode = Permissions::from_mode(status.mode() & 0o7777);
                from.set_permissions(entry.file_name(), mode)?;
            }
            result?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        from: &Dir,
        to: &Dir,
        top: &Dir,
        at: &Path,
        entry: &DirEntry,
        status: &Metadata,
    ) -> Result<()> {
        let name = entry.file_name();
        let path = at.join(&name);
        if status.is_symlink() {
            return Ok(to.symlink_contents(from.read_link_contents(&name)?, &name)?);
        }
        if let Some(first) = self.names.get(&status.ino()) {
            if top.hard_link(first, to, &name).is_ok() {
                return Ok(());
            }
        }
        self.names.entry(status.ino()).or_insert_with(|| path.clone());
        if status.is_dir() {
            to.create_dir(&name)?;
            let child = to.open_dir(&name)?;
            self.run(&entry.open_dir()?, &child, top, &path)?;
            return dress(to.open(&name)?, status);
        }
        let target = to.create(&name)?;
        std::io::copy(&mut entry.open()?.into_std(), &mut target.try_clone()?.into_std())?;
        dress(target, status)
    }
}

/// Gives a copy the mode and times of its original.
fn dress(copy: impl AsFd, status: &Metadata) -> Result<()> {
    let time =
        |seconds, nanoseconds| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps {
        last_access: time(status.atime(), status.atime_nsec()),
        last_modification: time(status.mtime(), status.mtime_nsec()),
    };
    rustix::fs::futimens(&copy, &times)?;
    Ok(rustix::fs::fchmod(copy, rustix::fs::Mode::from_raw_mode(status.mode() & 0o7777))?)
}
