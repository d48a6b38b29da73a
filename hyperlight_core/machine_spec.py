"""What a machine is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hyperlight_core.calls import Limits
from hyperlight_core.console import StreamCallback
from hyperlight_core.guests import GuestImage
from hyperlight_core.table import CallCheck, CallObserver
from hyperlight_core.virtual_machine import VmConfig, VmFactory
from hyperlight_core.vm import Vm

__all__ = ["MachineSpec"]


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is made of; machines of equal guest and `config` may share snapshots.

    Attributes:
        guest: what runs in it.
        config: memory and buffers.
        plugins: configurations by plugin name.
        limits: of each guest call that names no others.
        boot_limits: of the guest's start.
        stream: told console output as it arrives.
        check: called before each host call; see `HostFunctionTable.dispatch`.
        observe: called after each host call.
        cache: whether the booted guest is kept on disk, for the next process to start from.
        vm: makes the micro-VM.
    """

    guest: GuestImage
    config: VmConfig = field(default_factory=VmConfig)
    plugins: Mapping[str, object] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    boot_limits: Limits = field(default_factory=lambda: Limits(timeout=60.0))
    stream: StreamCallback | None = None
    check: CallCheck | None = None
    observe: CallObserver | None = None
    cache: bool = False
    vm: VmFactory = Vm
