"""Snapshots on disk: what is in them, and every file that is refused, with its reason."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core import snapshot_files
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.guests import GuestImage
from hyperlight_core.machine import Machine, MachineSnapshot, MachineSpec
from hyperlight_core.snapshot_files import open_snapshot, processor
from hyperlight_core.vm import VmConfig

pytestmark = pytest.mark.kvm

CONFIG = VmConfig(4 * 2**20, 65536, 65536, 4096)
FILES = ("manifest.json", "memory", "state")


@pytest.fixture
def spec(hostile: GuestImage) -> MachineSpec:
    return MachineSpec(hostile, CONFIG)


@pytest.fixture
def saved(spec: MachineSpec, tmp_path: Path) -> Path:
    """A snapshot in which the guest has counted to 4."""
    place = tmp_path / "saved"
    with Machine(spec) as machine, machine.using() as calls:
        calls.boot()
        for _ in range(4):
            calls.call("count")
        machine.snapshot().save(place)
    return place


def count(spec: MachineSpec, place: Path, *, verify: bool = True) -> int:
    """The next answer of the guest that the snapshot holds."""
    start = MachineSnapshot.of(open_snapshot(place, verify=verify))
    with Machine(spec, start) as machine, machine.using() as calls:
        return int(calls.call("count").result)


def change_manifest(place: Path, **changes: Any) -> None:
    path = place / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(place: Path, reason: str, *, verify: bool = False) -> None:
    with pytest.raises(ConfigurationError, match=rf"the snapshot {place.name}: .*{reason}"):
        open_snapshot(place, verify=verify)


# ---- saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
def test_a_guest_goes_on_where_it_was_saved(
    spec: MachineSpec, saved: Path, *, verify: bool
) -> None:
    assert [count(spec, saved, verify=verify) for _ in range(3)] == [5, 5, 5]


def test_it_can_be_read_by_this_user_alone(spec: MachineSpec, tmp_path: Path) -> None:
    """Whatever the umask."""
    old = os.umask(0)
    try:
        with Machine(spec) as machine, machine.using():
            machine.snapshot().save(tmp_path / "saved")
    finally:
        os.umask(old)
    for path in (tmp_path / "saved", *(tmp_path / "saved").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_its_memory_takes_no_room_for_zeros(saved: Path) -> None:
    status = (saved / "memory").stat()
    assert status.st_size == CONFIG.memory
    assert status.st_blocks * 512 < CONFIG.memory // 8


def test_nothing_is_overwritten(spec: MachineSpec, saved: Path) -> None:
    with Machine(spec) as machine, machine.using(), pytest.raises(OSError, match=r"not empty"):
        machine.snapshot().save(saved)
    assert count(spec, saved) == 5


def test_a_failure_leaves_nothing_behind(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, say, when all but the manifest is written."""

    def full(_directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_files, "_synchronise", full)
    with Machine(spec) as machine, machine.using(), pytest.raises(OSError, match="No space"):
        machine.snapshot().save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_it_may_be_moved_and_copied(spec: MachineSpec, saved: Path, tmp_path: Path) -> None:
    """Also by a program that makes no holes."""
    shutil.copytree(saved, tmp_path / "copy")
    assert (tmp_path / "copy" / "memory").stat().st_blocks * 512 >= CONFIG.memory
    saved.rename(tmp_path / "moved")
    assert [count(spec, tmp_path / name) for name in ("copy", "moved")] == [5, 5]


def test_processes_share_its_pages(spec: MachineSpec, saved: Path) -> None:
    """What a guest only reads is in the page cache, once, and private to nobody."""
    start = MachineSnapshot.of(open_snapshot(saved))
    with Machine(spec, start) as machine, machine.using() as calls:
        calls.call("count")
        mine: dict[str, int] = {}
        on = False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            name, _, rest = line.partition(":")
            if "-" in name.split()[0]:
                on = str(saved / "memory") in line
            elif on and name in ("Rss", "Private_Dirty"):
                mine[name] = mine.get(name, 0) + int(rest.split()[0])
    assert mine["Private_Dirty"] < mine["Rss"]


