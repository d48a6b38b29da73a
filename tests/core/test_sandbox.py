"""The sandbox most people meet, over native guests."""

from __future__ import annotations

import dataclasses
import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core import Sandbox
from hyperlight_core.errors import (
    ConfigurationError,
    DeniedError,
    GuestCrashedError,
    GuestImageError,
    PluginNotInstalledError,
    SandboxBusyError,
    SandboxClosedError,
    SandboxKilledError,
    SandboxPoisonedError,
)
from hyperlight_core.functions import HostCall, HostFunction, Model
from hyperlight_core.guests import GuestImage
from hyperlight_core.hookspecs import hookimpl
from hyperlight_core.pytest_plugin import MakeGuest, MakeSandbox
from hyperlight_core.sandbox import parse_size
from hyperlight_core.table import CallRecord
from tests.core.moments import once_running

pytestmark = pytest.mark.kvm

SOURCE = Path(__file__).parent / "guests" / "driver.c"
SMALL = {"memory": "8MiB", "timeout": 10.0}


@pytest.fixture
def driver(guest: MakeGuest) -> GuestImage:
    """A guest that answers run and call with what it was asked."""
    image = guest(SOURCE.read_text(encoding="utf-8"))
    return dataclasses.replace(image, requests=frozenset({"run", "call"}))


@pytest.fixture(params=[None, "process"])
def isolation(request: pytest.FixtureRequest) -> Any:
    """Where the VM is: in this process, or in one of its own."""
    return request.param


@pytest.fixture
def python(driver: GuestImage, sandbox: MakeSandbox, isolation: str | None) -> Sandbox:
    return sandbox(driver, isolation=isolation, **SMALL)


@pytest.fixture
def native(hostile: GuestImage, sandbox: MakeSandbox, isolation: str | None) -> Sandbox:
    return sandbox(hostile, isolation=isolation, **SMALL)


