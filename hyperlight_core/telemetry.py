"""A Sandbox that tells OpenTelemetry what it does, if there is an SDK; needs the extra `otel`.

Spans: `sandbox.start`, `sandbox.run`, `sandbox.call`, `sandbox.restore` (a reset, too), and within
them `hostcall NAME`. Metrics: the durations of all of these, exits of the VM, bytes of host calls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, StatusCode

from hyperlight_core.errors import StateError
from hyperlight_core.guests import GuestImage
from hyperlight_core.sandbox import RunResult, Sandbox, Snapshot
from hyperlight_core.table import CallObserver, CallRecord

__all__ = ["TracedSandbox"]

_tracer = trace.get_tracer("hyperlight_core")
_meter = metrics.get_meter("hyperlight_core")
_durations = _meter.create_histogram(
    "hyperlight.operation.duration", "s", "Time of starts, runs, calls and restores."
)
_call_durations = _meter.create_histogram(
    "hyperlight.host_call.duration", "s", "Time of host calls."
)
_exits = _meter.create_counter("hyperlight.exits", "{exit}", "Times the guest left the VM.")
_bytes = _meter.create_counter("hyperlight.host_call.size", "By", "Bytes that host calls moved.")


class TracedSandbox(Sandbox):
    """A Sandbox with spans and metrics; takes and does the same."""

    #: Exits that the metric has been told of.
    _told = 0

    def __init__(
        self,
        guest: str | Path | GuestImage = "python",
        *,
        after_host_call: CallObserver | None = None,
        **options: Any,
    ) -> None:
        def observe(record: CallRecord) -> None:
            _record(record)
            if after_host_call is not None:
                after_host_call(record)

        name = guest.name if isinstance(guest, GuestImage) else Path(guest).name
        with self._operation("sandbox.start") as span:
            span.set_attribute("hyperlight.guest", name)
            super().__init__(guest, after_host_call=observe, **options)

    def run(
        self, code: str | bytes | os.PathLike[str], *, argv: list[str] | None = None
    ) -> RunResult:
        """As in Sandbox."""
        with self._operation("sandbox.run") as span:
            result = super().run(code, argv=argv)
            span.set_attribute("hyperlight.exit_code", result.exit_code)
            return result

    def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """As in Sandbox."""
        with self._operation("sandbox.call") as span:
            span.set_attribute("hyperlight.function", function)
            return super().call(function, *args, **kwargs)

    def restore(self, snapshot: Snapshot) -> None:
        """As in Sandbox."""
        with self._operation("sandbox.restore"):
            super().restore(snapshot)

    @contextmanager
    def _operation(self, name: str) -> Iterator[Span]:
        """A span around an operation, its duration by name and outcome, and its exits."""
        began, outcome = time.perf_counter(), "ok"
        with _tracer.start_as_current_span(name) as span:
            try:
                yield span
            except BaseException as error:
                outcome = type(error).__name__
                raise
            finally:
                seconds = time.perf_counter() - began
                _durations.record(seconds, {"operation": name, "outcome": outcome})
                self._tell_exits(name)

    def _tell_exits(self, name: str) -> None:
        # Where it has not started, or is closed by now, nothing can be read.
        with suppress(AttributeError, StateError):
            exits = self.counters.exits
            _exits.add(exits - self._told, {"operation": name})
            self._told = exits


def _record(record: CallRecord) -> None:
    # What a guest asks for in vain is any text it likes: it becomes no name of anything.
    name = "unknown" if record.function is None else record.function.name
    outcome = "ok" if record.code is None else str(record.code)
    attributes = {"function": name, "outcome": outcome}
    end = time.time_ns()
    span = _tracer.start_span(
        f"hostcall {name}", attributes=attributes, start_time=end - int(record.seconds * 1e9)
    )
    if record.code is not None:
        span.set_status(StatusCode.ERROR, record.message)
    span.end(end)
    _call_durations.record(record.seconds, attributes)
    _bytes.add(record.received, {"function": name, "direction": "received"})
    _bytes.add(record.sent, {"function": name, "direction": "sent"})
