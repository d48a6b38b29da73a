"""The configuration of one sandbox's network; whatever it does not grant is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from hl_net.addresses import parse_address
from hl_net.rules import DenyRule, ListenRule, Rule, rules_from
from hl_net.urls import parse_port

__all__ = ["Budgets", "Credential", "NetConfiguration"]

_HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$"  # RFC 9110, section 5.6.2
_MEBIBYTE = 1 << 20

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rules = Annotated[tuple[Rule, ...], BeforeValidator(rules_from)]


class _Configuration(BaseModel):
    # Validation errors do not show their input: it may hold a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Budgets(_Configuration):
    """How much a guest may use; a run is one `run` or `call` of the sandbox.

    Attributes:
        open_handles: sockets and requests that exist at once.
        connections: connections made or accepted in one run.
        requests_in_flight: HTTP requests whose response has not been read to its end.
        sent_bytes: bytes given to sockets in one run; for TLS on the host, before encryption.
        received_bytes: bytes taken from sockets in one run; likewise.
        request_bytes: size of one HTTP request's body.
        response_bytes: size of one HTTP response's body.
        redirects: hops that one HTTP request may follow.
        connect_seconds: time to resolve a name, connect and finish the TLS handshake.
        first_byte_seconds: time from the end of a request to the first byte of its response.
        idle_seconds: longest time without a byte on a connection.
        total_seconds: longest life of a connection.
    """

    open_handles: Count = 256
    connections: Count = 10_000
    requests_in_flight: Count = 16
    sent_bytes: Count = 1024 * _MEBIBYTE
    received_bytes: Count = 1024 * _MEBIBYTE
    request_bytes: Count = 256 * _MEBIBYTE
    response_bytes: Count = 256 * _MEBIBYTE
    redirects: Count = 5
    connect_seconds: Seconds = 10.0
    first_byte_seconds: Seconds = 30.0
    idle_seconds: Seconds = 60.0
    total_seconds: Seconds = 300.0


class Credential(_Configuration):
    """A secret header that the host adds to requests; its value never reaches the guest.

    Exactly one of `value`, `environment` and `resolver` says where the value comes from.

    Attributes:
        rules: the requests it may go with; http and https only.
        header: name of the header.
        prefix: text before the value, such as "Bearer ".
        value: the value itself.
        environment: name of the host's environment variable that holds it.
        resolver: called for every request, gives it.
        automatic: whether it goes with every request the rules match, so that the guest need not
            know of it; otherwise the guest asks for it by name.
    """

    rules: Rules = Field(min_length=1)
    header: str = Field("Authorization", pattern=_HEADER_NAME)
    prefix: str = Field("", pattern=r"^[\x20-\x7e]*$")
    value: SecretStr | None = None
    environment: str | None = None
    resolver: SkipJsonSchema[Callable[[], str] | None] = Field(None, exclude=True, repr=False)
    automatic: bool = False

    @model_validator(mode="after")
    def _check(self) -> Credential:
        if sum(source is not None for source in (self.value, self.environment, self.resolver)) != 1:
            raise ValueError("give exactly one of value, environment and resolver")
        if any(rule.scheme not in ("http", "https") for rule in self.rules):
            raise ValueError("a credential goes with http and https rules only")
        return self

    def resolve(self) -> str:
        """The header's value, now.

        Raises:
            Exception: whatever the resolver raises; KeyError if the environment has no such name.
        """
        if self.value is not None:
            return self.prefix + self.value.get_secret_value()
        if self.environment is not None:
            return self.prefix + os.environ[self.environment]
        assert self.resolver is not None  # noqa: S101 - _check made sure
        return self.prefix + self.resolver()


class NetConfiguration(_Configuration):
    """What a guest may reach, listen on and use up.

    Attributes:
        allow: the ways out; "all" stands for every public address.
        deny: exceptions from `allow`; without ports, all of them.
        listen: where the guest may listen.
        budgets: limits of use.
        credentials: secrets by the name under which the guest may ask for them.
        nameservers: DNS servers as ADDRESS or ADDRESS:PORT; by default the host's own resolver.
        authorities: PEM files of further certificate authorities, beside the system's.
    """

    allow: Rules = ()
    deny: Annotated[tuple[DenyRule, ...], BeforeValidator(rules_from)] = ()
    listen: tuple[ListenRule, ...] = ()
    budgets: Budgets = Budgets()
    credentials: dict[str, Credential] = Field(default_factory=dict)
    nameservers: tuple[str, ...] = ()
    authorities: tuple[FilePath, ...] = ()

    @field_validator("nameservers")
    @classmethod
    def _check_nameservers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            split_nameserver(server)
        return value

    def explain(self) -> list[str]:
        """The rules as lines for people, in the order in which they count."""
        return [
            *(f"deny {rule}" for rule in self.deny),
            *(f"allow {rule}" for rule in self.allow),
            *(f"listen {rule}" for rule in self.listen),
            *(
                f"credential {name} for {rule}"
                for name, credential in self.credentials.items()
                for rule in credential.rules
            ),
        ]


def split_nameserver(text: str) -> tuple[str, int]:
    """Address and port of a DNS server written as 9.9.9.9, 9.9.9.9:53, ::1 or [::1]:53.

    Raises:
        ValueError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, "53"
    return str(parse_address(host.strip("[]"))), parse_port(port)
