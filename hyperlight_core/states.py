"""States: a sandbox as a typed chain that evolves and rolls back; for authors of sandbox types.

An author writes one class per state. Its bases say where it may move and with what metadata, its
class arguments which host functions the guest may reach in it and what becomes of it after a call:

    class Runtime(State, EvolvableSandbox["UserCode", "LoadCode"]):
        ...

    class UserCode(State, DevolvableSandbox[Runtime, Nothing], functions=["tools.*"]):
        def handle(self, event: object) -> object:
            return self.call("call", {"function": "handle", "args": [event]}).result

A state that has moved on is consumed: every later use raises SandboxConsumedError.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import (
    Any,
    ClassVar,
    ForwardRef,
    Generic,
    Protocol,
    cast,
    get_args,
    get_origin,
)

from typing_extensions import Self, TypeVar

from hyperlight_core.calls import Limits, Reply
from hyperlight_core.errors import IllegalTransitionError, SandboxConsumedError
from hyperlight_core.hookspecs import StateInfo
from hyperlight_core.machine import CallContext, Machine, MachineSnapshot, MachineSpec
from hyperlight_core.state_snapshots import Mark, StateSnapshot
from hyperlight_core.table import HostFunctionTable, Selection
from hyperlight_core.transitions import NOTHING, Boot, GuestCallback, Nothing, Transition
from hyperlight_core.vm import Counters

__all__ = [
    "NOTHING",
    "Boot",
    "DevolvableSandbox",
    "EvolvableSandbox",
    "GuestCallback",
    "Mark",
    "Nothing",
    "Sandbox",
    "Selection",
    "State",
    "StateSnapshot",
    "Transition",
    "Use",
]


class Use(Enum):
    """What becomes of a state after its guest was called."""

    #: It stays as the call left it.
    KEEP = "keep"
    #: It is reset to how it was entered, automatically.
    RESET = "reset"
    #: It is used up: what is left is to roll back or to close.
    ONCE = "once"


# ---- states ------------------------------------------------------------------------------------

_Metadata_contra = TypeVar("_Metadata_contra", bound=Transition, contravariant=True)
_Next_co = TypeVar("_Next_co", bound="State", covariant=True)
_Previous_co = TypeVar("_Previous_co", bound="State", covariant=True)
_S = TypeVar("_S", bound="State")
_T = TypeVar("_T")


class Sandbox(Protocol):
    """The least that any state of any sandbox can do."""

    @property
    def status(self) -> str:
        """One of "ready", "running", "poisoned", "closed" and "consumed"."""

    def kill(self) -> None:
        """Stop what the guest is doing; from any thread."""

    def close(self) -> None:
        """Let go of everything; a second call does nothing."""


class State:
    """Base of every state; made not by calling it, but by `start` or by a move.

    Class arguments:
        functions: what of the sandbox's host functions the guest may reach in this state.
        use: what becomes of the state after a call.
    """

    functions: ClassVar[tuple[Selection, ...]] = ()
    use: ClassVar[Use] = Use.KEEP
    _known: ClassVar[dict[tuple[str, str], type[State]]] = {}

    _machine: Machine
    _past: tuple[StateSnapshot[Any], ...]
    _entry: MachineSnapshot | None
    _spent: bool
    _table: HostFunctionTable
    _info: StateInfo

    def __init_subclass__(
        cls,
        functions: Sequence[Selection] | None = None,
        use: Use | None = None,
        **arguments: Any,
    ) -> None:
        super().__init_subclass__(**arguments)
        if isinstance(functions, str):
            raise TypeError("functions is a list of names, not one name")
        cls.functions = cls.functions if functions is None else tuple(functions)
        cls.use = cls.use if use is None else use
        State._known[cls.__module__, cls.__qualname__] = cls

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is made by start() or by moving to it")

    # ---- beginning and end ----

    @classmethod
    def start(cls, spec: MachineSpec, *, boot: bool = True) -> Self:
        """The first state of a new sandbox.

        Args:
            spec: what its machine is made of.
            boot: whether the guest has started; otherwise it is only loaded, for `Boot` to start.

        Raises:
            ConfigurationError: `spec` cannot be.
            HypervisorError: KVM is missing or fails.
            GuestError: the guest does not start.
        """
        machine = Machine.booted(spec)[0] if boot else Machine(spec)
        try:
            with machine.using():
                return cls._enter(machine, ())
        except BaseException:
            machine.close()
            raise

    @classmethod
    def start_from(cls, spec: MachineSpec, snapshot: StateSnapshot[Self]) -> Self:
        """This state in a new sandbox, as it was at the snapshot; memory is shared until written.

        Raises:
            ConfigurationError: the snapshot is of another kind of sandbox, or `spec` cannot be.
            HypervisorError: KVM is missing or fails.
        """
        machine = Machine(spec, snapshot.machine)
        try:
            state = cls._remade(machine, snapshot)
            with machine.using():
                state._take_over()
                if cls.use is Use.RESET and state._entry is None:
                    state._entry = machine.snapshot()
        except BaseException:
            machine.close()
            raise
        return state

    @classmethod
    def _enter(cls, machine: Machine, past: tuple[StateSnapshot[Any], ...]) -> Self:
        """Make this the machine's state; the machine is in use by the caller."""
        state = cls._made(machine, past)
        state._take_over()
        state.entered(machine.context)
        if cls.use is Use.RESET:
            state._entry = machine.snapshot()
        return state

    @classmethod
    def _made(cls, machine: Machine, past: tuple[StateSnapshot[Any], ...]) -> Self:
        state = cls.__new__(cls)
        state._machine, state._past, state._entry, state._spent = machine, past, None, False
        return state

    @classmethod
    def _remade(cls, machine: Machine, snapshot: StateSnapshot[Any]) -> Self:
        state = cls._made(machine, snapshot.past)
        state._adopt(snapshot)
        return state

    def _adopt(self, snapshot: StateSnapshot[Any]) -> None:
        """Be, as an object, what the state was at the snapshot."""
        mine = vars(self)
        if snapshot.attributes or len(mine) > len(_OWN):
            for name in self._author_attributes():
                del mine[name]
            mine.update(snapshot.attributes)
        self._past, self._entry, self._spent = snapshot.past, snapshot.entry, False

    def _snapshot(self) -> StateSnapshot[Self]:
        return StateSnapshot(
            type(self),
            self._machine.snapshot(),
            self._past,
            self._author_attributes(),
            self._entry,
        )

    def _hold(self) -> None:
        """Be the machine's state, with this state's functions, and no others, within reach."""
        self._machine.grant(self._table)
        self._machine.current = self

    def _take_over(self) -> None:
        """Become the machine's state and tell the plugins: every one of them hears both halves."""
        plugins, old = self._machine.plugins, self._machine.current
        self._table = self._machine.select(type(self).functions)
        self._info = StateInfo(type(self).__name__, frozenset(self._table))
        self._hold()
        try:
            if isinstance(old, State):
                plugins.state_left(old._info)
        finally:
            plugins.state_entered(self._info)

    def _check_unspent(self) -> None:
        if self._spent:
            raise SandboxConsumedError(f"this {type(self).__name__} could be used only once")

    def entered(self, calls: CallContext) -> None:
        """For authors: prepare the guest on moving forward, with this state's host functions."""

    def kill(self) -> None:
        """Stop what the guest is doing; any thread, any moment. Poisons the sandbox."""
        self._machine.kill()

    def close(self) -> None:
        """End the sandbox, whichever state it is in."""
        self._machine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def status(self) -> str:
        """One of "ready", "running", "poisoned", "closed" and "consumed"."""
        found = self._machine.status
        return "consumed" if found != "closed" and self._machine.current is not self else found

    @property
    def reach(self) -> frozenset[str]:
        """Names of the host functions within the guest's reach in this state."""
        return self._info.functions

    def explain(self) -> list[str]:
        """What the plugins grant, one line each, as `hyperlight run --explain` prints them."""
        return self._machine.plugins.explain()

    @property
    def counters(self) -> Counters:
        """What the sandbox's VM has done so far, in this state and before."""
        return self._machine.vm.counters()

    # ---- use ----

    def calls(self) -> AbstractContextManager[CallContext]:
        """Several guest calls that see each other's traces; `use` applies at the end.

        From within a host call of the guest they are part of the call that is in progress.

        Raises:
            StateError: the state is consumed, used up, poisoned, closed or busy in this thread.
        """
        return _Calls(self)

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        attachment: bytes | memoryview = b"",
        limits: Limits | None = None,
    ) -> Reply:
        """One guest call; see `GuestCalls.call` for what it raises."""
        within = self._begin_calls()
        try:
            return self._machine.context.call(method, params, attachment=attachment, limits=limits)
        finally:
            self._end_calls(within=within)

    def _begin_calls(self) -> bool:
        """Start a use, unless this is within one; whether it is."""
        machine = self._machine
        if machine.is_within(self):
            return True
        machine.acquire(self, poisoned=False)
        if self._spent:
            machine.release()
            self._check_unspent()
        self._spent = self.use is Use.ONCE
        return False

    def _end_calls(self, *, within: bool) -> None:
        if within:
            return
        machine = self._machine
        try:
            if self._entry is not None:
                machine.restore(self._entry)
        finally:
            machine.release()

    def inspect(self, look: Callable[[Machine], _T]) -> _T:
        """What `look` makes of the machine, poisoned or not, while nobody else uses it.

        Raises:
            StateError: the state is consumed, closed or busy in this thread.
        """
        with self._machine.using(self, poisoned=True):
            return look(self._machine)

    # ---- snapshots of this state ----

    def snapshot(self) -> StateSnapshot[Self]:
        """This state as it is now."""
        with self._machine.using(self):
            self._check_unspent()
            return self._snapshot()

    def restore(self, snapshot: StateSnapshot[Self]) -> None:
        """Take this state to a snapshot of the same state, of this sandbox or one of its kind.

        Raises:
            ConfigurationError: the snapshot belongs to another kind; nothing has changed.
            IllegalTransitionError: it is of another state.
        """
        self._check_same(snapshot)
        with self._machine.using(self, poisoned=True):
            self._machine.restore(snapshot.machine)
            self._adopt(snapshot)

    def _check_same(self, snapshot: StateSnapshot[Any]) -> None:
        if snapshot.state is not type(self):
            raise IllegalTransitionError(
                f"a snapshot of {snapshot.state.__name__} does not restore {type(self).__name__}"
            )

    def clone(self, snapshot: StateSnapshot[Self] | None = None) -> Self:
        """An independent sandbox in the same state; memory is shared until written.

        Args:
            snapshot: where it begins, instead of where this one is now; any number of threads may
                clone from one at the same time.

        Raises:
            IllegalTransitionError: the snapshot is of another state.
            ConfigurationError: it belongs to another kind of sandbox.
        """
        taken = snapshot or self.snapshot()
        self._check_same(taken)
        return self.start_from(self._machine.spec, taken)

    # ---- moving ----

    def mark(self) -> Mark[Self]:
        """This place in the sandbox's past, for `roll_back` in a later state."""
        return Mark(type(self), self._past, self._machine)

    def roll_back(self, mark: Mark[_S]) -> _S:
        """Go straight back to an earlier state, in place; this one is consumed.

        Raises:
            IllegalTransitionError: the mark is not in this sandbox's past.
        """
        with self._machine.using(self, poisoned=True):
            past, depth = self._past, len(mark.past)
            if (
                mark.machine is not self._machine
                or depth >= len(past)
                or past[depth].state is not mark.state
                or any(a is not b for a, b in zip(past, mark.past, strict=False))
            ):
                raise IllegalTransitionError(
                    f"{mark.state.__name__} is not in the past of this {type(self).__name__},"
                    f" which has {_names(past)}"
                )
            return cast(_S, self._go_back(depth))

    def _go_back(self, depth: int) -> State:
        machine, before = self._machine, self._past[depth]
        earlier = before.state._remade(machine, before)
        try:
            machine.restore(before.machine)
            earlier._take_over()
        except BaseException as error:
            self._hold()
            machine.poison(error)
            raise
        return cast(State, earlier)

    def _go_forward(self, target: type[_S], metadata: Transition) -> _S:
        before = self._snapshot()
        try:
            metadata.move(self._machine.context)
            return target._enter(self._machine, (*self._past, before))
        except BaseException:
            self._recover(before.machine)
            raise

    def _prepare_to_go_back(self, metadata: Transition) -> None:
        """Do the metadata's work in the guest; if it fails, nothing has happened."""
        if type(metadata).move is Transition.move:
            return
        before = self._machine.snapshot()
        try:
            metadata.move(self._machine.context)
        except BaseException:
            self._recover(before)
            raise

    def _recover(self, before: MachineSnapshot) -> None:
        """After a move that failed: be the machine's state again, as before, or poisoned."""
        machine = self._machine
        try:
            machine.restore(before)
            if machine.current is not self:
                self._take_over()
        except BaseException as error:
            self._hold()
            machine.poison(error)
            raise

    def _author_attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    def _refuse(self, move: str, metadata: object) -> IllegalTransitionError:
        moves = [
            f"{name}({getattr(declared[1], '__name__', declared[1])}) to {declared[0].__name__}"
            for name, base in (("evolve", EvolvableSandbox), ("devolve", DevolvableSandbox))
            if (declared := _declared(type(self), base))
        ]
        return IllegalTransitionError(
            f"{type(self).__name__} cannot {move} with {type(metadata).__name__};"
            f" it has {' and '.join(moves) or 'no moves'}"
        )


