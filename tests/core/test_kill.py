"""Kills at any moment, from many threads and from signal handlers; signals while a guest runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typing_extensions import Self

from hyperlight_core.errors import SandboxClosedError, SandboxKilledError, SandboxPoisonedError
from hyperlight_core.guests import GuestImage
from hyperlight_core.sandbox import Sandbox
from tests.core.test_hostile_frames import Echo

pytestmark = pytest.mark.kvm

#: Killers, kills of each and calls; HL_STORM=long is `make storm`.
THREADS, KILLS, CALLS = (100, 100, 500) if os.environ.get("HL_STORM") == "long" else (20, 20, 100)


class Storm:
    """Threads that kill `targets`, which may change meanwhile, until each has done so often."""

    def __init__(self, *targets: Sandbox) -> None:
        self.targets = list(targets)
        self.started = self.finished = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._kill, args=[i]) for i in range(THREADS)]

    def _kill(self, seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - to be repeated
        for _ in range(KILLS):
            with self._lock:
                self.started += 1
            dice.choice(self.targets).kill()
            with self._lock:
                self.finished += 1
            time.sleep(dice.random() / 1000)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def blows(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    @property
    def goes_on(self) -> bool:
        """Whether a kill has yet to begin; a thread is alive for a while after its last."""
        return self.started < THREADS * KILLS


def call_host(sandbox: Sandbox) -> None:
    assert sandbox.call("call", method="echo.nothing", times=20) == [True, {}]


def take_snapshot(sandbox: Sandbox) -> None:
    sandbox.restore(sandbox.snapshot())
    assert sandbox.call("count") == 1


def clone(sandbox: Sandbox) -> None:
    """The clone is nobody's target, so it works whatever happens to the original."""
    with sandbox.clone() as other:
        assert other.call("count") == 1


ACTIONS: list[Callable[[Sandbox], object]] = [
    lambda sandbox: sandbox.call("count"),
    lambda sandbox: sandbox.call("spin"),
    call_host,
    take_snapshot,
    clone,
]


@pytest.fixture
def sandbox(hostile: GuestImage) -> Iterator[Sandbox]:
    with Sandbox(hostile, memory="8MiB", timeout=20.0, plugins={"echo": Echo()}) as sandbox:
        yield sandbox


def test_a_storm_of_kills_loses_none(sandbox: Sandbox) -> None:
    """A kill that began after a reset and was over before the call ends that call."""
    rounds = 0
    with Storm(sandbox) as storm:
        while rounds < CALLS or storm.blows:
            sandbox.reset()
            before = storm.started
            act = ACTIONS[rounds % len(ACTIONS)]
            if not storm.goes_on and rounds % len(ACTIONS) == 1:
                act = ACTIONS[0]  # nobody would end it
            killed = storm.finished > before
            try:
                act(sandbox)
            except (SandboxKilledError, SandboxPoisonedError):
                assert sandbox.status == "poisoned"
            else:
                assert act is take_snapshot or not killed
            rounds += 1
    sandbox.reset()
    assert sandbox.call("count") == 1


def test_a_storm_of_kills_hits_no_other_sandbox(sandbox: Sandbox) -> None:
    with sandbox.clone() as other, Storm(sandbox) as storm:
        number = 0
        while number < CALLS or storm.blows:
            number += 1
            assert other.call("count") == number


def test_kills_while_sandboxes_are_closed(sandbox: Sandbox) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    victims = [sandbox.clone() for _ in range(4)]
    with Storm(*victims) as storm:
        while storm.blows:
            for place, victim in enumerate(victims):
                storm.targets[place] = victims[place] = sandbox.clone()
                victim.close()
                with pytest.raises(SandboxClosedError):
                    victim.call("count")
                victim.kill()
    for victim in victims:
        victim.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


@pytest.fixture
def alarms() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Calls a function in the main thread every millisecond, from a signal handler."""
    old = signal.getsignal(signal.SIGALRM)

    def start(act: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: act())
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


Alarms = Callable[[Callable[[], object]], None]


def test_a_signal_handler_may_kill_whatever_its_thread_is_doing(
    sandbox: Sandbox, alarms: Alarms
) -> None:
    """Also within kill and close themselves, whose lock the thread then holds already."""
    victims = [sandbox.clone()]
    alarms(lambda: victims[0].kill())  # noqa: PLW0108 - another one each time
    for _ in range(30):
        victim = victims[0] = sandbox.clone()
        for _ in range(20):
            victim.kill()
        with pytest.raises((SandboxKilledError, SandboxPoisonedError)):
            victim.call("spin")
        victim.close()


def test_a_storm_of_signals_changes_no_result(sandbox: Sandbox, alarms: Alarms) -> None:
    seen: list[None] = []
    alarms(lambda: seen.append(None))
    for number in range(CALLS):
        sandbox.call("call", method="echo.nothing", times=5)
        assert sandbox.call("count") == number + 1
    while not seen:
        sandbox.call("count")


#: What the guest does when Ctrl-C comes, after it has said so.
BUSY = {
    "computing": 'sandbox.call("spin")',
    "asleep": f'sandbox.call("sleep_on", until={2**63 - 1})',
    "in parks that are over before they begin": f'sandbox.call("sleep_on", until={-(2**63)})',
    "asking for fault addresses": 'sandbox.call("roam")',
}
PROGRAM = """
import signal
import sys
from pathlib import Path
from hyperlight_core.sandbox import Sandbox

# A shell that starts something in the background has it ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)

def tell(_stream, text):
    print(text.decode(), end="", flush=True)

with Sandbox(Path(sys.argv[1]), memory="8MiB", timeout=60, stream=tell) as sandbox:
    try:
        {busy}
    except KeyboardInterrupt:
        print(sandbox.status)
        sandbox.reset()
        print(sandbox.call("count"))
"""


@pytest.mark.parametrize("name", BUSY)
def test_ctrl_c_ends_a_call(name: str, hostile: GuestImage, tmp_path: Path) -> None:
    (tmp_path / "guest.elf").write_bytes(hostile.elf())
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(busy=BUSY[name]), tmp_path / "guest.elf"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().endswith("ing")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "poisoned\n1\n"
