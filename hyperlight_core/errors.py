"""The exceptions of hyperlight, as a tree of who is to blame.

HyperlightError
├── ConfigurationError (ValueError)          the caller asked for something that cannot be
│   ├── GuestImageError                      a guest or image file that cannot be loaded
│   ├── PluginError                          a plugin that fails to load or to start
│   └── PluginNotInstalledError (LookupError)
├── HypervisorError (OSError)                this machine: no KVM, no permission, a failing ioctl
├── StateError (RuntimeError)                a use that the sandbox's state does not allow
│   ├── PoolExhaustedError (TimeoutError)    all sandboxes of a pool are in use
│   ├── SandboxBusyError
│   ├── CallDepthError (RecursionError)      host and guest call each other back too deeply
│   ├── SandboxClosedError
│   ├── SandboxConsumedError
│   ├── SandboxPoisonedError
│   └── IllegalTransitionError
├── GuestError (RuntimeError)                the guest misbehaved
│   ├── GuestCrashedError                    an exception of the CPU, a forbidden access or port
│   ├── GuestExitedError                     the guest ended when it should have answered
│   ├── GuestFunctionError                   a guest function raised; carries its type and traceback
│   └── ProtocolError (ValueError)           a frame that does not follow the ABI or JSON-RPC
├── LimitExceededError                       a limit of the sandbox was reached
│   ├── SandboxTimeoutError (TimeoutError)   wall-clock time
│   ├── CpuTimeExceededError (TimeoutError)
│   ├── MemoryExceededError (MemoryError)
│   ├── OutputExceededError
│   └── HostCallsExceededError
├── SandboxKilledError                       kill() was called
└── HostFunctionError                        raised by host functions; becomes a JSON-RPC error
    ├── MethodNotFoundError (LookupError)
    ├── InvalidParamsError (ValueError)
    ├── DeniedError (PermissionError)
    ├── CallLimitError
    └── ToolError                            a granted Python callable raised
"""

from __future__ import annotations

import errno as errno_module
import os
from typing import Any

__all__ = [
    "CallDepthError",
    "CallLimitError",
    "ConfigurationError",
    "CpuTimeExceededError",
    "DeniedError",
    "GuestCrashedError",
    "GuestError",
    "GuestExitedError",
    "GuestFunctionError",
    "GuestImageError",
    "HostCallsExceededError",
    "HostFunctionError",
    "HyperlightError",
    "HypervisorError",
    "IllegalTransitionError",
    "InvalidParamsError",
    "LimitExceededError",
    "MemoryExceededError",
    "MethodNotFoundError",
    "OutputExceededError",
    "PluginError",
    "PluginNotInstalledError",
    "PoolExhaustedError",
    "ProtocolError",
    "SandboxBusyError",
    "SandboxClosedError",
    "SandboxConsumedError",
    "SandboxKilledError",
    "SandboxPoisonedError",
    "SandboxTimeoutError",
    "StateError",
    "ToolError",
]


class HyperlightError(Exception):
    """The root of every exception this library raises on purpose.

    Attributes:
        stdout: what the guest had printed in the failing call.
        stderr: the same.
    """

    stdout: str = ""
    stderr: str = ""


class ConfigurationError(HyperlightError, ValueError):
    """The caller asked for something that cannot be; nothing was started."""


class GuestImageError(ConfigurationError):
    """A guest program or image file cannot be loaded; the message says why."""


class PluginError(ConfigurationError):
    """A plugin failed to load or to start. The host program and other sandboxes are unaffected.

    Attributes:
        plugin: name of the entry point.
        distribution: name of the distribution it came with, or "".
        version: version of that distribution, or "".
    """

    def __init__(
        self, message: str, *, plugin: str, distribution: str = "", version: str = ""
    ) -> None:
        self.plugin, self.distribution, self.version = plugin, distribution, version
        origin = f" ({distribution} {version})" if distribution else ""
        super().__init__(f"plugin {plugin!r}{origin}: {message}")


class PluginNotInstalledError(ConfigurationError, LookupError):
    """The configuration names a plugin that is not installed; the message says how to get it."""


class HypervisorError(HyperlightError, OSError):
    """KVM is missing, forbidden or failed. Has `errno` and `strerror` like every OSError."""


