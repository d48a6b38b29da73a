"""Grants Python callables to a sandbox as tools, checked against their annotations."""

from hl_tools.models import ToolLimits, ToolsConfiguration
from hl_tools.plugin import ToolsPlugin

__all__ = ["ToolLimits", "ToolsConfiguration", "ToolsPlugin"]
