"""The machine: one micro-VM with its plugins, lock and poison; a chain of states shares it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from typing_extensions import Self

from hyperlight_core import snapshot_store
from hyperlight_core.calls import GuestCalls, Limits, Reply
from hyperlight_core.errors import (
    ConfigurationError,
    SandboxBusyError,
    SandboxClosedError,
    SandboxConsumedError,
    SandboxKilledError,
    SandboxPoisonedError,
    StateError,
)
from hyperlight_core.guests import BootRequest
from hyperlight_core.handover import Handover
from hyperlight_core.hookspecs import SnapshotToken
from hyperlight_core.machine_snapshot import MachineSnapshot
from hyperlight_core.machine_spec import MachineSpec
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.plugins import PluginSet, load_plugins
from hyperlight_core.table import HostFunctionTable, Selection
from hyperlight_core.vm import VirtualMachine, Vm

__all__ = ["CallContext", "Machine", "MachineSnapshot", "MachineSpec"]


class CallContext:
    """Calls into the guest of a machine, one after the other, while nobody else does.

    What one call leaves behind in the guest is there for the next. Any failure but the guest
    function's own error poisons the machine.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        attachment: bytes | memoryview = b"",
        limits: Limits | None = None,
    ) -> Reply:
        """Call a guest function; see `GuestCalls.call` for what it raises.

        Within a host call, the limits are those of the outer call.
        """
        machine = self._machine
        handover = machine.check_owner()
        if handover is not None:
            again = partial(self.call, method, params, attachment=attachment, limits=limits)
            return handover.do(again)
        try:
            reply = machine.calls.call(
                method, params, attachment=attachment, limits=limits or machine.spec.limits
            )
        except BaseException as error:
            if not machine.calls.running:
                machine.poison_if_unfinished(error)
            raise
        if machine.untried is not None:
            machine.note_first_writes()
        return reply

    def boot(self, request: BootRequest | None = None) -> None:
        """Start a guest that was only loaded; see `GuestCalls.boot` for what it raises."""
        machine = self._machine
        machine.check_owner()
        try:
            params = None if request is None else request.params()
            machine.calls.boot(params, machine.spec.boot_limits)
        except BaseException as error:
            machine.poison_if_unfinished(error)
            raise

    def read(self, address: int, size: int) -> bytes:
        """Copy guest memory; raises ConfigurationError if the range is not in RAM."""
        return self._machine.vm.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Overwrite guest memory; raises ConfigurationError if the range is not in RAM."""
        self._machine.vm.write(address, data)


class _Use:
    """One use of a machine; a class, because a generator costs more than the lock."""

    __slots__ = ("_machine", "_poisoned", "_state")

    def __init__(self, machine: Machine, state: object, *, poisoned: bool) -> None:
        self._machine, self._state, self._poisoned = machine, state, poisoned

    def __enter__(self) -> CallContext:
        machine = self._machine
        machine.acquire(self._state, poisoned=self._poisoned)
        return machine.context

    def __exit__(self, *_: object) -> None:
        self._machine.release()


class Machine:
    """One micro-VM and everything of the host that belongs to it.

    Any thread may use it, one at a time: a second one waits. Only `kill` and `close` interrupt.

    Args:
        spec: what it is made of.
        start: a snapshot to begin with, instead of loading the guest.
        vm: one to use instead of making one; closed with the machine, by the caller if this fails.

    Attributes:
        spec: as given.
        vm: the micro-VM.
        plugins: this machine's plugin instances.
        calls: guest calls; use them inside `using` only.
        context: the guest calls of whoever uses the machine.
        current: the state that may be used now; kept by `states`.
        untried: the snapshot on disk it began with, if nobody knows yet what a first call writes.

    Raises:
        ConfigurationError: something in `spec` cannot be; the subclass says what.
        HypervisorError: KVM is missing or fails.
    """

    def __init__(
        self,
        spec: MachineSpec,
        start: MachineSnapshot | None = None,
        vm: VirtualMachine | None = None,
    ) -> None:
        self.spec = spec
        self.current: object = None
        saved = start.saved if start else None
        self.untried = saved if saved and not saved.complete else None
        self._lock = threading.Lock()
        self._owner: int | None = None
        self.context = CallContext(self)
        self._closed = False
        self._closing = threading.Lock()
        self._tables: dict[tuple[Selection, ...], HostFunctionTable] = {}
        self._poison: BaseException | None = None
        self.plugins: PluginSet = load_plugins(spec.plugins)
        try:
            self._start(start, vm)
        except BaseException:
            self.plugins.closed()
            raise

    def _start(self, start: MachineSnapshot | None, vm: VirtualMachine | None) -> None:
        spec = self.spec
        self.vm = vm or _new_vm(spec, None if start else spec.guest.elf())
        self.calls = GuestCalls(
            self.vm,
            HostFunctionTable(),
            check=spec.check,
            observe=spec.observe,
            stream=spec.stream,
        )
        if start is not None:
            try:
                self.restore(start)
            except BaseException:
                self.vm.close()
                raise

    @classmethod
    def booted(cls, spec: MachineSpec) -> tuple[Machine, MachineSnapshot]:
        """A machine whose guest has started and waits, and the snapshot of that moment.

        Raises:
            GuestError: the guest does not start.
        """
        cached = snapshot_store.find(spec) if spec.cache else None
        if cached is not None:
            start = MachineSnapshot.of(cached)
            return cls(spec, start), start
        # The guest starts without any plugin, so that what is kept holds nothing of this sandbox.
        vm = _new_vm(spec, spec.guest.elf())
        try:
            request = spec.guest.boot
            params = None if request is None else request.params()
            GuestCalls(vm, HostFunctionTable()).boot(params, spec.boot_limits)
            start = MachineSnapshot(spec.guest.kind, vm.snapshot(), SnapshotToken())
            if spec.cache:
                snapshot_store.keep(spec, start.memory)
            return cls(spec, start, vm), start
        except BaseException:
            vm.close()
            raise

    # ---- use -----------------------------------------------------------------------------------

    def using(
        self, state: object = None, *, poisoned: bool = False
    ) -> AbstractContextManager[CallContext]:
        """Have the machine to oneself, in a with statement.

        Args:
            state: the state that uses it; must be the current one.
            poisoned: whether a poisoned machine will do, because it is about to be restored.

        Raises:
            StateError: busy in this very thread, closed, consumed or poisoned.
        """
        return _Use(self, state, poisoned=poisoned)

    def acquire(self, state: object, *, poisoned: bool) -> None:
        """What entering `using` does; `release` undoes it."""
        if self._is_ours():
            raise SandboxBusyError("the sandbox is in use by this thread, further up the stack")
        self._lock.acquire()
        if self._closed or self._poison is not None or state is not self.current:
            try:
                self._check(state, poisoned=poisoned)
            except BaseException:
                self._lock.release()
                raise
        self._owner = threading.get_ident()

    def release(self) -> None:
        """Let other threads use the machine."""
        self._owner = None
        self._lock.release()

    def _is_ours(self) -> bool:
        """Whether this thread has the machine to itself, or works for a host call in that one."""
        owner = self._owner
        return owner is not None and (owner == threading.get_ident() or bool(Handover.to(owner)))

    def is_within(self, state: object) -> bool:
        """Whether this thread is in a host call of the guest, or works for one, and so may call.

        Raises:
            SandboxConsumedError: `state` is not the current one.
        """
        if not (self._is_ours() and self.calls.running):
            return False
        if not (self.calls.answering or Handover.to(self._owner)):
            return False
        self._check(state, poisoned=True)
        return True

    def check_owner(self) -> Handover | None:
        """What leads to the thread that has the machine to itself; None in that very one.

        Raises:
            StateError: no way leads there.
        """
        if not self._is_ours():
            raise StateError("calls into a guest are made while its sandbox is in use, not later")
        return Handover.to(self._owner)

    def _check(self, state: object, *, poisoned: bool) -> None:
        if self._closed:
            raise SandboxClosedError("the sandbox is closed")
        if state is not None and state is not self.current:
            raise SandboxConsumedError(
                f"this {type(state).__name__} has moved on to {type(self.current).__name__}"
            )
        if self._poison is not None and not poisoned:
            raise SandboxPoisonedError(
                f"the sandbox is poisoned ({type(self._poison).__name__});"
                " restore, reset or close it"
            ) from self._poison

    def poison(self, error: BaseException) -> None:
        """Refuse every use but restore, reset and close, because of `error`."""
        self._poison = error

    def poison_if_unfinished(self, error: BaseException) -> None:
        """Poison the machine if `error` left the guest in the middle of something."""
        if self.calls.unfinished:
            self.poison(error)

    @property
    def failure(self) -> BaseException | None:
        """What poisoned it, or None."""
        return self._poison

    @property
    def status(self) -> str:
        """One of "ready", "running", "poisoned" and "closed"."""
        if self._closed:
            return "closed"
        if self._poison is not None:
            return "poisoned"
        return "running" if self._lock.locked() else "ready"

    # ---- what states do ------------------------------------------------------------------------

    def select(self, wanted: tuple[Selection, ...]) -> HostFunctionTable:
        """The host functions that `wanted` selects; the same table every time.

        Raises:
            ConfigurationError: a name or a namespace selects nothing.
        """
        table = self._tables.get(wanted)
        if table is None:
            table = self._tables[wanted] = self.plugins.table.select(*wanted)
        return table

    def grant(self, table: HostFunctionTable) -> None:
        """Put these host functions, and no others, within the guest's reach."""
        self.calls.table = table

    def snapshot(self) -> MachineSnapshot:
        """The machine as it is now; it must be in use by the caller and not poisoned."""
        token = SnapshotToken()
        self.plugins.snapshot_taken(token)
        spec = self.spec
        return MachineSnapshot(spec.guest.kind, self.vm.snapshot(), token, spec.plugins)

    def restore(self, snapshot: MachineSnapshot) -> None:
        """Go back to a snapshot of this machine or of one with the same guest and memory.

        Raises:
            ConfigurationError: it belongs to another kind of machine; nothing has changed.
        """
        snapshot.check_fits(self.spec)
        if snapshot.memory.config is not self.spec.config:
            self._check_place(snapshot.memory)
        try:
            self.vm.restore(snapshot.memory)
            self.plugins.snapshot_restored(snapshot.token)
        except BaseException as error:
            self._poison = error
            raise
        self._poison = None

    def _check_place(self, memory: object) -> None:
        """What was in a process of its own shall not come into this one."""
        if isinstance(self.vm, Vm) and not isinstance(memory, MemorySnapshot):
            raise ConfigurationError("the snapshot was taken with another isolation")

    def note_first_writes(self) -> None:
        """After the first call: keep what it wrote beside the snapshot, if that can be."""
        saved, self.untried = self.untried, None
        if saved is not None and isinstance(self.vm, Vm):
            with contextlib.suppress(OSError):
                saved.note_first_writes(self.vm)

    # ---- end -----------------------------------------------------------------------------------

    def kill(self) -> None:
        """Stop what the guest is doing, now; the sandbox is poisoned. Any thread, any moment."""
        self.calls.cancel()
        if not self._closed and not self._lock.locked():
            self._poison = SandboxKilledError("the sandbox was killed")
        self.vm.kill()

    def close(self) -> None:
        """Stop the guest and let go of everything; a second call does nothing."""
        if self._owner == threading.get_ident():
            raise SandboxBusyError("the sandbox cannot be closed from within its own call")
        if not self._closing.acquire(blocking=False):
            return
        self._closed = True
        self.kill()
        with self._lock:
            self.vm.close()
            self.plugins.closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _new_vm(spec: MachineSpec, program: bytes | None) -> VirtualMachine:
    streamed = spec.stream is not None
    return spec.vm(spec.config, program, spec.guest.image, stream=streamed)
