//! Any bytes as a path: the answer is beneath one of the mounts, or an error.
#![no_main]
use libfuzzer_sys::fuzz_target;

const MOUNTS: [&[u8]; 3] = [b"/data", b"/data/inner", b"/other"];

fuzz_target!(|path: &[u8]| {
    let limits = hl_fs::Limits::default();
    let Ok((index, rest)) = hl_fs::resolve_path(path, &MOUNTS, &limits) else { return };
    assert!(index < MOUNTS.len());
    assert!(!rest.is_empty() && rest[0] != b'/' && !rest.contains(&0));
    assert!(rest.len() <= path.len());
    // Resolving what came out again changes nothing.
    let again = [MOUNTS[index], b"/", &rest].concat();
    assert_eq!(hl_fs::resolve_path(&again, &MOUNTS, &limits), Ok((index, rest)));
});
