"""Serves a hyperlight sandbox to models, as an MCP server."""

from hl_mcp.configuration import ServerConfiguration
from hl_mcp.server import make_server

__all__ = ["ServerConfiguration", "make_server"]
