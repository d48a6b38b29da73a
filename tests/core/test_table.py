"""The host-function table as a mapping: what it grants, and narrower tables made of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import HostCall, Model, functions_of, host_function
from hyperlight_core.table import HostFunctionTable


class Nothing(Model):
    pass


class Plugin:
    @host_function("test.echo")
    def echo(self, request: Nothing) -> Nothing:
        """Say it again."""
        return request

    @host_function("test.fail")
    def fail(self, request: Nothing) -> Nothing:
        raise NotImplementedError

    @host_function("bulk.copy")
    def copy(self, request: Nothing, call: HostCall) -> Nothing:
        raise NotImplementedError


@pytest.fixture
def table() -> HostFunctionTable:
    return HostFunctionTable(
        replace(function, plugin="tester") for function in functions_of(Plugin())
    )


# ---- the mapping -------------------------------------------------------------------------------


def test_a_table_is_a_mapping_of_names_to_functions(table: HostFunctionTable) -> None:
    assert table["test.echo"].doc == "Say it again."
    assert len(table) == len(list(table)) == 3
    assert "test.nothing" not in table


def test_no_process_makes_tables_of_the_same_version() -> None:
    """A guest in a snapshot on disk would believe that it knows the functions within its reach."""
    program = "from hyperlight_core.table import HostFunctionTable as T; print(T().version)"
    made = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert made[0] != made[1]


def test_every_table_has_its_own_version(table: HostFunctionTable) -> None:
    assert HostFunctionTable(table.values()).version != table.version


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ((), set()),
        (("test.echo",), {"test.echo"}),
        (("bulk.*",), {"bulk.copy"}),
        (("bulk.*", "test.echo"), {"bulk.copy", "test.echo"}),
        ((lambda function: function.wants_call,), {"bulk.copy"}),
        ((lambda _: False,), set()),
        (("test.echo", lambda function: function.name == "test.fail"), {"test.echo", "test.fail"}),
    ],
    ids=["nothing", "name", "namespace", "both", "predicate", "no match", "name or predicate"],
)
def test_select_narrows_a_table(
    table: HostFunctionTable, wanted: tuple[Any, ...], names: set[str]
) -> None:
    narrow = table.select(*wanted)
    assert set(narrow) == names
    assert narrow.version != table.version


def test_selecting_everything_changes_nothing(table: HostFunctionTable) -> None:
    assert table.select("test.*", "bulk.*") is table


@pytest.mark.parametrize("pattern", ["test.ech", "tes.*", "*", "test.echo.*", "TEST.echo", ""])
def test_selecting_what_is_not_there_is_an_error(table: HostFunctionTable, pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="selects no host function; there is"):
        table.select(pattern)


def test_what_was_not_selected_is_gone_and_the_rest_unchanged(table: HostFunctionTable) -> None:
    narrow = table.select("bulk.*")
    assert "test.echo" not in narrow
    assert narrow["bulk.copy"] == table["bulk.copy"]


def test_one_name_from_two_plugins_names_both(table: HostFunctionTable) -> None:
    other = replace(table["test.echo"], plugin="other")
    with pytest.raises(ConfigurationError, match=r"'tester' and plugin 'other' offer 'test\.echo'"):
        HostFunctionTable([*table.values(), other])


@pytest.mark.parametrize(
    "name", ["", "echo", ".echo", "test.", "te st.echo", "rpc.discover", "a..b", "a.\n", "x." * 200]
)
def test_a_malformed_name_is_an_error(table: HostFunctionTable, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no host-function name"):
        HostFunctionTable([replace(table["test.echo"], name=name)])
