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
from hyperlight_core.guests import GuestImage
from hyperlight_core.machine import Machine, MachineSpec
from hyperlight_core.snapshot_files import Processor
from hyperlight_core.vm import Vm, VmConfig

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
    before = (kept / "memory").stat()
    assert count(spec) == 1
    assert (kept / "memory").stat() == before


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
    other = Processor("Nobody", "fpu")
    monkeypatch.setattr(snapshot_store, "processor", lambda: other)
    assert count(spec) == 1


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


# ---- one that is of no use ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "memory", "state"])
def test_a_damaged_one_is_made_again(
    spec: MachineSpec, place: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by a process that has used it before the damage."""
    assert count(spec) == 5
    os.truncate(place / name, 100)
    with caplog.at_level(logging.WARNING):
        assert count(spec) == 1
    assert "will be made again" in caplog.text
    assert snapshot_store.find(spec) is not None
    assert count(spec) == 1


def test_one_of_another_guest_is_made_again(spec: MachineSpec, place: Path) -> None:
    path = place / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"guest": "other"}))
    assert count(spec) == 1


def test_it_is_opened_once(spec: MachineSpec, place: Path) -> None:
    """Until a file of it changes."""
    assert place.is_dir()
    assert count(spec) == 5  # and the first call is noted
    found = snapshot_store.find(spec)
    assert found is not None
    assert snapshot_store.find(spec) is found
    (place / "first-writes").unlink()
    assert snapshot_store.find(spec) is not found
