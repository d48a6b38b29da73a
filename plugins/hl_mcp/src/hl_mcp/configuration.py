"""What the served sandbox may do, and how much."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hyperlight_core import Sandbox

__all__ = ["ServerConfiguration"]


class ServerConfiguration(BaseModel):
    """The content of the configuration file; sizes are in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    packages: list[str] = Field(default_factory=list)
    memory: str = "512MiB"
    timeout: float = Field(default=30.0, gt=0)
    cpu_time: float | None = Field(default=None, gt=0)
    output_limit: int = Field(default=2**20, gt=0)
    file_size: int = Field(default=2**18, gt=0)

    def sandbox(self) -> Sandbox:
        """Start the sandbox; see Sandbox for what it raises."""
        return Sandbox(
            "python",
            plugins=self.plugins,
            memory=self.memory,
            timeout=self.timeout,
            cpu_time=self.cpu_time,
            output_limit=self.output_limit,
            guest_options={"packages": self.packages},
        )
