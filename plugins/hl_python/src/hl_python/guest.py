"""The guest named `python`: what `Sandbox("python", …)` starts."""

from __future__ import annotations

import functools
import hashlib
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from hl_python.interpreter import PROGRAM
from hl_python.packer import START, pack, plan
from hyperlight_core.guests import BootRequest, GuestImage, Progress

__all__ = ["PythonConfiguration", "PythonGuest"]

#: -I: nothing of the environment counts. -B: modules from a mount leave no bytecode there.
_OPTIONS = ("-I", "-B", "-X", "utf8")
_ENVIRONMENT = ("HOME=/tmp", "LANG=C.UTF-8", "PATH=/usr/bin", "TMPDIR=/tmp")


#: Looked up once: a process does not see its own packages change, either.
_plan = functools.cache(plan)


class PythonConfiguration(BaseModel):
    """Options of the `python` guest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    packages: tuple[str, ...] = Field(
        default=(),
        description="requirements such as 'numpy' or 'pandas[excel]>=2', installed on the host",
    )
    preload: tuple[str, ...] = Field(
        default=(),
        description="modules imported before the first run, which then costs no import",
    )


class PythonGuest:
    """CPython as the host runs it, parked before its first request.

    Args:
        configuration: the validated options.
    """

    configuration: ClassVar[type[BaseModel]] = PythonConfiguration

    def __init__(self, configuration: PythonConfiguration) -> None:
        self._configuration = configuration

    def prepare(self, progress: Progress | None = None) -> GuestImage:
        """The image with the interpreter and the packages, from the cache or packed now.

        Raises:
            ConfigurationError: a package is not installed as asked for.
            OSError: the cache cannot be written.
        """
        wanted = _plan(self._configuration.packages)
        argv = (f"/{PROGRAM}", *_OPTIONS, f"/{START}", *self._configuration.preload)
        boot = BootRequest(argv, _ENVIRONMENT, "/tmp")  # noqa: S108 - the guest's own
        return GuestImage(
            name="python",
            key=hashlib.sha256(f"{wanted.key} {boot}".encode()).hexdigest(),
            image=pack(wanted, progress=progress),
            boot=boot,
            requests=frozenset({"run", "call"}),
        )
