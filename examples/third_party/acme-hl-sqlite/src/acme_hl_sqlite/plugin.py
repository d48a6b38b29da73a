"""The plugin class: `sqlite.query` on one file."""

from __future__ import annotations

import base64
import math
import sqlite3
import time
from dataclasses import replace
from typing import Any, ClassVar

from acme_hl_sqlite.models import QueryRequest, QueryResponse, SqliteConfiguration, Value
from hyperlight_core.errors import CallLimitError, HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall, HostFunction, functions_of, host_function
from hyperlight_core.hookspecs import hookimpl

__all__ = ["SqlitePlugin"]

_RESULT_LIMIT = 256 * 1024
#: Instructions of SQLite's virtual machine between two looks at the clock.
_INSTRUCTIONS = 1000
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE}
#: Takes the name of a file of the host.
_FUNCTIONS_REFUSED = {"load_extension", "readfile", "writefile"}


class SqlitePlugin:
    """Lets one sandbox read one database."""

    configuration: ClassVar = SqliteConfiguration

    def __init__(self, configuration: SqliteConfiguration) -> None:
        """Open the file.

        Raises:
            sqlite3.Error: there is no such file.
        """
        self._configuration = configuration
        uri = f"{configuration.file.absolute().as_uri()}?mode=ro"
        # Any thread may use a sandbox, one at a time.
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._database.set_authorizer(self._authorize)

    @host_function("sqlite.query", blocking=True, errors=[CallLimitError, InvalidParamsError])
    def query(self, request: QueryRequest, call: HostCall) -> QueryResponse:
        """Run one SELECT statement."""
        ends = [time.monotonic() + self._configuration.seconds]
        if call.deadline is not None:
            ends.append(call.deadline)
        end = min(ends)
        self._database.set_progress_handler(
            lambda: call.cancelled or time.monotonic() > end, _INSTRUCTIONS
        )
        try:
            return self._run(request)
        except (sqlite3.Warning, sqlite3.Error, OverflowError, UnicodeError) as error:
            raise _told(error) from None
        finally:
            self._database.set_progress_handler(None, 0)

    def _run(self, request: QueryRequest) -> QueryResponse:
        cursor = self._database.cursor()
        try:
            cursor.execute(request.sql, request.parameters)
            found = cursor.fetchmany(self._configuration.rows)
            return QueryResponse(
                columns=[name for name, *_ in cursor.description or ()],
                rows=[[_value(value) for value in row] for row in found],
                complete=cursor.fetchone() is None,
            )
        finally:
            cursor.close()

    def _authorize(
        self, action: int, first: str | None, second: str | None, _db: str | None, _by: str | None
    ) -> int:
        """SQLite asks before it runs a statement; see "Compile-Time Authorization Callbacks"."""
        tables = self._configuration.tables
        if action == sqlite3.SQLITE_READ:
            allowed = tables is None or first in tables
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = second not in _FUNCTIONS_REFUSED
        else:
            allowed = action in _READS
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        """Just `sqlite.query`."""
        return [replace(function, result_limit=_RESULT_LIMIT) for function in functions_of(self)]

    @hookimpl
    def closed(self) -> None:
        """Close the file."""
        self._database.close()


def _value(value: Any) -> Value:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value  # type: ignore[no-any-return]


def _told(error: Exception) -> HostFunctionError:
    """The error a guest gets; SQLite's texts name no files of the host."""
    if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT" or str(error) == "interrupted":
        return CallLimitError("the query took too long", errno="ETIMEDOUT")
    return InvalidParamsError(f"the query failed: {error}")
