"""The C header and the Rust entries say the same: no compiler sees both."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1]
HEADER = (FOLDER / "rust/include/hl_fs.h").read_text()
SOURCES = {path.stem: path.read_text() for path in (FOLDER / "rust/src").glob("*.rs")}

C_TYPES = {
    "Fs": "const hl_fs *",
    "Text": "const uint8_t *",
    "*mut u8": "uint8_t *",
    "*mut u32": "uint32_t *",
    "*mut usize": "size_t *",
    "*mut CapFs": "hl_fs *",
    "*mut *mut CapFs": "hl_fs **",
    "*mut Snapshot": "hl_fs_snapshot *",
    "*const Snapshot": "const hl_fs_snapshot *",
    "*mut *mut Snapshot": "hl_fs_snapshot **",
    "*mut Limits": "hl_fs_limits *",
    "*const Limits": "const hl_fs_limits *",
    "*const MountC": "const hl_fs_mount *",
    "*mut Status": "hl_fs_status *",
    "*mut Space": "hl_fs_space *",
    "*mut Usage": "hl_fs_usage *",
    "*mut Listing": "hl_fs_listing *",
    "*const u8": "const uint8_t *",
    "u64": "uint64_t ",
    "u32": "uint32_t ",
    "i64": "int64_t ",
    "usize": "size_t ",
}
STRUCTS = {
    "hl_fs_limits": ("limits", "Limits"),
    "hl_fs_mount": ("ffi", "MountC"),
    "hl_fs_status": ("status", "Status"),
    "hl_fs_space": ("status", "Space"),
    "hl_fs_usage": ("ledger", "Usage"),
    "hl_fs_listing": ("files", "Listing"),
}
CONSTANTS = {
    "mount": ("Permissions: u32", "HL_FS_"),
    "handle": ("OpenFlags: u32", "HL_FS_OPEN_"),
}


def declared(text: str) -> list[str]:
    """`name: type` pairs, as C declares them."""
    pairs = [pair.strip().split(": ") for pair in text.split(",") if pair.strip()]
    return [C_TYPES[kind] + name for name, kind in pairs]


def plain(text: str) -> str:
    """Text with single spaces."""
    return " ".join(text.split())


def test_every_function_has_the_same_arguments() -> None:
    entries = SOURCES["ffi"].partition("entries! {")[2]
    rust = {
        name: declared(plain(arguments))
        for name, arguments in re.findall(r"fn (hl_fs_\w+)\((.*?)\) \{", entries, re.DOTALL)
    }
    c = {
        name: plain(arguments).split(", ")
        for name, arguments in re.findall(
            r"^int64_t (hl_fs_\w+)\((.*?)\);", HEADER, re.MULTILINE | re.DOTALL
        )
    }
    assert len(c) == 30
    assert rust == c


def test_every_structure_has_the_same_fields() -> None:
    found = re.findall(r"^typedef struct (\w+) \{\n(.*?)\n\}", HEADER, re.MULTILINE | re.DOTALL)
    c = {name: [plain(line) for line in body.split(";") if line.strip()] for name, body in found}
    assert c.keys() == STRUCTS.keys()
    for name, (source, structure) in STRUCTS.items():
        pattern = rf"#\[repr\(C\)\]\npub struct {structure} \{{\n(.*?)\n\}}"
        body = re.findall(pattern, SOURCES[source], re.DOTALL)[0]
        fields = re.sub(r"///.*|pub ", "", body)
        assert declared(plain(fields)) == c[name]


def test_every_flag_has_the_same_value() -> None:
    for source, (group, prefix) in CONSTANTS.items():
        body = SOURCES[source].partition(f"pub struct {group}")[2].partition("}")[0]
        for name, value in re.findall(r"const (\w+) = (\d+);", body):
            assert f"#define {prefix}{name} {value}\n" in HEADER


def test_unsafe_is_in_one_file_and_each_has_its_reason() -> None:
    for name, text in SOURCES.items():
        lines = text.splitlines()
        places = [n for n, line in enumerate(lines) if re.search(r"\bunsafe \{", line)]
        assert name == "ffi" or not places
        for place in places:
            assert any("SAFETY:" in line for line in lines[place - 2 : place + 1]), lines[place]
    assert "#![deny(unsafe_code, missing_docs)]" in SOURCES["lib"]