# ---- configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [(4096, 4096), ("5000", 5000), ("64KiB", 65536), ("1.5MiB", 3 * 2**19), ("1GB", 10**9)],
)
def test_sizes(size: int | str, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["", "much", "12 parsecs", "-1KiB", None, 1.5, [], float("nan")])
def test_what_is_no_size(size: object) -> None:
    with pytest.raises(ConfigurationError, match="no size"):
        parse_size(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("memory", [0, -1, "1B", "17GiB", 2**64])
def test_memory_that_cannot_be(hostile: GuestImage, memory: int | str) -> None:
    with pytest.raises(ConfigurationError):
        Sandbox(hostile, memory=memory)


@pytest.mark.parametrize("limit", ["timeout", "cpu_time", "output_limit", "host_calls"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_limit_that_cannot_be(hostile: GuestImage, limit: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match="is no limit"):
        Sandbox(hostile, **{limit: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("time", [float("inf"), 1e300, 10**12])
def test_limits_beyond_all_time(hostile: GuestImage, sandbox: MakeSandbox, time: float) -> None:
    made = sandbox(hostile, memory="8MiB", timeout=time, cpu_time=time)
    assert made.call("count") == 1


def test_memory_is_rounded_up(hostile: GuestImage, sandbox: MakeSandbox) -> None:
    made = sandbox(hostile, memory=5_000_001, buffer=5000)
    assert made._state._machine.spec.config.memory == 6 * 2**20
    assert made._state._machine.spec.config.in_size == 8192


def test_a_guest_that_is_not_installed() -> None:
    with pytest.raises(PluginNotInstalledError, match="pip install hl-cobol"):
        Sandbox("cobol")


def test_a_plugin_that_is_not_installed(hostile: GuestImage) -> None:
    with pytest.raises(PluginNotInstalledError, match="'cobol' is not installed"):
        Sandbox(hostile, plugins={"cobol": {}})


def test_a_guest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GuestImageError, match="No such file"):
        Sandbox(tmp_path / "guest.elf")


def test_a_path_is_a_guest_too(hostile: GuestImage, tmp_path: Path) -> None:
    (tmp_path / "guest.elf").write_bytes(hostile.elf())
    for path in (tmp_path / "guest.elf", str(tmp_path / "guest.elf")):
        with Sandbox(path, memory="8MiB") as sandbox:
            assert sandbox.call("count") == 1


# ---- running -----------------------------------------------------------------------------------


def test_a_run_gives_both_streams_and_the_exit_code(python: Sandbox) -> None:
    result = python.run("3 is it")
    assert (result.stdout, result.stderr, result.exit_code) == (
        "3 is it",
        "\N{REPLACEMENT CHARACTER}",
        3,
    )
    assert result.duration > 0


def test_code_may_be_text_bytes_or_a_file(python: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("0 größer", encoding="utf-8")
    for code in ("0 größer", "0 größer".encode(), tmp_path / "script"):
        assert python.run(code).stdout == "0 größer"


def test_code_that_is_not_utf_8(python: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(b"0 \xff")
    for code in (b"0 \xff", tmp_path / "script"):
        with pytest.raises(ValueError, match=r"not UTF-8.*byte 2"):
            python.run(code)
    assert python.status == "ready"


def test_a_run_that_ends_the_guest(python: Sandbox) -> None:
    result = python.run("x")
    assert (result.exit_code, result.stdout) == (7, "x")
    assert python.status == "poisoned"
    python.reset()
    assert python.run("0").exit_code == 0


def test_a_native_guest_runs_no_code(native: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match="runs no code"):
        native.run("1")
    assert native.status == "ready"


def test_a_call_with_arguments(python: Sandbox) -> None:
    assert python.call("f", 1, "two", key=[3]) == {
        "function": "f",
        "args": [1, "two"],
        "kwargs": {"key": [3]},
        "reseed": True,
    }


def test_a_native_guests_method_takes_keywords(native: Sandbox) -> None:
    with pytest.raises(TypeError, match="keyword"):
        native.call("count", 1)
    assert native.call("count") == 1


def test_an_argument_that_is_not_json(python: Sandbox) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        python.call("f", object())
    assert python.status == "ready"


def test_the_guest_is_told_to_reseed_once_after_each_restore(python: Sandbox) -> None:
    def reseeded(sandbox: Sandbox) -> list[object]:
        return [sandbox.call("f")["reseed"] for _ in range(2)]

    assert reseeded(python) == [True, False]
    python.reset()
    assert reseeded(python) == [True, False]
    with python.clone() as twin:
        assert reseeded(twin) == [True, False]
    assert reseeded(python) == [False, False]


# ---- going back --------------------------------------------------------------------------------


def test_what_a_call_leaves_stays_until_a_reset(native: Sandbox) -> None:
    assert [native.call("count") for _ in range(2)] == [1, 2]
    native.reset()
    assert native.call("count") == 1


def test_snapshots_bring_back_any_moment(native: Sandbox) -> None:
    moments = []
    for _ in range(3):
        moments.append(native.snapshot())
        native.call("count")
    for number, moment in reversed(list(enumerate(moments))):
        native.restore(moment)
        assert native.call("count") == number + 1


def test_a_snapshot_restores_another_sandbox_of_its_kind(
    native: Sandbox, hostile: GuestImage, sandbox: MakeSandbox, isolation: str | None
) -> None:
    native.call("count")
    other = sandbox(hostile, isolation=isolation, **SMALL)
    other.restore(native.snapshot())
    assert other.call("count") == 2


def test_a_snapshot_of_another_kind_names_the_difference(
    native: Sandbox, python: Sandbox, hostile: GuestImage, sandbox: MakeSandbox
) -> None:
    with pytest.raises(ConfigurationError, match="another guest"):
        native.restore(python.snapshot())
    with pytest.raises(ConfigurationError, match=f"memory={16 * 2**20}"):
        native.restore(sandbox(hostile, memory="16MiB").snapshot())
    assert native.call("count") == 1


def test_a_clone_begins_where_its_original_is(native: Sandbox) -> None:
    native.call("count")
    with native.clone() as twin:
        assert [twin.call("count") for _ in range(2)] == [2, 3]
        twin.reset()
        assert twin.call("count") == 2
    assert native.call("count") == 2


def test_a_clone_outlives_its_original(native: Sandbox) -> None:
    with native.clone() as twin:
        native.close()
        assert twin.call("count") == 1


# ---- status, kill, close -----------------------------------------------------------------------


def test_a_crash_poisons_until_a_reset(native: Sandbox) -> None:
    with pytest.raises(GuestCrashedError):
        native.call("peek", address=0)
    assert native.status == "poisoned"
    for use in (lambda: native.call("count"), native.snapshot, native.clone):
        with pytest.raises(SandboxPoisonedError):
            use()
    native.reset()
    assert native.status == "ready"
    assert native.call("count") == 1


def test_a_kill_stops_an_endless_loop(
    hostile: GuestImage, sandbox: MakeSandbox, isolation: str | None
) -> None:
    begun = threading.Event()
    native = sandbox(hostile, isolation=isolation, stream=lambda *_: begun.set(), **SMALL)

    def kill() -> None:
        begun.wait()
        native.kill()

    for _ in range(5):
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(SandboxKilledError) as caught:
            native.call("spin")
        assert caught.value.stdout == "spinning\n"
        assert native.status == "poisoned"
        killer.join()
        begun.clear()
        native.reset()
    assert native.call("count") == 1


def test_a_closed_sandbox_refuses_every_use(native: Sandbox) -> None:
    snapshot = native.snapshot()
    native.close()
    native.close()
    native.kill()
    assert native.status == "closed"
    for use in (
        lambda: native.call("count"),
        native.snapshot,
        native.reset,
        native.clone,
        lambda: native.restore(snapshot),
    ):
        with pytest.raises(SandboxClosedError):
            use()


def test_closing_stops_an_endless_loop(native: Sandbox) -> None:
    once_running(native, native.close)
    with pytest.raises(SandboxKilledError):
        native.call("spin")
    assert native.status == "closed"


def test_a_sandbox_dropped_without_a_word_gives_everything_back(
    hostile: GuestImage, isolation: str | None
) -> None:
    Sandbox(hostile, memory="8MiB", isolation=isolation).close()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        Sandbox(hostile, memory="8MiB", isolation=isolation)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- host functions ----------------------------------------------------------------------------


class Nothing(Model):
    """No parameters, no result."""


class Caller:
    """A plugin whose function uses the sandbox it is called from."""

    sandbox: Sandbox | None = None

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        return [HostFunction("caller.back", self.back, Nothing, Nothing)]

    def back(self, request: Nothing) -> Nothing:
        assert self.sandbox is not None
        assert self.sandbox.call("count") == 1
        for use in (self.sandbox.snapshot, self.sandbox.reset, self.sandbox.close):
            with pytest.raises(SandboxBusyError):
                use()
        return request


def test_a_host_function_can_call_the_sandbox_that_calls_it_and_nothing_else(
    hostile: GuestImage, sandbox: MakeSandbox
) -> None:
    plugin = Caller()
    plugin.sandbox = sandbox(hostile, **SMALL, plugins={"caller": plugin})
    assert plugin.sandbox.call("call", method="caller.back", times=1) == [True, {}]


class Filler:
    """A plugin that answers with a secret, if need be after the guest has crashed meanwhile."""

    sandbox: Sandbox | None = None

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        return [HostFunction("filler.fill", self.fill, Nothing, Nothing, wants_call=True)]

    def fill(self, request: Nothing, call: HostCall) -> Nothing:
        if self.sandbox is not None:
            with pytest.raises(GuestCrashedError):
                self.sandbox.call("peek", address=8)
        call.reply_buffer(6)[:] = b"secret"
        return request


def stop(_record: CallRecord) -> None:
    raise KeyboardInterrupt


def test_an_answer_that_was_never_sent_does_not_outlast_a_reset(
    hostile: GuestImage, sandbox: MakeSandbox
) -> None:
    """What a handler wrote for one run would else be there for the next to read."""
    made = sandbox(hostile, **SMALL, plugins={"filler": Filler()}, after_host_call=stop)
    for _ in range(3):  # from the second on, a reset copies
        with pytest.raises(KeyboardInterrupt):
            made.call("call", method="filler.fill", times=1)
        assert b"secret" in bytes(made._state._machine.vm.buffers.to_guest)
        made.reset()
        assert b"secret" not in bytes(made._state._machine.vm.buffers.to_guest)


def test_an_answer_to_a_guest_that_has_crashed_does_not_outlast_a_reset(
    hostile: GuestImage, sandbox: MakeSandbox
) -> None:
    plugin = Filler()
    plugin.sandbox = made = sandbox(hostile, **SMALL, plugins={"filler": plugin})
    for _ in range(3):
        with pytest.raises(GuestCrashedError):
            made.call("call", method="filler.fill", times=1)
        assert b"secret" in bytes(made._state._machine.vm.buffers.to_guest)
        made.reset()
        assert b"secret" not in bytes(made._state._machine.vm.buffers.to_guest)


def test_a_check_refuses_a_host_call(hostile: GuestImage, sandbox: MakeSandbox) -> None:
    seen: list[str] = []

    def check(function: HostFunction, _request: object) -> None:
        seen.append(function.name)
        raise DeniedError("not today")

    made = sandbox(hostile, **SMALL, plugins={"caller": Caller()}, on_host_call=check)
    answered, error = made.call("call", method="caller.back", times=1)
    assert (answered, error["code"], error["message"]) == (False, -32001, "not today")
    assert seen == ["caller.back"]
