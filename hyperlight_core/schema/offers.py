"""Asks an installed plugin which host functions it has."""

from __future__ import annotations

import dataclasses

from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import HostFunction, functions_of
from hyperlight_core.plugins import InstalledPlugin, load_plugins

__all__ = ["offered"]


def offered(plugin: InstalledPlugin, configuration: object = None) -> list[HostFunction]:
    """What the plugin offers under `configuration`, or declares if it does not take that.

    A plugin that does not load has none.
    """
    try:
        started = load_plugins({plugin.name: {} if configuration is None else configuration})
    except ConfigurationError:
        return [] if plugin.problem() else _declared(plugin)
    try:
        return list(started.table.values())
    finally:
        started.closed()


def _declared(plugin: InstalledPlugin) -> list[HostFunction]:
    """The functions that a plugin's class declares, whatever the configuration."""
    cls = plugin.load()
    # Only asked what it declares, never called: it needs no configuration.
    unconfigured = cls.__new__(cls)
    return [
        dataclasses.replace(function, plugin=plugin.name) for function in functions_of(unconfigured)
    ]
