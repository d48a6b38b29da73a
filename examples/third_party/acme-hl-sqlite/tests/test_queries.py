"""What a guest can read, and that it can do nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core.errors import CallLimitError, ConfigurationError, InvalidParamsError
from hyperlight_core.plugins import PluginSet, load_plugins
from hyperlight_core.testing import Answer, call_host_function

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"


@pytest.fixture
def query(plugins: PluginSet) -> Any:
    def run(sql: str, *parameters: Any) -> Answer:
        asked = {"sql": sql, "parameters": list(parameters)}
        return call_host_function(plugins.table, "sqlite.query", asked)

    return run


def test_a_query_gives_columns_and_rows(query: Any) -> None:
    answer = query("select id, price as p from orders where price > ?", 5)
    assert answer.result == {"columns": ["id", "p"], "rows": [[2, 7.5]], "complete": True}


def test_what_json_cannot_say_is_still_told(query: Any) -> None:
    answer = query("select picture, 9e999, null, 'é' from orders where id = 2")
    assert answer.result["rows"] == [["AP8=", None, None, "é"]]


def test_more_rows_than_granted_are_cut_off(query: Any) -> None:
    answer = query(
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 101) select i from n"
    )
    assert (len(answer.result["rows"]), answer.result["complete"]) == (100, False)


@pytest.mark.parametrize(
    "sql",
    [
        "insert into orders values (3, 1, null)",
        "delete from orders",
        "drop table orders",
        "create temp table t (x)",
        "attach '/etc/passwd' as other",
        "pragma writable_schema = 1",
        "vacuum into '/tmp/copy.db'",
        "select load_extension('/tmp/evil.so')",
        "select name from customers",
        "select name from names",
        "select sql from sqlite_master",
        "select 1; select 2",
        "nonsense",
        "select \0",
        "select ?",
    ],
)
def test_everything_but_reading_what_is_granted_is_refused(
    query: Any, database: Path, sql: str
) -> None:
    before = database.read_bytes()
    answer = query(sql)
    assert answer.error["code"] == InvalidParamsError.code
    assert str(database) not in answer.error["message"]
    assert database.read_bytes() == before


def test_an_endless_query_ends(query: Any) -> None:
    began = time.monotonic()
    answer = query(ENDLESS)
    assert answer.error["code"] == CallLimitError.code
    assert time.monotonic() - began < 10


def test_a_huge_result_is_refused(query: Any) -> None:
    assert query("select hex(zeroblob(400000))").error["code"] == CallLimitError.code


def test_a_file_that_is_not_there_fails_the_sandbox(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sqlite"):
        load_plugins({"sqlite": {"file": tmp_path / "none.db"}})
    assert not (tmp_path / "none.db").exists()
