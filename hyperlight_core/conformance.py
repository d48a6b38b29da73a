"""What every plugin must do, as tests that `pytest --hyperlight-conformance` runs.

Each is run for every plugin that is found; `HYPERLIGHT_PLUGINS` limits which. A plugin that needs a
configuration to show what it can do gives one in the `conftest.py` of its tests, with the hook
`pytest_hyperlight_configuration`. Needs `hypothesis`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlight_core import wire
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.hookspecs import SnapshotToken, StateInfo
from hyperlight_core.openrpc import DISCOVER, openrpc_document
from hyperlight_core.plugins import InstalledPlugin, PluginSet, installed_plugins, load_plugins
from hyperlight_core.schema.c_header import c_header
from hyperlight_core.schema.compatibility import breaking_changes
from hyperlight_core.schema.document import Document
from hyperlight_core.schema.stubs import python_stubs
from hyperlight_core.testing import Answer, call_host_function

_BUFFER = 0x10000
_SMALLEST_BUFFER = 0x1000
_LETTERS = "abcdefghij"
#: Seconds that a function which waits is given.
_PATIENCE = 0.02

_SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

Configuration = Callable[[], dict[str, Any]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test for every plugin."""
    if "plugin" in metafunc.fixturenames:
        found = installed_plugins()
        metafunc.parametrize("plugin", found, ids=[plugin.name for plugin in found])


@pytest.fixture
def configuration(
    request: pytest.FixtureRequest, plugin: InstalledPlugin, tmp_path: Path
) -> dict[str, Any]:
    """What the plugin is configured with."""
    hook = request.config.hook.pytest_hyperlight_configuration
    given_one: dict[str, Any] | None = hook(plugin=plugin.name, tmp_path=tmp_path)
    return given_one or {}


@pytest.fixture
def started(plugin: InstalledPlugin, configuration: dict[str, Any]) -> Iterator[PluginSet]:
    """The plugin in a sandbox without a guest."""
    plugins = load_plugins({plugin.name: configuration})
    plugins.state_entered(StateInfo("conformance", frozenset(plugins.table)))
    yield plugins
    plugins.state_left(StateInfo("conformance", frozenset(plugins.table)))
    plugins.closed()


# ---- a guest -----------------------------------------------------------------------------------


class _Run:
    """A run that is about to time out, whenever a handler looks."""

    run = 1
    cancelled = False
    wake_fd = -1

    @property
    def deadline(self) -> float:
        return time.monotonic() + _PATIENCE


def _call(
    plugins: PluginSet, method: str, params: Any, *, room: int = _BUFFER, attachment: bytes = b""
) -> Answer:
    return call_host_function(
        plugins.table, method, params, attachment, buffer=room, context=_Run()
    )


def _code(answer: Answer) -> int | None:
    return None if answer.error is None else int(answer.error["code"])


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(_LETTERS + "\0/.~é"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_LETTERS), inner),
    max_leaves=5,
)


def _values(document: Document, schema: Any, depth: int = 4) -> st.SearchStrategy[Any]:
    """Values of a schema, more or less, and sometimes anything."""
    plain = document.resolve(schema)
    if not depth or not plain:
        return _ANYTHING
    if "anyOf" in plain:
        return st.one_of([_values(document, choice, depth - 1) for choice in plain["anyOf"]])
    if "enum" in plain or "const" in plain:
        return st.sampled_from(plain.get("enum", [plain.get("const")])) | _ANYTHING
    if plain.get("type") == "array":
        return st.lists(_values(document, plain.get("items", {}), depth - 1), max_size=3)
    if plain.get("type") == "object" and "properties" in plain:
        members = plain["properties"].items()
        made = {name: _values(document, part, depth - 1) for name, part in members}
        return st.fixed_dictionaries({}, optional=made)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        "integer": st.integers(-1, 10) | st.integers(-(2**63), 2**64 - 1),
        "boolean": st.booleans(),
        "string": st.text(_LETTERS, max_size=9) | st.text(max_size=9),
    }
    return simple.get(plain.get("type"), _ANYTHING)


