"""Kept snapshots: used where all is the same, made again where a file is not what it should be."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core import snapshot_store
from hyperlight_core.errors import ConfigurationError, StateError
from hyperlight_core.guests import GuestImage
from hyperlight_core.machine import Machine, MachineSpec
from hyperlight_core.vm import ExitKind, MemorySnapshot, Vm, VmConfig

pytestmark = pytest.mark.kvm

CONFIG = VmConfig(4 * 2**20, 65536, 65536, 4096)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "hyperlight"


@pytest.fixture
def spec(hostile: GuestImage) -> MachineSpec:
    return MachineSpec(hostile, CONFIG, cache=True)


def count(spec: MachineSpec) -> int:
    """The first answer of a machine, which shows where it began."""
    with Machine.booted(spec)[0] as machine, machine.using() as calls:
        return int(calls.call("count").result)


@pytest.fixture
def place(spec: MachineSpec, cache: Path) -> Path:
    """The folder of a kept snapshot, in which the guest has counted to 4."""
    with Machine(spec) as machine, machine.using() as calls:
        calls.boot()
        for _ in range(4):
            calls.call("count")
        snapshot_store.keep(spec, machine.snapshot().memory)
    (place,) = (cache / "snapshots").iterdir()
    return place


# ---- keeping and finding -----------------------------------------------------------------------


def test_a_kept_snapshot_is_where_the_next_machine_begins(spec: MachineSpec, place: Path) -> None:
    assert place.is_dir()
    assert [count(spec), count(spec)] == [5, 5]


def test_the_first_machine_keeps_its_start(spec: MachineSpec, cache: Path) -> None:
    assert count(spec) == 1
    (kept,) = (cache / "snapshots").iterdir()
    before = kept.stat()
    assert count(spec) == 1
    assert kept.stat() == before


def test_nothing_is_kept_or_used_unless_asked(hostile: GuestImage, place: Path) -> None:
    assert count(MachineSpec(hostile, CONFIG)) == 1
    assert [place] == list(place.parent.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: {"config": VmConfig(8 * 2**20, 65536, 65536, 4096)},
        lambda spec: {"config": VmConfig(4 * 2**20, 65536, 131072, 4096)},
        lambda spec: {"guest": GuestImage("other", "other", spec.guest.elf())},
        lambda spec: {"guest": GuestImage("other", spec.guest.key, spec.guest.elf() + b"\0")},
    ],
    ids=["memory", "buffer", "key", "program"],
)
def test_another_kind_of_machine_has_a_snapshot_of_its_own(
    spec: MachineSpec, place: Path, change: Callable[[MachineSpec], dict[str, Any]]
) -> None:
    assert place.is_dir()
    assert count(MachineSpec(**{**vars(spec), **change(spec)})) == 1


def test_another_processor_has_a_snapshot_of_its_own(
    spec: MachineSpec, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.is_dir()
    monkeypatch.setattr(snapshot_store, "_processor", lambda: "another")
    assert count(spec) == 1


def test_it_can_be_read_by_this_user_alone(spec: MachineSpec, cache: Path) -> None:
    """Whatever the umask: a file that others may write is not used."""
    old = os.umask(0)
    try:
        count(spec)
    finally:
        os.umask(old)
    assert snapshot_store.find(spec) is not None
    (place,) = (cache / "snapshots").iterdir()
    for path in (place, *place.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_only_one_of_two_processes_keeps_it(spec: MachineSpec, place: Path) -> None:
    """The second finds the first one's and leaves it alone."""
    with Vm(CONFIG, spec.guest.elf()) as vm:
        vm.run()
        snapshot_store.keep(spec, vm.snapshot())
    assert [place] == list(place.parent.iterdir())
    assert count(spec) == 5


def test_processes_start_from_it_side_by_side(spec: MachineSpec, place: Path) -> None:
    assert place.is_dir()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(count, [spec] * 8) == [5] * 8


def test_a_cache_that_cannot_be_written(
    spec: MachineSpec, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine starts all the same."""
    cache.mkdir()
    (cache / "snapshots").touch()
    with caplog.at_level(logging.WARNING):
        assert count(spec) == 1
    assert "could not be kept" in caplog.text


# ---- files that are not what they should be ----------------------------------------------------


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 100_000)


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def share(path: Path) -> None:
    path.chmod(0o666)


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    (name, damage)
    for name in ("manifest.json", "memory", "vcpu")
    for damage in (cut, grow, remove, link, fifo, share)
]


@pytest.mark.parametrize(
    ("name", "damage"), DAMAGES, ids=[f"{damage.__name__} {name}" for name, damage in DAMAGES]
)
def test_a_damaged_snapshot_is_made_again(
    spec: MachineSpec,
    place: Path,
    name: str,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(place / name)
    with caplog.at_level(logging.WARNING):
        assert count(spec) == 1
    assert "will be made again" in caplog.text
    assert snapshot_store.find(spec) is not None
    assert count(spec) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "malformed"),
        ({"abi_version": 1}, "another abi_version"),
        ({"guest": "other"}, "another guest"),
        ({"memory": 8 * 2**20}, "another memory"),
        ({"memory": "4MiB"}, "malformed"),
        ({"extra": 1}, "malformed"),
    ],
)
def test_a_manifest_that_says_something_else(
    spec: MachineSpec, place: Path, change: dict[str, Any], message: str
) -> None:
    expected = snapshot_store._manifest(spec.guest.kind, spec.config)
    path = place / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigurationError, match=message):
        snapshot_store.load(place, expected)


def test_a_vcpu_that_was_tampered_with_gets_ring_3_and_no_more(
    spec: MachineSpec, place: Path
) -> None:
    """Any registers at all: the machine refuses them, or runs a guest that crashes on its own."""
    path = place / "vcpu"
    content = path.read_bytes()
    path.write_bytes(b"\xff" * len(content))
    snapshot = snapshot_store.find(spec)
    assert isinstance(snapshot, MemorySnapshot)
    with Vm(CONFIG) as vm:
        with pytest.raises(ConfigurationError):
            vm.restore(snapshot)
        with pytest.raises(StateError, match="nothing is loaded"):
            vm.run()
    path.write_bytes(b"\xff" * 160 + content[160:])
    snapshot = snapshot_store.find(spec)
    assert snapshot is not None
    with Vm(CONFIG) as vm:
        vm.restore(snapshot)
        # Neither virtual 8086 mode nor the nested-task flag, Intel SDM vol. 1, 3.4.3.
        assert vm.registers().rflags & 0x24000 == 0
        assert vm.run().kind == ExitKind.FAULT
