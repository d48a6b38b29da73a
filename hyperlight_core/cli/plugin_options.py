"""The options that installed plugins add to `hyperlight run` and `hyperlight exec`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from hyperlight_core.errors import PluginError
from hyperlight_core.hookspecs import CliOption, PluginClass
from hyperlight_core.plugins import InstalledPlugin, installed_plugins

__all__ = ["PluginOptionsCommand", "plugin_configurations"]

_VALUES = "hyperlight_core.plugin_options"


class PluginOptionsCommand(click.Command):
    """A command with the plugins' options behind its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then the plugins'."""
        own = super().get_params(ctx)
        taken = {flag: "hyperlight" for parameter in own for flag in parameter.opts}
        return [*own, *_plugin_options(taken)]


def _plugin_options(taken: dict[str, str]) -> Iterator[click.Option]:
    """Options of every plugin that loads; `taken` says whom each flag belongs to."""
    for plugin in installed_plugins():
        for option in getattr(_load(plugin), "cli_options", ()):
            if option.flag in taken:
                raise plugin.error(f"its option {option.flag} belongs to {taken[option.flag]}")
            taken[option.flag] = str(plugin)
            yield _click_option(plugin, option)


def _load(plugin: InstalledPlugin) -> type[PluginClass] | None:
    """The plugin's class; one that fails to load costs its own options, not the command."""
    try:
        return plugin.load()
    except PluginError:
        return None


def _click_option(plugin: InstalledPlugin, option: CliOption) -> click.Option:
    def store(ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> None:
        ctx.meta.setdefault(_VALUES, {}).setdefault(plugin.name, {})[option.flag] = values

    name = f"{plugin.name}_{option.flag.strip('-')}".replace("-", "_")
    return click.Option(
        [option.flag, name],
        metavar=option.metavar,
        help=f"{option.help} [{plugin.name}]",
        multiple=True,
        expose_value=False,
        callback=store,
    )


def plugin_configurations(ctx: click.Context) -> dict[str, dict[str, Any]]:
    """The configurations that the given options stand for, by plugin; others are not granted.

    Raises:
        click.UsageError: a plugin refuses the value of an option.
    """
    found = {}
    for plugin in installed_plugins():
        values = ctx.meta.get(_VALUES, {}).get(plugin.name)
        if values and any(values.values()):
            found[plugin.name] = _configuration(plugin, values)
    return found


def _configuration(plugin: InstalledPlugin, values: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    try:
        return plugin.load().configuration_from_options(values) or {}
    except ValueError as error:
        given = ", ".join(flag for flag, strings in values.items() if strings)
        raise click.UsageError(f"{given}: {error}") from error
