"""What hyperlight says of its work: to OpenTelemetry, and on the command line with --trace."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hyperlight_core import SandboxTimeoutError
from hyperlight_core.table import CallRecord
from hyperlight_core.telemetry import TracedSandbox

pytestmark = pytest.mark.kvm

CODE = """
import hyperlight
print(hyperlight.tools.double(number=21))
try:
    hyperlight.call("no.such.function")
except LookupError:
    pass
"""


def double(number: int) -> int:
    """Twice as much."""
    return number * 2


PLUGINS = {"tools": {"functions": [double]}}


@pytest.fixture(scope="module")
def exporters() -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    """What was told; a process can have one provider of each kind."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    return spans, reader


@pytest.fixture
def spans(exporters: tuple[InMemorySpanExporter, Any]) -> Iterator[InMemorySpanExporter]:
    yield exporters[0]
    exporters[0].clear()


def named(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_each_operation_is_a_span_with_its_host_calls_inside(spans: InMemorySpanExporter) -> None:
    records: list[CallRecord] = []
    with TracedSandbox(plugins=PLUGINS, after_host_call=records.append) as sandbox:
        assert sandbox.run(CODE).stdout == "42\n"
        sandbox.reset()
    found = named(spans)
    assert set(found) == {
        "sandbox.start",
        "hostcall tools.double",
        "hostcall unknown",
        "sandbox.run",
        "sandbox.restore",
    }
    run, call = found["sandbox.run"], found["hostcall tools.double"]
    assert run.context is not None
    assert call.parent == run.context
    assert dict(call.attributes or {}) == {"function": "tools.double", "outcome": "ok"}
    assert found["hostcall unknown"].status.description == "no host function 'no.such.function'"
    # The library OS itself has asked for mounts.
    methods = [record.method for record in records if record.method != "fs.mounts"]
    assert methods == ["tools.double", "no.such.function"]


def test_a_failing_operation_is_a_failing_span(spans: InMemorySpanExporter) -> None:
    with TracedSandbox(timeout=0.2) as sandbox, pytest.raises(SandboxTimeoutError):
        sandbox.run("while True: pass")
    assert not named(spans)["sandbox.run"].status.is_ok


def test_durations_and_sizes_are_measured(
    exporters: tuple[Any, InMemoryMetricReader], spans: InMemorySpanExporter
) -> None:
    with TracedSandbox(plugins=PLUGINS) as sandbox:
        sandbox.run(CODE)
    data = exporters[1].get_metrics_data()
    assert data is not None
    points = {
        (metric.name, str(attributes.get("operation", attributes.get("function"))))
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        for attributes in [point.attributes or {}]
    }
    assert ("hyperlight.operation.duration", "sandbox.run") in points
    assert ("hyperlight.host_call.duration", "tools.double") in points
    assert ("hyperlight.host_call.size", "unknown") in points
    assert ("hyperlight.exits", "sandbox.run") in points


def test_exits_are_counted_once_each(
    exporters: tuple[Any, InMemoryMetricReader], spans: InMemorySpanExporter
) -> None:
    """All of them, of clones as well, and whatever the operations were."""

    def counted() -> float:
        data = exporters[1].get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        points = [m.data.data_points for m in metrics if m.name == "hyperlight.exits"]
        return sum(getattr(point, "value", 0) for point in chain.from_iterable(points))

    before = counted()
    with TracedSandbox(plugins=PLUGINS) as sandbox:
        sandbox.run(CODE)
        sandbox.reset()
        with sandbox.clone() as twin:
            twin.run(CODE)
            assert counted() - before == sandbox.counters.exits + twin.counters.exits > 4


def test_without_an_sdk_it_is_silent() -> None:
    code = (
        "from hyperlight_core.telemetry import TracedSandbox\n"
        "with TracedSandbox() as sandbox: print(sandbox.run('print(1)').stdout, end='')\n"
        "import sys; print([name for name in sys.modules if 'opentelemetry.sdk' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n[]\n", "")


def test_core_alone_imports_no_telemetry() -> None:
    code = "import hyperlight_core, sys; print([n for n in sys.modules if 'opentelemetry' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_trace_prints_each_host_call(tmp_path: Path) -> None:
    """A name that no function has is printed so that it cannot move the cursor."""
    (tmp_path / "shop.py").write_text("def double(number: int) -> int:\n    return number * 2\n")
    code = CODE.replace("no.such.function", "no.\x1b[2J")
    command = [sys.executable, "-m", "hyperlight_core", "run", "--trace"]
    done = subprocess.run(
        [*command, "--tool", "double=shop:double", "-"],
        input=code,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "42\n"
    traced = [line for line in done.stderr.splitlines() if "fs.mounts" not in line]
    assert re.fullmatch(r"tools\.double  \d+\.\d{3} ms  0 B in, \d+ B out  ok", traced[0])
    assert traced[1].startswith("'no.\\x1b[2J'  ")
    assert "  -32601 " in traced[1]
