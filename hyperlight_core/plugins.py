"""Plugins: finds the installed ones, makes a sandbox's own instances, and calls their hooks.

Installed means available: nothing is imported before a sandbox's configuration names it, and only
that sandbox gets its functions. `HYPERLIGHT_PLUGINS`, a comma-separated list of names, limits what
is found; set but empty, nothing is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import cast

import importlib_metadata
import pluggy
from pydantic import BaseModel, ValidationError

from hyperlight_core.errors import ConfigurationError, PluginError, PluginNotInstalledError
from hyperlight_core.functions import HostFunction
from hyperlight_core.hookspecs import PROJECT, PluginClass, PluginHooks, SnapshotToken, StateInfo
from hyperlight_core.table import HostFunctionTable, check_name
from hyperlight_core.wire import describe

__all__ = ["VARIABLE", "InstalledPlugin", "PluginSet", "installed_plugins", "load_plugins"]

#: The environment variable that limits which plugins are found.
VARIABLE = "HYPERLIGHT_PLUGINS"

#: Plugins of this project, which may be recommended without having been seen.
_OWN = frozenset({"fs", "net", "tools"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InstalledPlugin:
    """A plugin that is installed, imported or not.

    Attributes:
        name: its entry point's, and the key of its configuration.
        distribution: name of the distribution it came with; "" for an instance given directly.
        version: that distribution's version.
    """

    name: str
    distribution: str = ""
    version: str = ""
    entry_point: importlib_metadata.EntryPoint | None = dataclasses.field(default=None, repr=False)

    def __str__(self) -> str:
        origin = f" ({self.distribution} {self.version})" if self.distribution else ""
        return f"plugin {self.name!r}{origin}"

    def error(self, message: str) -> PluginError:
        """A PluginError that names this plugin."""
        return PluginError(
            message, plugin=self.name, distribution=self.distribution, version=self.version
        )

    def load(self) -> type[PluginClass]:
        """Import the plugin and return its class.

        Raises:
            PluginError: the import fails, or what it names is no plugin class.
        """
        if self.entry_point is None:
            raise self.error("it was given as an instance and cannot be loaded")
        try:
            found = self.entry_point.load()
        except (Exception, SystemExit) as error:
            raise self.error(f"import failed: {type(error).__name__}: {error}") from error
        model = getattr(found, "configuration", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel) and callable(found)):
            raise self.error(f"{self.entry_point.value} has no `configuration`, a pydantic model")
        return cast("type[PluginClass]", found)

    def problem(self) -> PluginError | None:
        """Why it cannot be loaded, or None; imports the plugin."""
        try:
            self.load()
        except PluginError as error:
            return error
        return None


def installed_plugins() -> list[InstalledPlugin]:
    """The plugins that may be used, by name; imports none of them."""
    limit = os.environ.get(VARIABLE)
    allowed = None if limit is None else {name.strip() for name in limit.split(",")}
    return [
        plugin
        for plugin in _discovered(tuple(sys.path))
        if allowed is None or plugin.name in allowed
    ]


@functools.lru_cache(maxsize=1)
def _discovered(_path: tuple[str, ...]) -> tuple[InstalledPlugin, ...]:
    """Reads the metadata of everything installed, which takes milliseconds."""
    found = (
        InstalledPlugin(
            point.name,
            point.dist.name if point.dist else "",
            point.dist.version if point.dist else "",
            point,
        )
        for point in importlib_metadata.entry_points(group=PROJECT)
    )
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def _find(name: str) -> InstalledPlugin:
    found = [plugin for plugin in installed_plugins() if plugin.name == name]
    if not found:
        # It may have been installed since: look again before giving up.
        _discovered.cache_clear()
        found = [plugin for plugin in installed_plugins() if plugin.name == name]
    if not found:
        raise PluginNotInstalledError(_not_installed(name))
    if len(found) > 1:
        raise found[0].error(f"{found[1].distribution} {found[1].version} has the same name")
    return found[0]


def _not_installed(name: str) -> str:
    limit = os.environ.get(VARIABLE)
    note = "" if limit is None else f" ({VARIABLE}={limit!r} limits which are found)"
    if name in _OWN:
        return f"plugin {name!r} is not installed: pip install hl-{name}{note}"
    there = ", ".join(plugin.name for plugin in installed_plugins()) or "none"
    return f"plugin {name!r} is not installed; installed: {there}{note}"


class _Manager(pluggy.PluginManager):
    """Looks at public names only, which saves most of the time of making a sandbox's plugins."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        options = None if name.startswith("_") else super().parse_hookimpl_opts(plugin, name)
        if options is not None and (options["wrapper"] or options["hookwrapper"]):
            raise pluggy.PluginValidationError(
                plugin, f"{name} is a wrapper: no plugin wraps others"
            )
        return options

    def parse_hookspec_opts(
        self, module_or_class: ModuleType | type, name: str
    ) -> pluggy.HookspecOpts | None:
        return None if name.startswith("_") else super().parse_hookspec_opts(module_or_class, name)


