"""The pages for plugin authors say what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from hyperlight_core.functions import host_function
from hyperlight_core.hookspecs import PluginClass, PluginHooks

PAGE = (Path(__file__).parents[1] / "docs" / "plugins" / "hooks.md").read_text()
DOCUMENTED = re.findall(r"^### `(\w+)(\(.*)`$", PAGE, re.MULTILINE)
HOOKS = {
    name: str(inspect.signature(hook)).replace("'", "")
    for name, hook in vars(PluginHooks).items()
    if hasattr(hook, "hyperlight_spec")
}


def test_every_hook_is_documented_with_its_signature_and_in_order() -> None:
    assert HOOKS
    assert list(HOOKS.items()) == DOCUMENTED


@pytest.mark.parametrize("name", [*PluginClass.__annotations__, "configuration_from_options"])
def test_every_attribute_of_a_plugin_class_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGE


def test_the_arguments_of_the_mark_are_documented() -> None:
    found = inspect.signature(host_function).parameters.values()
    shown = [f"{p.name}={p.default!r}" for p in found if p.default is not p.empty]
    assert f"`@host_function(name, *, {', '.join(shown)})`" in PAGE
