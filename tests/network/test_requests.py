"""`hyperlight.http` and urllib in a guest meet hostile servers, and the limits of their grants."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.kvm

#: Prints how each attempt ends: the status, or the class of the error and what it says.
BEGIN = """
import errno, hyperlight
from urllib.request import Request, urlopen
def attempt(url, method="GET", **options):
    try:
        response = hyperlight.http.request(method, url, **options)
        print(response.status, len(response.content))
    except OSError as error:
        told = getattr(error, "data", {})
        print(errno.errorcode[error.errno], told.get("budget") or told.get("reason"))
def attempt_plainly(url, method="GET"):
    try:
        with urlopen(Request(url, method=method), timeout=20) as response:
            print(response.status, len(response.read()))
    except OSError as error:
        print(type(getattr(error, "reason", error)).__name__)
"""


@pytest.fixture
def ask(run: Any, online: Any) -> Any:
    """Runs code with `attempt` and `attempt_plainly` under a network configuration."""

    def ask(code: str, network: dict[str, Any], **values: object) -> list[str]:
        guest = online(**network)
        assert guest.run(BEGIN).stderr == ""
        return list(run(guest, code, **values))

    return ask


def _drip(connection: Any, stopping: Any) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not stopping.wait(0.05):
        connection.sendall(b".")


def test_a_dripping_server_is_given_up(ask: Any, serve: Any) -> None:
    servers: list[Any] = []
    servers.append(serve(lambda connection: _drip(connection, servers[0].stopping)))
    url = f"http://127.0.0.1:{servers[0].port}/"
    network = {"allow": url.rstrip("/"), "budgets": {"total_seconds": 0.5}}
    printed = ask("attempt(url); attempt_plainly(url)", network, url=url)
    assert printed == ["ETIMEDOUT total_seconds", "TimeoutError"]


def test_a_server_that_never_answers_is_given_up(ask: Any, black_hole: Any) -> None:
    url = f"http://127.0.0.1:{black_hole.port}"
    network = {"allow": url, "budgets": {"first_byte_seconds": 0.2, "idle_seconds": 0.3}}
    printed = ask("attempt(url); attempt_plainly(url)", network, url=url)
    assert printed == ["ETIMEDOUT first_byte_seconds", "TimeoutError"]


def test_a_redirect_to_a_metadata_service_is_refused(ask: Any, http_server: Any) -> None:
    """Whoever follows it: the host for `hyperlight.http`, the guest's own program for urllib."""
    server = http_server()
    server.redirect("/go", "http://169.254.169.254/latest/meta-data/")
    network = {"allow": ["all", server.url().rstrip("/")]}
    printed = ask("attempt(url); attempt_plainly(url)", network, url=server.url("/go"))
    assert printed == ["EACCES special address", "PermissionError"]
    assert [seen.target for seen in server.seen] == ["/go"] * 2


@pytest.mark.parametrize("rebinds", [False, True])
def test_a_rebinding_name_gains_nothing(
    ask: Any, http_server: Any, dns_stub: Any, rebinds: bool
) -> None:
    """Between two requests of one run; without rebinding, both are answered."""
    granted = http_server("127.0.0.2")
    dns_stub.answer("rebind.test", ["127.0.0.2"], ["127.0.0.1" if rebinds else "127.0.0.2"])
    url = f"http://rebind.test:{granted.port}"
    network = {"allow": f"{url} via 127.0.0.2", "nameservers": [dns_stub.server]}
    printed = ask("attempt(url); attempt(url, 'POST')", network, url=url)
    assert printed == ["200 0", "EACCES special address" if rebinds else "200 0"]


def test_paths_and_methods_stay_within_their_grant(ask: Any, http_server: Any) -> None:
    server = http_server()
    paths = ["/../", "/%2e%2e/", "/..%2f", "/%252e%252e/", "/..\\", "/..%5c", "/.%2E/", "/..;/"]
    outside = ["/V1", "/v1x", "/", "//v1", *(f"/v1{path}admin" for path in paths)]
    code = """
        attempt(origin + "/v1/inside")
        for path in outside:
            attempt(origin + path)
        attempt(origin + "/v1", "DELETE")
        attempt(origin + "/v1/secret")
        attempt_plainly(origin + "/v1/inside")
    """
    origin = server.url().rstrip("/")
    network = {"allow": f"GET {origin}/v1", "deny": f"{origin}/v1/secret"}
    printed = ask(code, network, origin=origin, outside=outside)
    refused = [line for line in printed if line.startswith("EACCES")]
    assert len(refused) == len(outside) + 2
    assert [printed[0], printed[-2], printed[-1]] == [
        "200 0",
        "EACCES denied",
        "PermissionError",
    ]
    assert [seen.target for seen in server.seen] == ["/v1/inside"]


def test_sizes_and_numbers_stay_within_their_budgets(ask: Any, nginx: Any) -> None:
    (nginx.files / "big").write_bytes(bytes(5001))
    (nginx.files / "fits").write_bytes(bytes(5000))
    origin = f"http://127.0.0.1:{nginx.http}"
    code = """
        attempt(origin + "/fits")
        attempt(origin + "/big")
        attempt(origin + "/big", "POST", data=bytes(101))
        attempt(origin + "/big", "POST", data=[bytes(60), bytes(60)])
        open_ones = [hyperlight.http.get(origin + "/large") for _ in range(2)]
        attempt(origin + "/fits")
        open_ones.pop().close()
        attempt(origin + "/fits")
    """
    (nginx.files / "large").write_bytes(bytes(8 << 20))
    budgets = {"response_bytes": 5000, "request_bytes": 100, "requests_in_flight": 2}
    printed = ask(code, {"allow": origin, "budgets": budgets}, origin=origin)
    assert printed == [
        "200 5000",
        "EDQUOT response_bytes",
        "EDQUOT request_bytes",
        "EDQUOT request_bytes",
        "EMFILE requests_in_flight",
        "200 5000",
    ]


def test_one_connection_serves_request_after_request(ask: Any, nginx: Any) -> None:
    origin = f"http://127.0.0.1:{nginx.http}"
    code = "[attempt(origin + '/echo') for _ in range(5)]"
    network = {"allow": origin, "budgets": {"connections": 1}}
    assert len(set(ask(code, network, origin=origin))) == 1


def test_a_credential_is_used_and_never_seen(ask: Any, http_server: Any) -> None:
    """Not in an answer, an error or what the host says of itself; the server gets it."""
    server = http_server()
    server.redirect("/go", "http://127.0.0.1:1/")
    code = """
        print(vars(hyperlight.http.get(url, credential="key")))
        for target, name in ((url + "go", "key"), (url, "other"), (url, None)):
            attempt(target, credential=name)
            try:
                hyperlight.http.get(target, credential=name)
            except hyperlight.HostError as error:
                print(vars(error), error)
        print(hyperlight.call("rpc.discover"))
    """
    secret = {"rules": server.url().rstrip("/"), "value": "s3cr3t", "prefix": "Bearer "}
    network = {"allow": server.url().rstrip("/"), "credentials": {"key": secret}}
    printed = ask(code, network, url=server.url())
    assert {"EACCES missing rule", "EACCES credential", "200 0"} < set(printed)
    assert "s3cr3t" not in str(printed)
    assert server.seen[0].header("authorization") == "Bearer s3cr3t"