def _calls(plugins: PluginSet) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Calls of the plugin's functions with parameters they may or may not take."""
    document = Document(openrpc_document(plugins.table.values()))

    def of(method: dict[str, Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        known = {p["name"]: _values(document, p["schema"]) for p in method["params"]}
        required = {p["name"] for p in method["params"] if p["required"]}
        params = st.fixed_dictionaries(
            {name: known[name] for name in required},
            optional={name: part for name, part in known.items() if name not in required},
        )
        return st.tuples(st.just(method["name"]), params)

    return st.one_of([of(method) for method in document.methods.values()])


def _misuse(plugins: PluginSet, room: int = _BUFFER, attachment: bytes = b"bytes") -> None:
    """Call the functions in many ways; none may fail in a way it did not mean to."""

    @_SETTINGS
    @given(st.lists(_calls(plugins), min_size=1, max_size=8))
    def attack(calls: list[tuple[str, dict[str, Any]]]) -> None:
        for method, params in calls:
            answer = _call(plugins, method, params, room=room, attachment=attachment)
            bug = f"{method} has a bug: it fails for {params!r}"
            assert _code(answer) != wire.INTERNAL_ERROR, bug

    attack()


# ---- what it is --------------------------------------------------------------------------------

#: Prints, as JSON, what an import changed in the process, and the modules it loaded.
_IMPORT = """
import importlib, json, locale, logging, os, signal, socket, sys, threading, warnings
def state():
    umask = os.umask(0o22)
    os.umask(umask)
    root = logging.getLogger()
    return {
        "sys.path": list(sys.path), "os.environ": dict(os.environ), "directory": os.getcwd(),
        "umask": umask, "signals": str([signal.getsignal(n) for n in signal.valid_signals()]),
        "warnings": str(warnings.filters), "root logger": [str(root.handlers), root.level],
        "locale": locale.setlocale(locale.LC_ALL), "threads": threading.active_count(),
        "excepthook": str(sys.excepthook), "socket timeout": socket.getdefaulttimeout(),
        "recursion limit": sys.getrecursionlimit(), "stdout": str(sys.stdout),
    }
import hyperlight_core.plugins
before = state()
importlib.import_module(sys.argv[1])
after = state()
changed = [name for name in before if before[name] != after[name]]
print(json.dumps({"changed": changed, "modules": list(sys.modules)}))
"""


@pytest.fixture
def imported(plugin: InstalledPlugin) -> dict[str, Any]:
    """What importing the plugin does to a fresh interpreter."""
    assert plugin.entry_point is not None
    command = [sys.executable, "-c", _IMPORT, plugin.entry_point.module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_importing_it_changes_nothing_global(imported: dict[str, Any]) -> None:
    """The host program decides about signals, logging, paths and the environment."""
    assert imported["changed"] == []


def test_it_imports_no_other_plugin(plugin: InstalledPlugin, imported: dict[str, Any]) -> None:
    """A plugin works alone, and is read and tested alone."""
    own = plugin.entry_point.module.partition(".")[0] if plugin.entry_point else ""
    others = {p.entry_point.module.partition(".")[0] for p in installed_plugins() if p.entry_point}
    assert (others - {own}).intersection(imported["modules"]) == set()


def test_it_loads_and_comes_with_a_distribution(plugin: InstalledPlugin) -> None:
    assert plugin.problem() is None
    assert plugin.distribution
    assert plugin.version


def test_its_configuration_takes_no_unknown_keys(
    plugin: InstalledPlugin, configuration: dict[str, Any]
) -> None:
    """A misspelt key must not silently grant more or less than was meant."""
    with pytest.raises(ConfigurationError):
        load_plugins({plugin.name: configuration | {"no-such-key": 1}})


def test_its_options_grant_nothing_unless_given(plugin: InstalledPlugin) -> None:
    cls = plugin.load()
    options = getattr(cls, "cli_options", ())
    assert all(option.flag.startswith("--") and option.help for option in options)
    if options:
        nothing: dict[str, tuple[str, ...]] = {option.flag: () for option in options}
        assert cls.configuration_from_options(nothing) is None


# ---- what it offers ----------------------------------------------------------------------------


def test_it_offers_functions_and_documents_each(started: PluginSet) -> None:
    assert len(started.table) > 0
    assert [name for name, function in started.table.items() if not function.doc.strip()] == []


def test_its_schema_is_well_formed(started: PluginSet) -> None:
    """It can be printed, every reference leads somewhere, and stubs and a header can be made."""
    document = openrpc_document(started.table.values())
    text = json.dumps(document, allow_nan=False)
    schemas = document["components"]["schemas"]
    references = [part.split('"')[0] for part in text.split('"$ref": "')[1:]]
    assert [name for name in references if name.rpartition("/")[2] not in schemas] == []
    compile(python_stubs(document), "hyperlight.pyi", "exec")
    assert c_header(document)
    assert _call(started, DISCOVER, {}).result == document


def test_its_schema_breaks_no_caller(started: PluginSet, pytestconfig: pytest.Config) -> None:
    """Where the project keeps its schema in `schema.json`: see `hyperlight schema --lock`."""
    lock = pytestconfig.rootpath / "schema.json"
    document = openrpc_document(started.table.values())
    known = json.loads(lock.read_text()) if lock.exists() else document
    assert breaking_changes(known, document) == []


def test_its_functions_refuse_parameters_they_do_not_have(started: PluginSet) -> None:
    for name in started.table:
        answer = _call(started, name, {"no such parameter": 1})
        assert _code(answer) == -32602, name


# ---- how it behaves ----------------------------------------------------------------------------


def test_bad_input_gives_errors_and_never_a_crash(started: PluginSet) -> None:
    _misuse(started)


def test_a_small_buffer_of_the_guest_is_respected(started: PluginSet) -> None:
    _misuse(started, _SMALLEST_BUFFER, bytes(3 * _SMALLEST_BUFFER))


def test_it_can_be_restored_again_and_again(plugin: InstalledPlugin, started: PluginSet) -> None:
    """To a snapshot of its own, and to one taken before it was there."""
    before, token = SnapshotToken(), SnapshotToken()
    started.snapshot_taken(token)
    assert set(token.plugin_state) <= {plugin.name}
    for target in (token, token, before, token):
        _misuse(started)
        started.snapshot_restored(target)


def test_a_clone_starts_from_a_snapshot_it_has_never_seen(
    plugin: InstalledPlugin, configuration: dict[str, Any], started: PluginSet
) -> None:
    _misuse(started)
    token = SnapshotToken()
    started.snapshot_taken(token)
    clone = load_plugins({plugin.name: configuration})
    try:
        clone.snapshot_restored(token)
        _misuse(clone)
    finally:
        clone.closed()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_handles_opened_after_a_snapshot_are_closed_by_its_restore(started: PluginSet) -> None:
    _misuse(started)
    token = SnapshotToken()
    started.snapshot_taken(token)
    open_then = _descriptors()
    _misuse(started)
    started.snapshot_restored(token)
    assert _descriptors() <= open_then


def test_nothing_stays_open_after_the_sandbox_is_closed(
    plugin: InstalledPlugin, configuration: dict[str, Any]
) -> None:
    load_plugins({plugin.name: configuration}).closed()
    open_then = _descriptors()
    plugins = load_plugins({plugin.name: configuration})
    _misuse(plugins)
    plugins.closed()
    assert _descriptors() <= open_then
