"""The plugin class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from hyperlight_core.functions import HostFunction, Model, functions_of, host_function
from hyperlight_core.hookspecs import CliOption, SnapshotToken, StateInfo, hookimpl


class Shape(BaseModel):
    """How an echo sounds."""

    model_config = ConfigDict(extra="forbid")

    volume: int = Field(default=1, ge=1)


class EchoConfiguration(BaseModel):
    """What stands under "echo" in a sandbox's `plugins`."""

    model_config = ConfigDict(extra="forbid")

    prefix: str = ""
    shapes: list[Shape] = []


class Message(Model):
    """Some text."""

    text: str


class EchoPlugin:
    """Offers `echo.say`, and keeps a diary of its hooks."""

    configuration: ClassVar = EchoConfiguration
    cli_options: ClassVar = (CliOption("--echo", "PREFIX", "What echoes begin with."),)

    def __init__(self, configuration: EchoConfiguration) -> None:
        self.prefix = configuration.prefix
        self.diary: list[str] = []

    @staticmethod
    def configuration_from_options(
        options: Mapping[str, tuple[str, ...]],
    ) -> dict[str, Any] | None:
        """The last `--echo` counts."""
        values = options["--echo"]
        return {"prefix": values[-1]} if values else None

    @host_function("echo.say")
    def say(self, request: Message) -> Message:
        """Say it again."""
        return Message(text=self.prefix + request.text)

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        """Just `echo.say`."""
        return functions_of(self)

    @hookimpl
    def state_entered(self, state: StateInfo) -> None:
        """Remember it."""
        self.diary.append(f"entered {state.name}")

    @hookimpl
    def state_left(self, state: StateInfo) -> None:
        """Remember it."""
        self.diary.append(f"left {state.name}")

    @hookimpl
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        """Store the length of the diary."""
        self.diary.append("snapshot")
        snapshot.plugin_state["echo"] = len(self.diary)

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        """Forget what came after the snapshot."""
        del self.diary[snapshot.plugin_state.get("echo", 0) :]

    @hookimpl
    def closed(self) -> None:
        """Remember it."""
        self.diary.append("closed")
