"""The server, as the SDK's own client sees it, over stdio and over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

pytestmark = pytest.mark.kvm

Talk = Callable[[Callable[[Client], Awaitable[None]]], None]
COMMAND = [sys.executable, "-c", "import sys; from hl_mcp.command import main; sys.exit(main())"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sandbox.json"
    limits = {"timeout": 1.5, "output_limit": 4096, "file_size": 10}
    path.write_text(json.dumps({"memory": "256MiB", **limits}))
    return path


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, config: Path) -> Iterator[Any]:
    """What a client connects to."""
    command = [*COMMAND, "--config", str(config)]
    if request.param == "stdio":
        yield StdioServerParameters(command=command[0], args=command[1:])
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command += ["--http", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "running on" in line:
                break
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        yield f"http://127.0.0.1:{port}/mcp"
        process.terminate()
        drain.join()


@pytest.fixture
def talk(server: Any) -> Talk:
    """Runs a conversation of a client with the server."""

    def run(conversation: Callable[[Client], Awaitable[None]]) -> None:
        async def main() -> None:
            async with Client(server) as client:
                await conversation(client)

        anyio.run(main)

    return run


def text(result: Any) -> str:
    return str(result.content[0].text)


def test_a_client_runs_code_reads_files_and_resets(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert sorted(tool.name for tool in tools) == ["read_file", "reset", "run_python"]
        code = "x = 20; open('/tmp/f', 'w').write('a' * 11); print(x + 1)"
        run = await client.call_tool("run_python", {"code": code})
        assert run.structured_content == {"stdout": "21\n", "stderr": "", "exit_code": 0}
        again = await client.call_tool("run_python", {"code": "print(x)"})
        assert (again.structured_content or {})["stdout"] == "20\n"
        assert text(await client.call_tool("read_file", {"path": "/tmp/f"})) == (
            "aaaaaaaaaa\n[only the first 10 bytes]"
        )
        await client.call_tool("reset", {})
        gone = await client.call_tool("run_python", {"code": "print(x)"})
        assert "NameError" in (gone.structured_content or {})["stderr"]
        missing = await client.call_tool("read_file", {"path": "/tmp/f"})
        assert missing.is_error
        assert "FileNotFoundError" in text(missing)

    talk(conversation)


def test_limits_hold_and_the_server_goes_on(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        for code, error in {
            "while True: pass": "SandboxTimeoutError",
            "print('x' * 5000)": "OutputExceededError",
            "import os; os._exit(3)": "",
            "raise SystemExit(4)": "",
        }.items():
            result = await client.call_tool("run_python", {"code": code})
            assert result.is_error == bool(error)
            if error:
                assert error in text(result)
                assert "the sandbox was reset" in text(result)
            again = await client.call_tool("run_python", {"code": "print(1)"})
            assert (again.structured_content or {})["stdout"] == "1\n"

    talk(conversation)


def test_a_wrong_configuration_is_one_line_and_a_status(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.json"
    path.write_text('{"plugins": {"nonsense": {}}}')
    command = [*COMMAND, "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("hl-mcp: plugin 'nonsense' is not installed")
