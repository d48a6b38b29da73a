//! From a guest's path to a mount and a path beneath it. Whether that path stays beneath is left to
//! cap-std; nothing here decides it.
use crate::{Error, Limits, Result};
use rustix::io::Errno;

/// Places where a guest's system lives: a mount there could replace its programs.
const RESERVED: [&[u8]; 10] =
    [b"/bin", b"/boot", b"/dev", b"/etc", b"/lib", b"/lib64", b"/proc", b"/sbin", b"/sys", b"/usr"];

/// Whether `path` is `directory` or lies beneath it.
fn within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first().map_or(true, |byte| *byte == b'/'))
}

/// The mount that `path` belongs to: the longest guest path it lies within.
fn mount_of(path: &[u8], mounts: &[impl AsRef<[u8]>]) -> Option<usize> {
    (0..mounts.len())
        .filter(|index| within(path, mounts[*index].as_ref()))
        .max_by_key(|index| mounts[*index].as_ref().len())
}

/// Checks the guest path of a mount: absolute, plain, and away from the guest's own system.
pub fn check_mount_point(guest: &[u8]) -> Result<()> {
    let plain = guest.len() > 1
        && guest[0] == b'/'
        && !guest.contains(&0)
        && guest[1..].split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    if !plain || RESERVED.iter().any(|reserved| within(guest, reserved)) {
        return Err(Error::invalid(Errno::INVAL));
    }
    Ok(())
}

/// Splits the absolute guest path `path` into the index of its mount and the path beneath it ("." for
/// the mount itself). `..` is folded only above a mount and at its root; beneath it a symlink may
/// come before, so the lookup has to see it. A final `/` or `/.` stays.
///
/// # Errors
/// EINVAL for a relative path or a NUL, ENAMETOOLONG over a limit, ENOENT outside of every mount.
pub fn resolve(
    path: &[u8],
    mounts: &[impl AsRef<[u8]>],
    limits: &Limits,
) -> Result<(usize, Vec<u8>)> {
    if path.len() as u64 > limits.path_bytes {
        return Err(Error::limit(Errno::NAMETOOLONG));
    }
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(Error::invalid(Errno::INVAL));
    }
    let mut plain = Vec::with_capacity(path.len() + 1);
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        let at_root = |index: usize| mounts[index].as_ref() == plain;
        if name == b".." && mount_of(&plain, mounts).map_or(true, at_root) {
            plain.truncate(plain.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            continue;
        }
        depth += 1;
        plain.push(b'/');
        plain.extend_from_slice(name);
    }
    if depth > limits.depth {
        return Err(Error::limit(Errno::NAMETOOLONG));
    }
    let index = mount_of(&plain, mounts).ok_or(Error::from(Errno::NOENT))?;
    let start = mounts[index].as_ref().len() + 1;
    if start > plain.len() {
        return Ok((index, b".".to_vec()));
    }
    let tail: &[u8] = match path.ends_with(b"/.") {
        true => b"/.",
        false if path.ends_with(b"/") => b"/",
        false => b"",
    };
    plain.extend_from_slice(tail);
    plain.drain(..start);
    Ok((index, plain))
}

/// Splits a path beneath a mount into its parent ("" for the mount) and the last name, which may be
/// `.` or `..` and then is no name that can be made or removed.
pub fn split(rest: &[u8]) -> (&[u8], &[u8]) {
    let plain = rest.strip_suffix(b"/").unwrap_or(rest);
    let cut = plain.iter().rposition(|byte| *byte == b'/');
    cut.map_or((b"", plain), |at| (&plain[..at], &plain[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: [&[u8]; 3] = [b"/data", b"/data/inner", b"/other"];

    fn to(path: &str) -> Result<(usize, String)> {
        resolve(path.as_bytes(), &MOUNTS, &Limits::default())
            .map(|(index, rest)| (index, String::from_utf8(rest).unwrap()))
    }

    #[test]
    fn the_longest_mount_wins() {
        assert_eq!(to("/data/a"), Ok((0, "a".into())));
        assert_eq!(to("/data/inner/a"), Ok((1, "a".into())));
        assert_eq!(to("/data/innermost"), Ok((0, "innermost".into())));
    }

    #[test]
    fn dots_above_a_mount_fold_and_beneath_it_stay() {
        assert_eq!(to("//data/./a/../b/"), Ok((0, "a/../b/".into())));
        assert_eq!(to("/data/../other/x/."), Ok((2, "x/.".into())));
        assert_eq!(to("/../../data/"), Ok((0, ".".into())));
        assert_eq!(to("/data/a/../../etc"), Ok((0, "a/../../etc".into())));
    }

    #[test]
    fn what_is_in_no_mount_does_not_exist() {
        assert_eq!(to("/etc/passwd"), Err(Error::from(Errno::NOENT)));
        assert_eq!(to("/database"), Err(Error::from(Errno::NOENT)));
        assert_eq!(to("data/a"), Err(Error::invalid(Errno::INVAL)));
        assert_eq!(to("/data/a\0b"), Err(Error::invalid(Errno::INVAL)));
    }

    #[test]
    fn long_and_deep_paths_are_refused() {
        let limit = Err(Error::limit(Errno::NAMETOOLONG));
        assert_eq!(to(&format!("/data/{}", "x".repeat(4096))), limit);
        assert_eq!(to(&format!("/data{}", "/x".repeat(64))), limit);
        assert!(to(&format!("/data{}", "/x".repeat(63))).is_ok());
    }

    #[test]
    fn system_paths_are_no_mount_points() {
        for guest in ["/", "", "data", "/usr", "/usr/local/data", "/a/../usr", "/a//b", "/a/"] {
            assert!(check_mount_point(guest.as_bytes()).is_err(), "{guest}");
        }
        assert!(check_mount_point(b"/usrdata").is_ok());
    }
}
