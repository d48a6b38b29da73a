"""Credentials: which ones go with a request, and their values, which never leave the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hl_net.audit import Audit
from hl_net.configuration import Credential, NetConfiguration
from hl_net.headers import is_header_value, without
from hl_net.policy import Decision, Policy
from hl_net.urls import Url
from hyperlight_core.errors import DeniedError, HostFunctionError

__all__ = ["Credentials", "Grant"]


@dataclass(frozen=True)
class Grant:
    """The credentials that go with one request; shows names only.

    Attributes:
        names: of the credentials.
        headers: that carry them.
    """

    names: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def added_to(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The guest's headers, replaced where they have the name of a credential's."""
        if not self.headers:
            return headers
        names = [name.lower() for name, _ in self.headers]
        return [*without(headers, *names), *self.headers]


_NOTHING = Grant()


class Credentials:
    """The credentials of one configuration."""

    def __init__(self, credentials: Mapping[str, Credential], audit: Audit) -> None:
        self._audit = audit
        self._credentials = {
            name: (credential, Policy(NetConfiguration(allow=credential.rules)))
            for name, credential in credentials.items()
        }

    def grant(self, wanted: str | None, method: str, url: Url) -> Grant:
        """What goes with a request: the credential it names, and the automatic ones.

        Raises:
            DeniedError: the named one does not exist or is not for this request.
            HostFunctionError: a value could not be had.
        """
        if wanted is None and not self._credentials:
            return _NOTHING
        names = [] if wanted is None else [self._check(wanted, method, url)]
        taken = {self._credentials[name][0].header.lower() for name in names}
        for name, (credential, policy) in self._credentials.items():
            free = credential.automatic and credential.header.lower() not in taken
            if free and policy.request(method, url).allowed:
                names.append(name)
                taken.add(credential.header.lower())
        return Grant(tuple(names), tuple(self._header(name) for name in names))

    def _check(self, name: str, method: str, url: Url) -> str:
        if name not in self._credentials:
            self._refused(ascii(name), "", "credential")
            raise DeniedError("no such credential", data={"rule": "", "reason": "credential"})
        decision = self._credentials[name][1].request(method, url)
        if not decision.allowed:
            self._refused(f"{name} for {decision.target}", decision.rule, "credential")
            message = f"the credential {name} is not for {decision.target}"
            raise DeniedError(message, data={"rule": decision.rule, "reason": "credential"})
        return name

    def _refused(self, target: str, rule: str, reason: str) -> None:
        self._audit.record(Decision(False, "credential", target, rule, reason))

    def _header(self, name: str) -> tuple[str, str]:
        """The header of one credential; nothing of a failure but its type is told to anybody."""
        credential = self._credentials[name][0]
        try:
            value = credential.resolve()
            if isinstance(value, str) and is_header_value(value):
                return credential.header, value
            problem = "its value is no header value"
        except Exception as error:  # noqa: BLE001 (whatever a resolver raises)
            problem = type(error).__name__
        self._refused(name, "", f"not available: {problem}")
        raise HostFunctionError(f"the credential {name} is not available", errno="EACCES")
