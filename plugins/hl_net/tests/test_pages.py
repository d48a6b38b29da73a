"""README and SECURITY say what the code does, and name what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hl_net import Budgets, NetConfiguration
from hl_net.options import OPTIONS
from hl_net.plugin import NetPlugin

HERE = Path(__file__).parents[1]
README, SECURITY = (HERE / "README.md").read_text(), (HERE / "SECURITY.md").read_text()


def test_the_configuration_shown_is_one() -> None:
    """Its rules are told as they are written there."""
    block = re.search(r"^## Grant\n```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert block
    calls = [node for node in ast.walk(ast.parse(block[1])) if isinstance(node, ast.Call)]
    (plugins,) = [each.value for each in calls[0].keywords if each.arg == "plugins"]
    shown = ast.literal_eval(plugins)["net"]
    lines = list(NetPlugin(NetConfiguration.model_validate(shown)).explain())
    assert [f"allow {rule}" for rule in shown["allow"]] == lines[1:6]
    assert lines[0] == f"deny {shown['deny'][0]}"


def test_every_budget_is_listed_with_its_default() -> None:
    shown = dict(
        re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([\d,]+(?: [GM]iB)?) \|", README, re.MULTILINE)
    )
    found = {name: value for names, value in shown.items() for name in re.findall(r"\w+", names)}
    units = {"MiB": 1 << 20, "GiB": 1 << 30}
    numbers = {}
    for name, text in found.items():
        number, _, unit = text.partition(" ")
        numbers[name] = int(number.replace(",", "")) * units.get(unit, 1)
    assert numbers == Budgets().model_dump()


def test_every_option_is_listed() -> None:
    text = re.search(r"\*\*Options\*\*: (.*?);", README, re.DOTALL)
    assert text
    assert sorted(re.findall(r"\w+", text[1])) == sorted(OPTIONS)


def test_every_module_has_its_place_in_the_reading_order() -> None:
    modules = {path.name for path in (HERE / "src/hl_net").glob("*.py")} - {"__init__.py"}
    order = SECURITY.partition("## What to read")[2]
    assert sorted(re.findall(r"`(\w+\.py)`", order)) == sorted(modules)


def test_every_test_that_shows_a_promise_is_there() -> None:
    """Where the repository's root is not at hand, its tests are not, either."""
    root = HERE.parents[1] if (HERE.parents[1] / "tests/network").exists() else None
    named = set(re.findall(r"`(tests/[\w/.]+\.py)`", SECURITY))
    for path in named:
        if not path.startswith("tests/network/"):
            assert (HERE / path).exists(), path
        elif root:
            assert (root / path).exists(), path
    own = {str(path.relative_to(HERE)) for path in HERE.glob("tests/**/test_*.py")}
    assert own - named == {"tests/test_pages.py"}
