"""The network: requests and transfers of a guest, beside the same from the host, to one nginx."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from floors import floors, native_python
from measure import Result

from hyperlight_core import Sandbox

SIZE = 64 << 20
NGINX = """
pid {folder}/pid; error_log {folder}/error.log; {user}
events {{ }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""
#: What host and guest both run; prints microseconds and GB/s as one JSON object.
WORK = """
import json, socket, time
from http.client import HTTPConnection
PORT, SIZE, HERE = {port}, {size}, "http://127.0.0.1:{port}"
connection = HTTPConnection("127.0.0.1", PORT)
def get():
    connection.request("GET", "/small")
    assert len(connection.getresponse().read()) == 1024
def transfer():
    connection.request("GET", "/large")
    response, left = connection.getresponse(), SIZE
    while left: left -= len(response.read(1 << 20))
buffer = bytearray(1 << 20)
def receive():
    with socket.create_connection(("127.0.0.1", PORT)) as plain:
        plain.sendall(b"GET /large HTTP/1.0\\r\\n\\r\\n")
        received = 0
        while size := plain.recv_into(buffer): received += size
    assert received > SIZE
{instead}
def seconds(work, rounds):
    taken = []
    for _ in range(rounds):
        began = time.perf_counter(); work(); taken.append(time.perf_counter() - began)
    return sorted(taken)
rate = lambda work: SIZE / seconds(work, 6)[0] / 1e9
print(json.dumps({{"get": seconds(get, 2000)[1000] * 1e6, "transfer": rate(transfer),
                  "receive": rate(receive)}}))
"""
#: In the guest, the same through `net.request`.
THROUGH_THE_HOST = """
import hyperlight
def get():
    assert len(hyperlight.http.get(HERE + "/small").content) == 1024
def transfer():
    assert sum(map(len, hyperlight.http.get(HERE + "/large"))) == SIZE
"""
LATENCY, RATE, TURNS = 1.5, 0.5, 3


def measure() -> Iterator[Result]:
    """A request's round trip, and a body on its way, through `net.request` and plain sockets."""
    exits = 2 * floors()["exit_ns"] / 1000
    with _nginx() as port:
        work = {"port": port, "size": SIZE}
        budgets = {"received_bytes": 1 << 40}
        network = {"allow": f"http://127.0.0.1:{port}", "budgets": budgets}
        same, own = (WORK.format(**work, instead=each) for each in ("", THROUGH_THE_HOST))
        with Sandbox(plugins={"net": network}, timeout=None) as sandbox:
            turns = [
                (json.loads(native_python(same)), _run(sandbox, same), _run(sandbox, own))
                for _ in range(TURNS)
            ]
    host, plain, through = map(_best, zip(*turns, strict=True))
    most = LATENCY * host["get"] + exits
    for name, found in (("net.request", through), ("http.client in the guest", plain)):
        yield Result(
            f"round trip, {name}",
            found["get"],
            "us",
            host["get"],
            "http.client outside",
            most if found is through else None,
            target_is_value=True,
        )
    yield _rate("64 MiB, net.request", through["transfer"], host["transfer"])
    yield _rate("64 MiB, http.client in the guest", plain["transfer"], host["transfer"])
    yield _rate("64 MiB, plain socket in the guest", plain["receive"], host["receive"])


def _rate(name: str, value: float, floor: float) -> Result:
    return Result(name, value, "GB/s", floor, "the same outside", RATE, higher_is_better=True)


def _best(found: Iterable[dict[str, float]]) -> dict[str, float]:
    """Of each measure the quietest turn: the machine is shared, and the next turn another one."""
    first, *others = found
    return {
        name: (min if name == "get" else max)(value, *(each[name] for each in others))
        for name, value in first.items()
    }


def _run(sandbox: Sandbox, code: str) -> dict[str, float]:
    result = sandbox.run(code)
    if result.exit_code:
        raise RuntimeError(result.stderr)
    found: dict[str, float] = json.loads(result.stdout)
    return found


@contextlib.contextmanager
def _nginx() -> Iterator[int]:
    """A server with two files; its port."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as found:
        folder, port = Path(name), found.getsockname()[1]
        found.close()
        folder.chmod(0o755)
        (folder / "small").write_bytes(bytes(1024))
        (folder / "large").write_bytes(bytes(SIZE))
        user = "user root;" if os.geteuid() == 0 else ""
        settings = NGINX.format(folder=folder, port=port, user=user)
        (folder / "nginx.conf").write_text(settings)
        # It comes back from the background once it listens.
        command = ["nginx", "-c", str(folder / "nginx.conf")]
        subprocess.run(command, check=True)
        try:
            yield port
        finally:
            subprocess.run([*command, "-s", "stop"], check=True)
