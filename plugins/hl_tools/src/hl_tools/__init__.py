"""Grants Python callables to a sandbox as tools, checked against their annotations."""

from hl_tools.described import DescribedTool
from hl_tools.models import McpServer, ToolLimits, ToolsConfiguration
from hl_tools.plugin import ToolsPlugin

__all__ = ["DescribedTool", "McpServer", "ToolLimits", "ToolsConfiguration", "ToolsPlugin"]