# ---- deltas ------------------------------------------------------------------------------------


@pytest.fixture
def delta(spec: MachineSpec, saved: Path) -> Path:
    """Over the other one: the guest has counted to 6."""
    start = MachineSnapshot.of(open_snapshot(saved))
    with Machine(spec, start) as machine, machine.using() as calls:
        calls.call("count")
        calls.call("count")
        machine.snapshot().save(saved.with_name("delta"), parent=saved)
    return saved.with_name("delta")


def test_a_delta_stores_what_differs(spec: MachineSpec, saved: Path, delta: Path) -> None:
    whole, part = ((place / "memory").stat().st_blocks for place in (saved, delta))
    assert part <= whole // 2
    assert (count(spec, saved), count(spec, delta)) == (5, 7)


def test_a_delta_of_a_delta(spec: MachineSpec, delta: Path) -> None:
    with Machine(spec) as machine, machine.using() as calls:
        calls.boot()
        machine.snapshot().save(delta.with_name("fresh"), parent=delta)
    assert (count(spec, delta.with_name("fresh")), count(spec, delta)) == (1, 7)


def test_a_delta_without_its_parent(saved: Path, delta: Path) -> None:
    shutil.rmtree(saved)
    with pytest.raises(FileNotFoundError):
        open_snapshot(delta)


def test_a_delta_over_another_parent(saved: Path, delta: Path) -> None:
    change_manifest(saved, plugins=["other"])
    refused(delta, "not the parent that the delta was taken from")


@pytest.mark.parametrize("name", ["", ".", "..", "../saved", "/", "a\0b", "x" * 300])
def test_a_parent_elsewhere(delta: Path, name: str) -> None:
    parent = json.loads((delta / "manifest.json").read_text())["parent"]
    change_manifest(delta, parent=parent | {"name": name})
    refused(delta, "malformed")


def test_a_delta_is_not_written_elsewhere(spec: MachineSpec, saved: Path, tmp_path: Path) -> None:
    with (
        Machine(spec) as machine,
        machine.using(),
        pytest.raises(ConfigurationError, match="into the folder of its parent"),
    ):
        machine.snapshot().save(tmp_path / "deeper" / "delta", parent=saved)


def test_a_chain_of_deltas_has_an_end(spec: MachineSpec, saved: Path) -> None:
    with Machine(spec) as machine, machine.using():
        for i in range(16):
            parent = saved.with_name(f"{i - 1}") if i else saved
            machine.snapshot().save(saved.with_name(f"{i}"), parent=parent)
        open_snapshot(saved.with_name("15"))
        machine.snapshot().save(saved.with_name("16"), parent=saved.with_name("15"))
    refused(saved.with_name("16"), "more than 16 ancestors")


# ---- another machine ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 1}, "it has format 1, this reads 2"),
        ({"format": 3, "new": 1}, "it has format 3, this reads 2"),
        ({"format": "2"}, "malformed"),
        ({"abi_version": 999}, "it has ABI version 999"),
        ({"maker": "Nobody"}, "it needs a processor of Nobody"),
        ({"features": processor().features + " warp tardis"}, "lacks tardis warp"),
        ({"memory": "4MiB"}, "malformed"),
        ({"memory": 2**64}, "no machine has"),
        ({"memory": -1}, "no machine has"),
        ({"memory": 2**40}, "should have 1099511627776"),
        ({"memory": 8 * 2**20}, "has 4194304 bytes and should have 8388608"),
        ({"plugins": "fs"}, "malformed"),
        ({"memory_digest": "0"}, "malformed"),
        ({"extra": 1}, "malformed"),
    ],
)
def test_a_manifest_that_says_something_else(
    saved: Path, changes: dict[str, Any], reason: str
) -> None:
    change_manifest(saved, **changes)
    refused(saved, reason)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_none(saved: Path, text: bytes) -> None:
    (saved / "manifest.json").write_bytes(text)
    refused(saved, "its manifest is malformed")


