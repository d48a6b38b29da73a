"""The plugin as core sees it: entry point, functions, options; and the record of decisions."""

from __future__ import annotations

import logging
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hl_net import NetConfiguration
from hl_net.audit import BURST
from hl_net.plugin import NetPlugin

from hyperlight_core.hookspecs import SnapshotToken
from hyperlight_core.plugins import load_plugins

README = Path(__file__).parents[1] / "README.md"


def test_entry_point_names_the_plugin() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'net = "hl_net.plugin:NetPlugin"' in text
    assert EntryPoint("net", "hl_net.plugin:NetPlugin", "hyperlight").load() is NetPlugin


def test_every_function_is_in_the_plugins_namespace() -> None:
    functions = list(NetPlugin(NetConfiguration()).host_functions())
    assert len(functions) == 20
    assert all(function.name.startswith("net.") and function.doc for function in functions)


def test_every_function_is_documented_with_its_parameters_and_results() -> None:
    lines = README.read_text().splitlines()
    for function in NetPlugin(NetConfiguration()).host_functions():
        row = next(line for line in lines if line.startswith(f"| `{function.name}`"))
        for field in [*function.request.model_fields, *function.response.model_fields]:
            assert f"`{field}" in row or f"{field}" in row, (function.name, field)


def test_core_takes_the_plugin_and_calls_its_hooks() -> None:
    plugins = load_plugins({"net": NetPlugin(NetConfiguration())})
    token = SnapshotToken()
    plugins.snapshot_taken(token)
    plugins.snapshot_restored(token)
    plugins.closed()
    assert "net.request" in plugins.table
    assert list(token.plugin_state) == ["net"]


def test_rules_are_explained() -> None:
    """The secret of a credential is not among them."""
    configuration = {
        "allow": ["GET https://a.example/v1", "udp://[192.0.2.0/24]:53"],
        "deny": "https://a.example/v1/admin",
        "listen": [8080],
        "credentials": {"key": {"rules": "https://a.example", "value": "s3cret"}},
    }
    assert load_plugins({"net": configuration}).explain() == [
        "net: deny https://a.example/v1/admin",
        "net: allow GET https://a.example/v1",
        "net: allow udp://[192.0.2.0/24]:53",
        "net: listen tcp://8080",
        "net: credential key for https://a.example",
    ]


def test_functions_that_wait_are_marked() -> None:
    functions = NetPlugin(NetConfiguration()).host_functions()
    assert {function.name for function in functions if function.blocking} == {
        "net.request",
        "net.request_write",
        "net.response",
        "net.response_read",
        "net.poll",
        "net.resolve",
        "net.dns",
    }


def test_options_become_a_configuration() -> None:
    options = {"--allow": ("https://a.example/v1", "tcp://b.example:22")}
    found = NetPlugin.configuration_from_options(options)
    assert NetConfiguration.model_validate(found).explain() == [
        "allow https://a.example/v1",
        "allow tcp://b.example:22",
    ]
    assert NetPlugin.configuration_from_options({"--allow": ()}) is None
    assert NetPlugin.configuration_from_options({}) is None


def test_faulty_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"'a\.example'"):
        NetPlugin.configuration_from_options({"--allow": ("a.example",)})


def test_option_all_is_written_out() -> None:
    found = NetPlugin.configuration_from_options({"--allow": ("all",)})
    assert NetConfiguration.model_validate(found).allow == NetConfiguration(allow="all").allow  # type: ignore[arg-type]


def test_authority_that_is_no_certificate_shows_at_once(tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.pem"
    faulty.write_text("nothing")
    with pytest.raises(OSError, match=r".+"):
        NetPlugin(NetConfiguration(authorities=(faulty,)))


def test_every_decision_is_one_record(
    make_guest: Any, echo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hl_net.policy")
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}", listen=[0])
    guest.connect("127.0.0.1", echo.port)
    guest.refused("net.connect", handle=guest.socket(), address="127.0.0.1", port=1)
    guest.refused("net.resolve", name="a.test")
    guest.refused("net.request", method="GET", url="http://a.test/x?token=s3cret")
    guest.refused("net.request", method="GET", url="http://user@a.test/\n?token=s3cret")
    guest.refused("net.bind", handle=guest.socket(), address="127.0.0.1", port=1)
    decisions: list[dict[str, Any]] = [vars(record)["hl_net"] for record in caplog.records]
    found = [(entry["action"], entry["allowed"], entry["reason"]) for entry in decisions]
    assert found == [
        ("connect", True, "granted"),
        ("connect", False, "special address"),
        ("resolve", False, "missing rule"),
        ("request", False, "missing rule"),
        ("request", False, decisions[4]["reason"]),
        ("listen", False, "missing rule"),
    ]
    assert decisions[4]["reason"].startswith("malformed")
    assert "s3cret" not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda guest: guest.refused("net.resolve", name="a.test"),
        lambda guest: guest.refused("net.request", method="GET", url="http://a.test/"),
        lambda guest: guest.refused("net.request", method="GET", url="http://user@a.test/"),
        lambda guest: guest.refused(
            "net.request", method="GET", url="http://b.test/", credential="missing"
        ),
    ],
    ids=["name", "request", "malformed", "credential"],
)
def test_flood_of_refusals_is_counted(
    make_guest: Any, caplog: pytest.LogCaptureFixture, attempt: Any
) -> None:
    """Of each sandbox: another one's refusals are told all the same."""
    quiet, flooding = make_guest(), make_guest(allow="http://b.test")
    begun = time.monotonic()
    for _ in range(BURST * 3):
        attempt(flooding)
    flooding.close()
    seconds = time.monotonic() - begun
    quiet.refused("net.resolve", name="other.test")
    *found, other = [vars(record)["hl_net"] for record in caplog.records]
    written = sum("target" in record for record in found)
    assert BURST <= written <= BURST + seconds
    assert written + sum(record["left_out"] for record in found) == BURST * 3
    assert other["target"] == "other.test"


def test_records_are_short(make_guest: Any, caplog: pytest.LogCaptureFixture) -> None:
    guest = make_guest()
    guest.refused("net.request", method="GET", url=f"http://a.test/{'x' * 8000}")
    assert len(str(vars(caplog.records[0])["hl_net"])) < 1500


def test_refusals_leave_room_for_what_is_allowed(
    make_guest: Any, caplog: pytest.LogCaptureFixture, echo: Any
) -> None:
    caplog.set_level(logging.INFO, "hl_net.policy")
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    for _ in range(BURST * 2):
        guest.refused("net.resolve", name="a.test")
    guest.connect("127.0.0.1", echo.port)
    assert vars(caplog.records[-1])["hl_net"]["allowed"]
