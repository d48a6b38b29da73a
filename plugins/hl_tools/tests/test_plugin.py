"""The plugin: how it is found, configured, and reached from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import importlib_metadata
import pytest
from hl_tools import ToolLimits, ToolsConfiguration, ToolsPlugin
from pydantic import ValidationError

from hyperlight_core.errors import ConfigurationError
from hyperlight_core.plugins import load_plugins


def lookup(sku: str) -> str:
    """Look something up."""
    return sku


def configured(**configuration: Any) -> ToolsPlugin:
    """A plugin with this configuration."""
    return ToolsPlugin(ToolsConfiguration(**configuration))


def names(plugin: ToolsPlugin) -> set[str]:
    """What it offers."""
    return {function.name for function in plugin.host_functions()}


def test_the_entry_point_resolves_to_the_plugin() -> None:
    (point,) = importlib_metadata.entry_points(group="hyperlight", name="tools")
    assert point.load() is ToolsPlugin


def test_it_is_loaded_by_name_with_a_plain_configuration() -> None:
    plugins = load_plugins({"tools": {"functions": {"find": lookup}}})
    assert set(plugins.table) == {"tools.find", "tools.list"}
    assert plugins.table["tools.find"].doc == "Look something up."
    plugins.closed()


def test_a_list_of_functions_takes_their_names() -> None:
    assert names(configured(functions=[lookup, sorted])) >= {"tools.lookup"}


def test_without_functions_there_is_only_the_list() -> None:
    assert names(configured()) == {"tools.list"}


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        ({"functions": [lambda: 1]}, "'<lambda>' is no tool name"),
        ({"functions": {"look up": lookup}}, "'look up' is no tool name"),
        ({"functions": {"": lookup}}, "'' is no tool name"),
        ({"functions": {"list": lookup}}, "a tool cannot be called 'list'"),
        ({"functions": {"lookup": 3}}, "Input should be callable"),
        ({"functions": [lookup, lookup]}, "two functions are called 'lookup'"),
        ({"functions": lookup}, "Input should be a valid dictionary"),
        ({"functions": {}, "limits": {"find": {}}}, "tools that are not granted: find"),
        ({"default_limits": {"timeout": 0}}, "greater than 0"),
        ({"default_limits": {"timeout": float("inf")}}, "finite"),
        ({"default_limits": {"concurrent": 0}}, "greater than or equal to 1"),
        ({"default_limits": {"retries": 1}}, "Extra inputs"),
        ({"tools": {}}, "Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_refused(configuration: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        ToolsConfiguration(**configuration)


def test_a_tool_that_cannot_be_checked_is_named() -> None:
    def variadic(*values: int) -> None:
        """Take anything."""

    with pytest.raises(ConfigurationError, match=r"'tools'.*: tool 'any': .*\*values"):
        load_plugins({"tools": {"functions": {"any": variadic}}})


def test_limits_are_those_of_the_tool_or_the_default() -> None:
    plugin = configured(
        functions={"a": lookup, "b": lookup},
        default_limits={"timeout": 1.0, "result_size": 5},
        limits={"b": ToolLimits(result_size=7)},
    )
    a, b = (function for function in plugin.host_functions() if function.name != "tools.list")
    assert (a.name, a.result_limit, a.blocking, a.wants_call) == ("tools.a", 5, True, True)
    assert (b.name, b.result_limit, b.blocking, b.wants_call) == ("tools.b", 7, False, False)


# ---- the command line --------------------------------------------------------------------------


def options(*values: str) -> dict[str, tuple[str, ...]]:
    """What the command hands over."""
    return {"--tool": values}


def test_the_option_names_functions_to_import() -> None:
    found = ToolsPlugin.configuration_from_options(options("root=math:sqrt", "join=os.path:join"))
    assert found is not None
    assert {name: function(9.0) for name, function in found["functions"].items() if name == "root"}
    assert set(found["functions"]) == {"root", "join"}


def test_without_the_option_nothing_is_granted() -> None:
    assert ToolsPlugin.configuration_from_options(options()) is None


def test_a_module_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_shop_tools.py").write_text("def buy(): return 'bought'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = ToolsPlugin.configuration_from_options(options("buy=my_shop_tools:buy"))
    assert found is not None
    assert found["functions"]["buy"]() == "bought"
    del sys.modules["my_shop_tools"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("math:sqrt", "is not NAME=MODULE:FUNCTION"),
        ("=math:sqrt", "is not NAME=MODULE:FUNCTION"),
        ("root=math.sqrt", "is not NAME=MODULE:FUNCTION"),
        ("root=no_such_module:f", "No module named 'no_such_module'"),
        ("root=math:no_such", "no attribute 'no_such'"),
        ("root=math:pi", "math:pi is not callable"),
        ("root=ma th:x", "invalid"),
    ],
)
def test_a_malformed_option_is_refused(value: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ToolsPlugin.configuration_from_options(options(value))


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two tools have the same name"):
        ToolsPlugin.configuration_from_options(options("a=math:sin", "a=math:cos"))


# ---- the package -------------------------------------------------------------------------------

PACKAGE = Path(__file__).parents[1]


@pytest.mark.parametrize("heading", ["Install", "Grant", "Use", "Limits", "Threat model"])
def test_the_readme_has_its_sections(heading: str) -> None:
    assert f"\n## {heading}\n" in (PACKAGE / "README.md").read_text()


@pytest.mark.parametrize("name", ["__init__.py", "plugin.py", "models.py", "py.typed"])
def test_the_package_has_the_usual_files(name: str) -> None:
    assert (PACKAGE / "src" / "hl_tools" / name).is_file()


def test_the_readmes_program_runs() -> None:
    """The first block of code of the README, up to the sandbox, is a valid configuration."""
    code = (PACKAGE / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(code.partition("with Sandbox")[0], scope)  # noqa: S102 - our own README
    plugins = load_plugins(scope["plugins"])
    assert "tools.lookup" in plugins.table
    plugins.closed()