_OWN = frozenset({"_machine", "_past", "_entry", "_spent", "_table", "_info"})


class _Calls:
    """One use of a state; a class, because a generator costs more than the lock."""

    __slots__ = ("_state", "_within")

    def __init__(self, state: State) -> None:
        self._state = state

    def __enter__(self) -> CallContext:
        self._within = self._state._begin_calls()
        return self._state._machine.context

    def __exit__(self, *_: object) -> None:
        self._state._end_calls(within=self._within)


class EvolvableSandbox(Generic[_Next_co, _Metadata_contra]):
    """Base of a state that can move forward to `Next`, given `Metadata`."""

    def evolve(self, metadata: _Metadata_contra) -> _Next_co:
        """Move forward; this state is consumed. If it fails, this state is as before.

        Raises:
            IllegalTransitionError: `metadata` is not of the declared type.
            StateError: the state cannot be used.
            Exception: what the transition or the next state's `entered` raised.
        """
        state = cast(State, self)
        target = _target(state, EvolvableSandbox, "evolve", metadata)
        with state._machine.using(state):
            state._check_unspent()
            return cast(_Next_co, state._go_forward(target, metadata))


class DevolvableSandbox(Generic[_Previous_co, _Metadata_contra]):
    """Base of a state that can move back to `Previous`, given `Metadata`."""

    def devolve(self, metadata: _Metadata_contra) -> _Previous_co:
        """Move back to the state this one came from, as it was; this one is consumed.

        A poisoned sandbox moves back too, but without the metadata's work in the guest.

        Raises:
            IllegalTransitionError: `metadata` is not of the declared type, or the state came from
                another one.
            StateError: the state cannot be used.
        """
        state = cast(State, self)
        target = _target(state, DevolvableSandbox, "devolve", metadata)
        machine = state._machine
        with machine.using(state, poisoned=True):
            past = state._past
            if not past or past[-1].state is not target:
                raise IllegalTransitionError(
                    f"this {type(state).__name__} did not come from {target.__name__};"
                    f" its past is {_names(past)}"
                )
            if machine.status != "poisoned":
                state._prepare_to_go_back(metadata)
            return cast(_Previous_co, state._go_back(len(past) - 1))


def _target(state: State, base: type, move: str, metadata: object) -> type[State]:
    declared = _declared(type(state), base)
    if declared is None or not isinstance(metadata, declared[1]):
        raise state._refuse(move, metadata)
    return declared[0]


def _declared(cls: type, base: type) -> tuple[type[State], type[Transition]] | None:
    """The arguments with which a state class derives from `base`."""
    for owner in cls.__mro__:
        for generic in getattr(owner, "__orig_bases__", ()):
            if get_origin(generic) is base:
                target, metadata = (_resolve(item, owner) for item in get_args(generic))
                return target, metadata
    return None


def _resolve(item: Any, owner: type) -> Any:
    """A class, or the class of that name where `owner` was written."""
    if not isinstance(item, ForwardRef):
        return item
    scope = owner.__qualname__.rpartition(".")[0]
    name = item.__forward_arg__
    found = State._known.get((owner.__module__, f"{scope}.{name}" if scope else name))
    return found or getattr(sys.modules[owner.__module__], name)


def _names(past: tuple[StateSnapshot[Any], ...]) -> str:
    return ", ".join(snapshot.state.__name__ for snapshot in past) or "none"
