"""The configuration of the plugin, and the request and response of its host function."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from hyperlight_core.functions import Model

__all__ = ["QueryRequest", "QueryResponse", "SqliteConfiguration", "Value"]

#: What a column may hold and a parameter may be.
Value = int | float | str | None


class SqliteConfiguration(BaseModel):
    """What stands under "sqlite" in a sandbox's `plugins`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="path of the database")
    tables: frozenset[str] | None = Field(default=None, description="which may be read")
    rows: int = Field(default=1000, ge=1, le=100_000)
    seconds: float = Field(default=1.0, gt=0)


class QueryRequest(Model):
    """One SELECT statement, with a value for each `?` in it."""

    sql: str = Field(max_length=10_000)
    parameters: list[Value] = Field(default_factory=list, max_length=100)


class QueryResponse(Model):
    """What it found; `complete` is false where there was more."""

    columns: list[str]
    rows: list[list[Value]]
    complete: bool