class PluginSet:
    """The plugin instances of one sandbox, and the table of what they offer.

    The public methods call the hook of their name in every plugin that has it, in the order of the
    configuration; `state_left` and `closed` in the reverse order. Every plugin is called, even
    after another one's hook has failed; then the first failure is raised as a PluginError that
    names its plugin, and further ones are logged.

    Attributes:
        table: every host function of every plugin.
        instances: the plugin objects by name.

    Args:
        plugins: each plugin with the instance made of it; may be a generator that makes them.

    Raises:
        PluginError: an instance has a hook that does not exist, its `host_functions` fails, or a
            name it offers is malformed, taken or of a namespace it does not own. The instances so
            far have been `closed` then, as after any other exception.
    """

    def __init__(self, plugins: Iterable[tuple[InstalledPlugin, object]] = ()) -> None:
        self.instances: dict[str, object] = {}
        self._plugins: list[InstalledPlugin] = []
        self._hooks: dict[str, list[tuple[InstalledPlugin, pluggy.HookImpl]]] = {}
        try:
            for plugin, instance in plugins:
                self._register(plugin, instance)
            self.table = HostFunctionTable(self._offered())
        except BaseException:
            self._close_quietly()
            raise

    def explain(self) -> list[str]:
        """What the plugins grant: lines for people, each with the plugin's name before it."""
        lines = []
        for plugin, impl in self._hooked("explain"):
            with _blaming(plugin):
                lines += [
                    f"{plugin.name}: {line}" for line in cast("Iterable[str]", impl.function())
                ]
        return lines

    def state_entered(self, state: StateInfo) -> None:
        """The guest is about to run in `state`."""
        self._call(self._hooked("state_entered"), state=state)

    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        """A snapshot is being taken; each plugin stores its part in it."""
        self._call(self._hooked("snapshot_taken"), snapshot=snapshot)

    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        """The guest went back to `snapshot`."""
        self._call(self._hooked("snapshot_restored"), snapshot=snapshot)

    def state_left(self, state: StateInfo) -> None:
        """The guest runs no more in `state`."""
        self._call(reversed(self._hooked("state_left")), state=state)

    def closed(self) -> None:
        """The sandbox is closed."""
        self._call(reversed(self._hooked("closed")))

    @functools.cached_property
    def _manager(self) -> _Manager:
        """Made for the first plugin: a sandbox without any is made in half the time."""
        manager = _Manager(PROJECT)
        manager.add_hookspecs(PluginHooks)
        return manager

    def _register(self, plugin: InstalledPlugin, instance: object) -> None:
        self._plugins.append(plugin)
        self.instances[plugin.name] = instance
        try:
            self._manager.register(instance, plugin.name)
            self._manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            raise plugin.error(str(error)) from error

    def _hooked(self, hook: str) -> list[tuple[InstalledPlugin, pluggy.HookImpl]]:
        """The plugins that have `hook`, in order."""
        hooked = self._hooks.get(hook) if self._plugins else []
        if hooked is None:
            found = {
                impl.plugin_name: impl for impl in getattr(self._manager.hook, hook).get_hookimpls()
            }
            hooked = [
                (plugin, found[plugin.name]) for plugin in self._plugins if plugin.name in found
            ]
            self._hooks[hook] = hooked
        return hooked

    @staticmethod
    def _call(
        hooked: Iterable[tuple[InstalledPlugin, pluggy.HookImpl]], **arguments: object
    ) -> None:
        # One by one rather than through pluggy's hook call, which stops at the first exception.
        failure: PluginError | None = None
        for plugin, impl in hooked:
            try:
                impl.function(*[arguments[name] for name in impl.argnames])
            except Exception as error:  # noqa: BLE001 (whatever a plugin raises)
                if failure is not None:
                    _log.exception("%s failed", plugin)
                    continue
                failure = plugin.error(f"{type(error).__name__}: {error}")
                failure.__cause__ = error
        if failure is not None:
            raise failure

    def _offered(self) -> Iterator[HostFunction]:
        owners: dict[str, InstalledPlugin] = {}
        for plugin, impl in self._hooked("host_functions"):
            namespaces = _namespaces(plugin, self.instances[plugin.name])
            for function in _functions_of(plugin, impl):
                if not function.name.startswith(namespaces):
                    owned = " and ".join(f"{namespace}*" for namespace in namespaces)
                    raise plugin.error(f"it offers {function.name!r}, but owns {owned}")
                if function.name in owners:
                    owner = owners[function.name]
                    raise plugin.error(f"it offers {function.name!r}, and so does {owner}")
                owners[function.name] = plugin
                yield function

    def _close_quietly(self) -> None:
        try:
            self.closed()
        except PluginError:
            _log.exception("closing after a failed start")


