"""The plugin: the network of one sandbox, under its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from hl_net.audit import Audit
from hl_net.budgets import Ledger
from hl_net.configuration import NetConfiguration
from hl_net.connector import Connector
from hl_net.guest_socket import Context
from hl_net.handles import Handles
from hl_net.http_client import HttpClient
from hl_net.http_functions import HttpFunctions
from hl_net.names import Names
from hl_net.on_disk import from_disk, to_disk
from hl_net.policy import Policy
from hl_net.pool import Pool
from hl_net.resolver import Resolver
from hl_net.rules import Rule, rules_from
from hl_net.socket_functions import SocketFunctions
from hyperlight_core.functions import HostFunction, functions_of
from hyperlight_core.hookspecs import CliOption, SnapshotToken, hookimpl

__all__ = ["NetPlugin"]

_NAME = "net"


class NetPlugin:
    """Offers the `net.*` host functions to one sandbox and keeps its connections."""

    configuration: ClassVar[type[NetConfiguration]] = NetConfiguration
    cli_options: ClassVar[tuple[CliOption, ...]] = (
        CliOption(
            "--allow", "URL", "Let the guest reach this, such as https://api.example.com/v1; or all"
        ),
    )

    def __init__(self, configuration: NetConfiguration) -> None:
        self._configuration, budgets = configuration, configuration.budgets
        policy, resolver = Policy(configuration), Resolver(configuration.nameservers)
        self._audit, ledger = Audit(), Ledger(budgets)
        names = Names(policy, resolver, budgets, self._audit)
        pool = Pool(budgets)
        connector = Connector(
            policy, resolver, ledger, configuration.authorities, pool, self._audit
        )
        self._context = Context(policy, names, ledger, budgets, self._audit)
        self._handles = Handles(budgets, pool)
        client = HttpClient(configuration, policy, connector, pool, self._audit)
        self._http = HttpFunctions(client, self._handles, ledger)
        self._sockets = SocketFunctions(self._context, self._handles)

    @staticmethod
    def configuration_from_options(options: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
        """A configuration from the values of `--allow`, or None if there are none.

        Raises:
            ValueError: a value is no rule.
        """
        rules = rules_from(options.get("--allow", ()))
        for rule in rules:
            Rule.model_validate(rule)
        return {"allow": rules} if rules else None

    @hookimpl
    def host_functions(self) -> Iterable[HostFunction]:
        """The functions for HTTP, sockets and names."""
        return [*functions_of(self._http), *functions_of(self._sockets)]

    @hookimpl
    def explain(self) -> list[str]:
        """The rules, in the order in which they count."""
        return self._configuration.explain()

    @hookimpl
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        """Remember which sockets and requests are open, and which names were resolved."""
        names = self._context.names.remembered()
        saved = snapshot.plugin_state[_NAME] = self._handles.save(names)
        snapshot.on_disk[_NAME] = to_disk(saved)

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        """Close everything; what was open at the snapshot reads as reset or listens again."""
        limit = self._configuration.budgets.open_handles
        saved = snapshot.plugin_state.get(_NAME) or from_disk(snapshot.on_disk.get(_NAME), limit)
        self._context.names.restore(saved.names)
        self._handles.restore(saved, self._context)

    @hookimpl
    def closed(self) -> None:
        """Close every socket and request."""
        self._handles.close_all()
        self._audit.close()