class StateError(HyperlightError, RuntimeError):
    """The sandbox is in a state that does not allow this use."""


class PoolExhaustedError(StateError, TimeoutError):
    """All sandboxes of the pool are in use, and none came back in time."""


class SandboxBusyError(StateError):
    """The sandbox is in use by this thread, or the guest runs and cannot be called meanwhile."""


class CallDepthError(StateError, RecursionError):
    """Host functions and guest functions call each other back too deeply; the sandbox goes on."""


class SandboxClosedError(StateError):
    """The sandbox was closed."""


class SandboxConsumedError(StateError):
    """This state has moved on to another one."""


class SandboxPoisonedError(StateError):
    """A crash, a kill or a breached limit left the guest in the middle of something.

    `restore`, `reset` and `close` still work.
    """


class IllegalTransitionError(StateError):
    """The state has no such transition; the message names those it has."""


class GuestError(HyperlightError, RuntimeError):
    """The guest misbehaved."""


class GuestCrashedError(GuestError):
    """The guest's CPU raised an exception nobody handled, or the guest left in a forbidden way."""


class GuestExitedError(GuestError):
    """The guest ended when it should have answered.

    Attributes:
        status: its exit status, 0 to 255.
    """

    def __init__(self, status: int, message: str | None = None) -> None:
        self.status = status
        super().__init__(message or f"the guest ended with status {status}")


class GuestFunctionError(GuestError):
    """A function called in the guest raised.

    Attributes:
        type_name: name of the guest's exception type.
        traceback: the guest's traceback as text, or "".
    """

    def __init__(self, message: str, *, type_name: str = "", traceback: str = "") -> None:
        self.type_name, self.traceback = type_name, traceback
        super().__init__(f"{type_name}: {message}" if type_name else message)


class ProtocolError(GuestError, ValueError):
    """A frame from the guest does not follow the ABI or JSON-RPC 2.0."""


class LimitExceededError(HyperlightError):
    """A limit of the sandbox was reached; it is poisoned, but by MemoryExceededError."""


class SandboxTimeoutError(LimitExceededError, TimeoutError):
    """The wall-clock timeout passed."""


class CpuTimeExceededError(LimitExceededError, TimeoutError):
    """The CPU-time budget is used up."""


class MemoryExceededError(LimitExceededError, MemoryError):
    """The guest needs more memory than the sandbox has; it says so itself and can go on."""


class OutputExceededError(LimitExceededError):
    """The guest wrote more console output than the sandbox takes."""


class HostCallsExceededError(LimitExceededError):
    """The guest made more host calls than the sandbox answers."""


class SandboxKilledError(HyperlightError):
    """`kill()` was called while the guest ran."""


class HostFunctionError(HyperlightError):
    """Raised by a host function to answer the guest with a JSON-RPC error.

    The message crosses to the guest: put no host path and no secret into it.

    Args:
        message: text for the guest.
        errno: POSIX errno name such as "ENOENT", or None.
        data: further JSON members of the error's `data` object.
    """

    #: JSON-RPC 2.0 error code, section 5.1; -32099 to -32000 are for implementations.
    code = -32000

    def __init__(
        self, message: str, *, errno: str | None = None, data: dict[str, Any] | None = None
    ) -> None:
        self.message, self.errno_name, self.data = message, errno, data or {}
        super().__init__(message)

    @classmethod
    def from_os_error(cls, error: OSError) -> HostFunctionError:
        """The guest's view of an OSError: its errno and nothing that names a host path."""
        number = error.errno or errno_module.EIO
        return cls(os.strerror(number), errno=errno_module.errorcode.get(number, "EIO"))


class MethodNotFoundError(HostFunctionError, LookupError):
    """No such host function within the guest's reach."""

    code = -32601


class InvalidParamsError(HostFunctionError, ValueError):
    """The parameters do not match the host function's request model."""

    code = -32602


class DeniedError(HostFunctionError, PermissionError):
    """The policy does not allow it."""

    code = -32001

    def __init__(
        self, message: str, *, errno: str | None = "EACCES", data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, errno=errno, data=data)


class CallLimitError(HostFunctionError):
    """A limit of the host function was reached; the sandbox goes on."""

    code = -32002


class ToolError(HostFunctionError):
    """A granted callable raised; the message has the exception's type and text."""

    code = -32003
