"""The committed schema and reference page of each plugin are those of its host functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core.cli.app import run_command
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.plugins import installed_plugins
from hyperlight_core.schema.compatibility import breaking_changes
from hyperlight_core.schema.offers import offered
from hyperlight_core.schema.reference import reference_page
from tests.core.metaschema import faults

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.parent.name for path in ROOT.glob("plugins/*/schema.json"))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param).removeprefix("hl_")


@pytest.fixture
def document(name: str) -> dict[str, Any]:
    """What the plugin offers now."""
    (plugin,) = [plugin for plugin in installed_plugins() if plugin.name == name]
    return openrpc_document(offered(plugin))


@pytest.fixture
def committed(name: str) -> dict[str, Any]:
    """What it offered when its schema was last written."""
    found: dict[str, Any] = json.loads((ROOT / f"plugins/hl_{name}/schema.json").read_text())
    return found


def test_every_plugin_with_host_functions_has_a_schema() -> None:
    own = {p.name for p in installed_plugins() if p.distribution.startswith("hl-")}
    assert {name.removeprefix("hl_") for name in NAMES} == own


def test_no_caller_is_broken_without_a_new_version(
    document: dict[str, Any], committed: dict[str, Any]
) -> None:
    assert breaking_changes(committed, document) == []


def test_the_schema_is_committed(
    name: str, document: dict[str, Any], committed: dict[str, Any]
) -> None:
    hint = f"run: hyperlight schema --lock plugins/hl_{name}/schema.json {name}"
    for part in ("methods", "components"):
        assert document[part] == committed[part], hint


def test_the_document_of_a_plugin_fits_the_meta_schema(document: dict[str, Any]) -> None:
    assert faults(document) == []


def test_the_printed_document_of_everything_fits_the_meta_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what only a configuration brings."""
    assert run_command(["schema", "--tool", "join=os.path:join"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert faults(document) == []
    names = {method["name"].partition(".")[0] for method in document["methods"]}
    assert names >= {"fs", "net", "tools"}


def test_the_reference_page_is_committed(name: str, document: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    hint = f"run: hyperlight schema --format markdown {name} > docs/reference/{name}.md"
    assert page == reference_page(document, name), hint
