"""How the C helper is called: its configuration, and the exceptions that its errors are."""

from __future__ import annotations

import errno
from typing import Any

from hyperlight_core._vmm import ffi, lib
from hyperlight_core.errors import ConfigurationError, GuestImageError, HypervisorError
from hyperlight_core.virtual_machine import VmConfig

__all__ = ["check", "error_text", "native_config"]


def error_text() -> str:
    """What the helper says of this thread's last failure."""
    return str(ffi.string(lib.hl_error_text()).decode(errors="replace"))


def check(result: int) -> int:
    """Raise what a negative result of the helper means."""
    if result >= 0:
        return result
    text = error_text()
    if result in (-errno.ENOEXEC, -errno.EPROTO):
        raise GuestImageError(text)
    if result in (-errno.EINVAL, -errno.ENOMEM, -errno.EFAULT):
        raise ConfigurationError(text)
    raise HypervisorError(-result, text)


def native_config(config: VmConfig) -> Any:
    """The configuration as the helper takes it; raises ConfigurationError for impossible sizes."""
    try:
        return ffi.new("struct hl_config *", {**vars(config), "flags": 0, "image_fd": -1})
    except OverflowError as error:
        raise ConfigurationError(f"sizes no machine has: {config}") from error
