"""Plugins: found without being imported, started with a checked configuration, hooked."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from hyperlight_core.errors import ConfigurationError, PluginError, PluginNotInstalledError
from hyperlight_core.functions import HostFunction, Model, functions_of, host_function
from hyperlight_core.hookspecs import SnapshotToken, StateInfo, hookimpl
from hyperlight_core.plugins import VARIABLE, PluginSet, installed_plugins, load_plugins

ECHO = Path(__file__).parents[1] / "plugins"
STATE = StateInfo("ready", frozenset())


class Nothing(Model):
    pass


@dataclass
class Recorder:
    """A plugin that notes its hooks in a diary shared with others, and fails at some of them."""

    name: str = "r"
    diary: list[str] = field(default_factory=list)
    fails: frozenset[str] = frozenset()

    def note(self, hook: str) -> None:
        self.diary.append(f"{self.name}.{hook}")
        if hook in self.fails:
            raise OSError(f"{self.name} cannot do {hook}")

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        self.note("host_functions")
        return []

    @hookimpl
    def state_entered(self, state: StateInfo) -> None:
        self.note("state_entered")

    @hookimpl
    def snapshot_taken(self) -> None:
        self.note("snapshot_taken")

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        self.note("snapshot_restored")

    @hookimpl
    def explain(self) -> list[str]:
        self.note("explain")
        return [f"allow {self.name}", "and more"]

    @hookimpl
    def state_left(self, state: StateInfo) -> None:
        self.note("state_left")

    @hookimpl
    def closed(self) -> None:
        self.note("closed")


class Offering:
    """A plugin whose one function has the given name."""

    def __init__(self, *names: str) -> None:
        self.names = names

    @host_function("any.name")
    def answer(self, request: Nothing) -> Nothing:
        return request

    @hookimpl
    def host_functions(self) -> Iterator[HostFunction]:
        (function,) = functions_of(self)
        for name in self.names:
            yield HostFunction(name, function.handler, Nothing, Nothing)


@pytest.fixture(autouse=True)
def clean_import_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the plugin modules another one imported, or an outer limit."""
    monkeypatch.delenv(VARIABLE, raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith(("hl_", "acme_")):
            del sys.modules[name]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin hl-echo, installed."""
    monkeypatch.syspath_prepend(str(ECHO))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, distribution: str, name: str, source: str, target: str = "Plugin") -> None:
    """Put a distribution with one module and one entry point into `site`, as an installer does."""
    module = distribution.replace("-", "_")
    (site / f"{module}.py").write_text(dedent(source))
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hyperlight]\n{name} = {module}:{target}\n")


def found() -> dict[str, str]:
    """Distribution and version of every plugin that is found."""
    return {
        plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in installed_plugins()
    }


# ---- discovery ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("echo")
def test_an_installed_plugin_is_found_without_being_imported() -> None:
    assert found()["echo"] == "hl-echo 0.1.0"
    assert "hl_echo" not in sys.modules


def test_importing_core_imports_no_plugin() -> None:
    code = "import sys, hyperlight_core.plugins as p; p.installed_plugins(); print(*sys.modules)"
    path = os.pathsep.join([str(ECHO), *sys.path])
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "hyperlight_core.plugins" in loaded
    assert not [name for name in loaded if name.startswith("hl_")]


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(
    ("limit", "visible"),
    [("", False), ("echo", True), ("fs, echo", True), ("fs", False), ("ech", False)],
)
def test_the_environment_limits_what_is_found(
    monkeypatch: pytest.MonkeyPatch, limit: str, visible: bool
) -> None:
    monkeypatch.setenv(VARIABLE, limit)
    assert ("echo" in found()) == visible
    if not visible:
        with pytest.raises(PluginNotInstalledError, match=VARIABLE):
            load_plugins({"echo": {}})


def test_a_plugin_installed_while_the_program_runs_is_found(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "late" not in found()
    source = """
        from pydantic import BaseModel

        class Configuration(BaseModel):
            pass

        class Plugin:
            configuration = Configuration
            def __init__(self, configuration): pass
    """
    install(site, "acme-late", "late", source)
    assert list(load_plugins({"late": {}}).instances) == ["late"]


def test_a_known_plugin_that_is_not_installed_is_named_with_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(PluginNotInstalledError, match="pip install hl-fs"):
        load_plugins({"fs": {}})


@pytest.mark.usefixtures("echo")
def test_an_unknown_plugin_is_answered_with_the_installed_ones() -> None:
    with pytest.raises(
        PluginNotInstalledError, match=r"'ecko' is not installed; installed: .*echo"
    ):
        load_plugins({"ecko": {}})


def test_two_distributions_with_one_plugin_name_are_both_named(site: Path) -> None:
    install(site, "acme-one", "db", "")
    install(site, "acme-two", "db", "")
    with pytest.raises(PluginError, match=r"acme-one 1\.0.*acme-two 1\.0 has the same name"):
        load_plugins({"db": {}})


# ---- loading -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("echo")
def test_a_plugin_is_started_with_its_configuration() -> None:
    plugins = load_plugins({"echo": {"prefix": "> ", "shapes": [{"volume": 3}]}})
    function = plugins.table["echo.say"]
    assert function.plugin == "echo"
    assert function.handler(function.request(text="hi")).model_dump() == {"text": "> hi"}


@pytest.mark.usefixtures("echo")
def test_every_sandbox_has_its_own_instance() -> None:
    one, two = load_plugins({"echo": {}}), load_plugins({"echo": {}})
    assert one.instances["echo"] is not two.instances["echo"]


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        ({"unknown": 1}, r"unknown: Extra inputs are not permitted"),
        ({"prefix": 1}, r"prefix: Input should be a valid string"),
        ({"shapes": [{}, {"volume": 0}]}, r"shapes\.1\.volume: Input should be greater"),
        ({"shapes": [{"loud": "s3cret"}]}, r"shapes\.0\.loud: Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_named_by_its_field(
    configuration: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"plugins\['echo'\]: " + fault) as caught:
        load_plugins({"echo": configuration})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("configuration", [None, True, "ro", ["a"], 3, dict])
def test_a_configuration_that_is_no_mapping_is_refused(configuration: object) -> None:
    with pytest.raises(ConfigurationError, match=r"plugins\['echo'\] must be a mapping"):
        load_plugins({"echo": configuration})


@pytest.mark.usefixtures("echo")
def test_a_configuration_may_be_an_instance_of_its_model() -> None:
    configuration = importlib.import_module("hl_echo.plugin").EchoConfiguration(prefix="> ")
    echo: Any = load_plugins({"echo": configuration}).instances["echo"]
    assert echo.prefix == "> "


def test_an_instance_is_used_as_it_is() -> None:
    """Whether or not it can be hashed: a dataclass cannot."""
    plugin = Recorder()
    assert load_plugins({"mine": plugin}).instances == {"mine": plugin}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
        ("import acme_missing", "ModuleNotFoundError: No module named 'acme_missing'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("x = (", "SyntaxError"),
        ("class Other: pass", "has no attribute 'Plugin'"),
        ("Plugin = 3", "no `configuration`, a pydantic model"),
        ("class Plugin: pass", "no `configuration`, a pydantic model"),
        ("class Plugin: configuration = dict", "no `configuration`, a pydantic model"),
    ],
)
def test_a_plugin_that_cannot_be_imported_fails_only_the_sandbox_that_names_it(
    site: Path, source: str, fault: str
) -> None:
    install(site, "acme-broken", "broken", source)
    with pytest.raises(PluginError, match=r"'broken' \(acme-broken 1\.0\)") as caught:
        load_plugins({"broken": {}})
    assert fault in str(caught.value)
    assert (caught.value.distribution, caught.value.version) == ("acme-broken", "1.0")
    (plugin,) = [plugin for plugin in installed_plugins() if plugin.name == "broken"]
    assert fault in str(plugin.problem())
    assert load_plugins({"mine": Recorder()}).table is not None


def test_a_plugin_that_fails_to_start_is_named(site: Path) -> None:
    source = """
        from pydantic import BaseModel

        class Configuration(BaseModel):
            pass

        class Plugin:
            configuration = Configuration
            def __init__(self, configuration):
                raise ZeroDivisionError("no")
    """
    install(site, "acme-broken", "broken", source)
    with pytest.raises(PluginError, match=r"'broken' \(acme-broken 1\.0\): ZeroDivisionError: no"):
        load_plugins({"broken": {}})


def test_a_configuration_model_with_a_bug_is_the_plugins_fault(site: Path) -> None:
    source = """
        from pydantic import BaseModel, field_validator

        class Configuration(BaseModel):
            value: int
            @field_validator("value")
            def check(cls, value):
                raise KeyError(value)

        class Plugin:
            configuration = Configuration
    """
    install(site, "acme-broken", "broken", source)
    with pytest.raises(PluginError, match=r"'broken' \(acme-broken 1\.0\): KeyError: 3"):
        load_plugins({"broken": {"value": 3}})


def test_when_one_plugin_fails_those_before_it_are_closed(site: Path) -> None:
    install(site, "acme-broken", "broken", "1 / 0")
    diary: list[str] = []
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        load_plugins({"a": Recorder("a", diary), "b": Recorder("b", diary), "broken": {}})
    assert diary == ["b.closed", "a.closed"]


def test_a_hook_that_does_not_exist_is_an_error() -> None:
    class Misspelt:
        @hookimpl
        def state_entred(self) -> None:
            """Never called."""

    with pytest.raises(PluginError, match="state_entred"):
        load_plugins({"x": Misspelt()})


def test_a_hook_with_an_argument_that_does_not_exist_is_an_error() -> None:
    class Curious:
        @hookimpl
        def closed(self, sandbox: object) -> None:
            """Never called."""

    with pytest.raises(PluginError, match="sandbox"):
        load_plugins({"x": Curious()})


def test_a_hook_wrapper_is_an_error() -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def closed(self) -> Iterator[None]:
            yield

    with pytest.raises(PluginError, match="closed is a wrapper"):
        load_plugins({"x": Wrapping()})


# ---- the table ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("echo")
class Sharing(Offering):
    """A plugin that owns more than its own name."""

    namespaces = ("shared", "deeper.still")


def test_two_plugins_that_claim_one_name_are_both_named() -> None:
    plugins = {"one": Sharing("shared.say"), "two": Sharing("shared.say")}
    with pytest.raises(PluginError, match=r"'two': it offers 'shared\.say', .* plugin 'one'"):
        load_plugins(plugins)


def test_one_plugin_that_offers_a_name_twice_is_an_error() -> None:
    with pytest.raises(PluginError, match=r"offers 'x\.b', and so does plugin 'x'"):
        load_plugins({"x": Offering("x.b", "x.b")})


def test_a_plugin_owns_the_namespace_of_its_name_unless_it_declares_others() -> None:
    plugins = load_plugins({"x": Offering("x.b"), "y": Sharing("shared.b", "deeper.still.b")})
    assert sorted(plugins.table) == ["deeper.still.b", "shared.b", "x.b"]


@pytest.mark.parametrize(
    ("plugin", "fault"),
    [
        (Offering("fs.read"), r"it offers 'fs\.read', but owns x\.\*"),
        (Offering("xs.read"), r"it offers 'xs\.read', but owns x\.\*"),
        (Sharing("x.b"), r"it offers 'x\.b', but owns shared\.\* and deeper\.still\.\*"),
        (Sharing("deeper.b"), "it offers 'deeper.b', but owns"),
    ],
)
def test_a_name_of_a_namespace_that_is_not_the_plugins_is_refused(
    plugin: Offering, fault: str
) -> None:
    with pytest.raises(PluginError, match=f"'x': {fault}"):
        load_plugins({"x": plugin})


@pytest.mark.usefixtures("echo")
def test_a_plugin_cannot_claim_the_name_of_another_one(site: Path) -> None:
    """Not even where the other is not granted: its names would mean something else."""
    source = """
        from hl_echo.plugin import EchoPlugin

        class Plugin(EchoPlugin):
            namespaces = ("other", "echo")
    """
    install(site, "acme-echo", "other", source)
    fault = r"'other' \(acme-echo 1\.0\): it claims .* 'echo' \(hl-echo 0\.1\.0\)"
    with pytest.raises(PluginError, match=fault):
        load_plugins({"other": {}})


@pytest.mark.parametrize("name", ["plain", "rpc.x", ""])
def test_a_malformed_name_names_the_plugin(name: str) -> None:
    with pytest.raises(PluginError, match=r"'x': .* is no host-function name"):
        load_plugins({"x": Offering(name)})


def test_host_functions_that_fail_name_the_plugin_and_everyone_is_closed() -> None:
    diary: list[str] = []
    failing = Recorder("b", diary, frozenset({"host_functions"}))
    with pytest.raises(PluginError, match="'b': OSError: b cannot"):
        load_plugins({"a": Recorder("a", diary), "b": failing})
    assert diary[-2:] == ["b.closed", "a.closed"]


def test_no_plugins_make_an_empty_table() -> None:
    assert len(PluginSet().table) == 0


# ---- hooks -------------------------------------------------------------------------------------


def test_plugins_explain_what_they_grant_and_who_fails_to_is_named() -> None:
    """A plugin without the hook has nothing to say."""
    plugins = load_plugins({"a": Recorder("x"), "b": Offering(), "c": Recorder("y")})
    assert plugins.explain() == ["a: allow x", "a: and more", "c: allow y", "c: and more"]
    failing = load_plugins({"a": Recorder("x", fails=frozenset({"explain"}))})
    with pytest.raises(PluginError, match=r"'a': OSError: x cannot do explain"):
        failing.explain()


def test_hooks_are_called_in_order_and_the_last_two_in_reverse() -> None:
    diary: list[str] = []
    plugins = load_plugins({"a": Recorder("a", diary), "b": Recorder("b", diary)})
    token = SnapshotToken()
    plugins.state_entered(STATE)
    plugins.snapshot_taken(token)
    plugins.snapshot_restored(token)
    plugins.state_left(STATE)
    plugins.closed()
    assert diary == [
        *("a.host_functions", "b.host_functions"),
        *("a.state_entered", "b.state_entered"),
        *("a.snapshot_taken", "b.snapshot_taken"),
        *("a.snapshot_restored", "b.snapshot_restored"),
        *("b.state_left", "a.state_left"),
        *("b.closed", "a.closed"),
    ]


@pytest.mark.parametrize("hook", ["state_entered", "state_left", "closed"])
def test_a_failing_hook_is_named_and_the_others_are_still_called(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    diary: list[str] = []
    fails = frozenset({hook})
    plugins = load_plugins({name: Recorder(name, diary, fails) for name in "abc"})
    del diary[:]
    first = "a" if hook == "state_entered" else "c"
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(PluginError, match=f"'{first}': OSError: {first} cannot do"),
    ):
        getattr(plugins, hook)(*[] if hook == "closed" else [STATE])
    assert len(diary) == 3
    assert len(caplog.records) == 2


@pytest.mark.usefixtures("echo")
def test_a_plugin_stores_its_part_of_a_snapshot() -> None:
    plugins = load_plugins({"echo": {}})
    token = SnapshotToken()
    plugins.state_entered(STATE)
    plugins.snapshot_taken(token)
    plugins.state_left(STATE)
    plugins.snapshot_restored(token)
    assert token.plugin_state == {"echo": 2}
    echo: Any = plugins.instances["echo"]
    assert echo.diary == ["entered ready", "snapshot"]
