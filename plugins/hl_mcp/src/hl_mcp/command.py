"""The command `hl-mcp`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from hl_mcp.configuration import ServerConfiguration
from hl_mcp.server import make_server
from hyperlight_core import HyperlightError

__all__ = ["main"]


def main() -> int:
    """Serve until the client goes or a signal comes; the exit status."""
    parser = argparse.ArgumentParser(prog="hl-mcp", description="Serve a sandbox to models.")
    parser.add_argument("--config", type=Path, help="JSON file with grants and limits")
    parser.add_argument("--http", type=int, metavar="PORT", help="streamable HTTP on loopback")
    options = parser.parse_args()
    try:
        _serve(_configuration(options.config), options.http)
    except KeyboardInterrupt:
        return 130
    except (HyperlightError, OSError, ValidationError) as error:
        print(f"hl-mcp: {error}", file=sys.stderr)  # noqa: T201 (stdout belongs to the protocol)
        return 125
    return 0


def _configuration(path: Path | None) -> ServerConfiguration:
    text = b"{}" if path is None else path.read_bytes()
    return ServerConfiguration.model_validate_json(text)


def _serve(configuration: ServerConfiguration, port: int | None) -> None:
    with configuration.sandbox() as sandbox:
        server = make_server(sandbox, file_size=configuration.file_size)
        if port is None:
            server.run("stdio")
        else:
            server.run("streamable-http", host="127.0.0.1", port=port)