def test_fewer_features_than_the_processor_has(spec: MachineSpec, saved: Path) -> None:
    change_manifest(saved, features=" ".join(processor().features.split()[::2]))
    assert count(spec, saved) == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"guest": "other"}, "of another guest"),
        ({"plugins": ["fs", "net"]}, "the snapshot needs the plugin 'fs'"),
        ({"in_size": 131072}, "in_size=131072, this sandbox has in_size=65536"),
    ],
)
def test_another_sandbox_than_it_is_for(
    spec: MachineSpec, saved: Path, changes: dict[str, Any], reason: str
) -> None:
    change_manifest(saved, **changes)
    with pytest.raises(ConfigurationError, match=reason):
        count(spec, saved)


# ---- files that are not what they should be ----------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 3)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def bound(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def share(path: Path) -> None:
    path.chmod(0o660)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "malformed|cut short|bytes and should have"),
        (grow, "malformed|cut short|bytes and should have"),
        (link, "is not a regular file"),
        (fifo, "is not a regular file"),
        (bound, "is not a regular file"),
        (folder, "is not a regular file"),
        (share, "others than its owner may write to"),
    ],
)
def test_a_file_that_is_damaged(
    saved: Path, name: str, damage: Callable[[Path], None], reason: str
) -> None:
    damage(saved / name)
    refused(saved, reason)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        open_snapshot(saved)


@pytest.mark.parametrize("name", ["manifest.json", "state"])
def test_a_file_of_enormous_size(saved: Path, name: str) -> None:
    """It is not read to its end."""
    os.truncate(saved / name, 2**40)
    refused(saved, f"{name} is larger than")


def test_a_link_in_place_of_the_directory(saved: Path) -> None:
    saved.with_name("link").symlink_to(saved)
    refused(saved.with_name("link"), "it is not a directory")


@pytest.mark.parametrize("offset", [0, 200, 4000, -1])
def test_altered_registers_are_found_by_their_checksum(saved: Path, offset: int) -> None:
    alter(saved / "state", offset % (saved / "state").stat().st_size)
    refused(saved, "state was altered|where there can be none", verify=True)


@pytest.mark.parametrize("offset", [0, 0x10000, 0x3F0000, CONFIG.memory - 1])
def test_altered_memory_is_found_by_its_checksum(
    spec: MachineSpec, saved: Path, offset: int
) -> None:
    """Also where there was a hole; without the checksum it is the guest's own affair."""
    alter(saved / "memory", offset)
    refused(saved, "the file memory was altered", verify=True)
    assert count(spec, saved, verify=False) == 5


def alter(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x80]))


def test_registers_that_were_tampered_with_get_ring_3_and_no_more(
    spec: MachineSpec, saved: Path
) -> None:
    path = saved / "state"
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 160 + content[160:])
    start = MachineSnapshot.of(open_snapshot(saved, verify=False))
    with Machine(spec, start) as machine:
        # Neither virtual 8086 mode nor the nested-task flag, Intel SDM vol. 1, 3.4.3.
        assert machine.vm.registers().rflags & 0x24000 == 0  # type: ignore[attr-defined]


# ---- what the first run writes -----------------------------------------------------------------


def test_the_first_call_is_noted_once(spec: MachineSpec, saved: Path) -> None:
    assert count(spec, saved) == 5
    noted = (saved / "first-writes").read_bytes()
    assert noted
    assert len(noted) % 8 == 0
    assert open_snapshot(saved).complete
    assert count(spec, saved) == 5
    assert (saved / "first-writes").read_bytes() == noted
    assert sorted(path.name for path in saved.iterdir()) == sorted([*FILES, "first-writes"])


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 8, b"\0" * 8, b"\0" * 70_000])
def test_notes_of_no_use_are_left_out(spec: MachineSpec, saved: Path, content: bytes) -> None:
    """They are a hint: whatever they say, the guest is the same."""
    (saved / "first-writes").write_bytes(content)
    assert count(spec, saved) == 5


def test_a_directory_that_cannot_be_written_is_as_good(
    spec: MachineSpec, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", forbidden)
    assert [count(spec, saved), count(spec, saved)] == [5, 5]