def _namespaces(plugin: InstalledPlugin, instance: object) -> tuple[str, ...]:
    """What the names a plugin offers may begin with, each with its dot."""
    declared = getattr(instance, "namespaces", (plugin.name,))
    for other in installed_plugins():
        if other.name in declared and other.name != plugin.name:
            raise plugin.error(f"it claims the namespace {other.name!r}, which is that of {other}")
    return tuple(f"{namespace}." for namespace in declared)


def _functions_of(plugin: InstalledPlugin, impl: pluggy.HookImpl) -> list[HostFunction]:
    with _blaming(plugin):
        found = cast("Iterable[HostFunction]", impl.function())
        offered = [dataclasses.replace(function, plugin=plugin.name) for function in found]
        for function in offered:
            check_name(function.name)
    return offered


def load_plugins(configurations: Mapping[str, object]) -> PluginSet:
    """Make a sandbox's plugins.

    Args:
        configurations: for each plugin by name its configuration, a mapping or an instance of its
            configuration model; or an instance of a plugin class, used as it is.

    Raises:
        PluginNotInstalledError: a name that no installed plugin has.
        PluginError: a plugin that cannot be imported or started.
        ConfigurationError: a configuration its plugin's model refuses.
    """
    return PluginSet(_make(name, value) for name, value in configurations.items())


def _make(name: str, configuration: object) -> tuple[InstalledPlugin, object]:
    if type(configuration).__module__ == "builtins" and not isinstance(configuration, Mapping):
        raise ConfigurationError(
            f"plugins[{name!r}] must be a mapping, not {type(configuration).__name__}"
        )
    if not isinstance(configuration, (Mapping, BaseModel)):
        return InstalledPlugin(name), configuration
    plugin = _find(name)
    plugin_class = plugin.load()
    with _blaming(plugin):
        try:
            checked = plugin_class.configuration.model_validate(configuration)
        except ValidationError as error:
            fault = describe(error)
        else:
            return plugin, plugin_class(checked)
    # Not from the ValidationError, which shows the values: a configuration may hold a secret.
    raise ConfigurationError(f"plugins[{name!r}]: {fault}")


@contextlib.contextmanager
def _blaming(plugin: InstalledPlugin) -> Iterator[None]:
    """Turn what a plugin's code raises into a PluginError."""
    try:
        yield
    except ConfigurationError as error:
        raise plugin.error(str(error)) from error
    except Exception as error:
        raise plugin.error(f"{type(error).__name__}: {error}") from error
