//! Sixteen threads race renames and symlink swaps: nothing is read, written or listed outside.
//!
//! HL_FS_RACE_SECONDS says for how long; 5 by default.
use hl_fs::{CapFs, Limits, MountOptions, OpenFlags, Permissions};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const SECRET: &[u8] = b"secret";

/// Makes `swap/target` in turns a directory, a link to one inside, and a link to the one outside.
fn swap_on_the_host(inside: &Path, number: usize, end: Instant) {
    let swap = inside.join("swap");
    let own = inside.join(format!("own{number}"));
    while Instant::now() < end {
        for leads_to in ["../outside", "../../outside", "real", "/"] {
            let _ = symlink(leads_to, &own);
            let _ = fs::rename(&own, &swap);
            let _ = fs::remove_file(&swap);
        }
        // What another thread has swapped in may have become ours: away with it, link or not.
        let _ = fs::remove_file(&own);
        let _ = fs::remove_dir_all(&own);
        if fs::create_dir(&own).is_ok() && fs::write(own.join("file"), "inside").is_ok() {
            let _ = fs::rename(&own, &swap);
        }
        let _ = fs::rename(&swap, &own);
    }
}

/// Moves a directory up and down while others resolve `..` beneath it.
fn move_as_guest(guest: &CapFs, end: Instant) {
    while Instant::now() < end {
        let _ = guest.mkdir(b"/data/deep", 0o777);
        let _ = guest.mkdir(b"/data/deep/er", 0o777);
        let _ = guest.rename(b"/data/deep/er", b"/data/up");
        let _ = guest.symlink(b"../../outside", b"/data/deep/er");
        let _ = guest.rename(b"/data/up", b"/data/deep/er2");
        let _ = guest.rename(b"/data/deep/er2", b"/data/swap");
        let _ = guest.unlink(b"/data/deep/er");
    }
}

/// Reads, writes, lists and removes by every name that is being swapped.
fn attack(guest: &CapFs, end: Instant, done: &AtomicU64) {
    let create = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    while Instant::now() < end {
        for path in [&b"/data/swap"[..], b"/data/deep/er", b"/data/deep/er/../../swap", b"/data/up"]
        {
            let within = |name: &[u8]| [path, b"/", name].concat();
            if let Ok((handle, _)) = guest.open(&within(b"secret"), OpenFlags::READ, 0) {
                let mut buffer = [0; 64];
                let size = guest.read(handle, &mut buffer, None).unwrap_or(0);
                assert_ne!(&buffer[..size], SECRET, "read outside");
                let _ = guest.close(handle);
            }
            if let Ok((handle, _)) = guest.open(&within(b"planted"), create, 0o666) {
                let _ = guest.write(handle, b"planted", None);
                let _ = guest.close(handle);
            }
            if let Ok((handle, _)) = guest.open(path, OpenFlags::READ | OpenFlags::DIRECTORY, 0) {
                let mut buffer = [0; 4096];
                let used =
                    guest.list(handle, 0, 100, &mut buffer).map_or(0, |listing| listing.bytes);
                let listed = &buffer[..used as usize];
                assert!(!listed.windows(6).any(|name| name == b"marker"), "listed outside");
                let _ = guest.close(handle);
            }
            let _ = guest.mkdir(&within(b"made"), 0o777);
            let _ = guest.chmod(&within(b"secret"), 0o777);
            let _ = guest.utimes(&within(b"secret"), Some(0), Some(0), true);
            let _ = guest.rename(&within(b"secret"), b"/data/stolen");
            let _ = guest.link(&within(b"secret"), b"/data/stolen");
            let _ = guest.unlink(&within(b"planted"));
            let _ = guest.unlink(&within(b"marker"));
            done.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn nothing_outside_is_touched_while_names_are_swapped() {
    let seconds = std::env::var("HL_FS_RACE_SECONDS").map_or(5, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let root = tempfile::tempdir().unwrap();
    let (inside, outside) = (root.path().join("inside"), root.path().join("outside"));
    fs::create_dir_all(inside.join("real")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), SECRET).unwrap();
    fs::write(outside.join("marker"), "").unwrap();
    let before = fs::metadata(outside.join("secret")).unwrap();
    let mount = MountOptions {
        host: Some(&inside),
        guest: b"/data",
        permissions: Permissions::all() & !Permissions::CROSS,
        ephemeral: false,
    };
    let guest = CapFs::new(Limits::default(), &[mount]).map_err(|(_, error)| error).unwrap();
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let inside = &inside;
            scope.spawn(move || swap_on_the_host(inside, number, end));
            scope.spawn(|| move_as_guest(&guest, end));
            scope.spawn(|| attack(&guest, end, &done));
            scope.spawn(|| attack(&guest, end, &done));
        }
    });
    let mut names: Vec<_> =
        fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["marker", "secret"]);
    let after = fs::metadata(outside.join("secret")).unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), SECRET);
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(after.permissions(), before.permissions());
    assert!(!inside.join("stolen").exists());
    let done = done.load(Relaxed);
    println!("{done} attacks in {seconds} s");
    assert!(done > 100, "the attack hardly ran");
}
