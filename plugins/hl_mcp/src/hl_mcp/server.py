"""The server: three tools over one sandbox."""

from __future__ import annotations

from collections.abc import Callable

from anyio import to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from hyperlight_core import HyperlightError, RunResult, Sandbox

__all__ = ["RunReport", "make_server"]

#: One more byte than may be read tells whether there is more.
_READ = """
def _read():
    with open({path!r}, "rb") as file:
        content = file.read({size} + 1)
    import sys
    sys.stdout.write(content[:{size}].decode(errors="replace"))
    sys.exit(3 if len(content) > {size} else 0)
_read()
"""
_CUT_OFF = 3


class RunReport(BaseModel):
    """What a run printed, and what it ended with."""

    stdout: str
    stderr: str
    exit_code: int


def make_server(sandbox: Sandbox, *, file_size: int) -> MCPServer:
    """A server for the sandbox, which stays the caller's.

    Args:
        sandbox: of the guest "python".
        file_size: bytes that `read_file` gives at most.
    """
    server: MCPServer = MCPServer("hyperlight", instructions="Python in an isolated sandbox.")

    @server.tool()
    async def run_python(code: str) -> RunReport:
        """Run Python code; names that it defines are there in the next run."""
        result = await _in_thread(sandbox, lambda: sandbox.run(code))
        return RunReport(stdout=result.stdout, stderr=result.stderr, exit_code=result.exit_code)

    @server.tool()
    async def read_file(path: str) -> str:
        """The text of a file in the sandbox."""
        code = _READ.format(path=path, size=file_size)
        result = await _in_thread(sandbox, lambda: sandbox.run(code))
        if result.exit_code not in (0, _CUT_OFF):
            raise ToolError(result.stderr.strip().rpartition("\n")[2] or "it cannot be read")
        cut = f"\n[only the first {file_size} bytes]" if result.exit_code == _CUT_OFF else ""
        return result.stdout + cut

    @server.tool()
    async def reset() -> str:
        """Forget everything that earlier runs have left in the sandbox."""
        await to_thread.run_sync(sandbox.reset)
        return "nothing is left of earlier runs"

    return server


async def _in_thread(sandbox: Sandbox, work: Callable[[], RunResult]) -> RunResult:
    """Run something in the sandbox; after a breached limit or a crash, reset it."""

    def run() -> RunResult:
        try:
            result = work()
            if sandbox.status == "poisoned":
                sandbox.reset()
        except HyperlightError as error:
            note = ""
            if sandbox.status == "poisoned":
                sandbox.reset()
                note = "; the sandbox was reset"
            raise ToolError(f"{type(error).__name__}: {error}{note}") from error
        return result

    return await to_thread.run_sync(run)
