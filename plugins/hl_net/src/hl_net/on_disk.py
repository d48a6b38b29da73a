"""What a snapshot on disk keeps of the handles: untrusted when read, and it grants nothing.

Neither names with their addresses nor the ports that the host chose are in it: whoever altered the
file could give a granted name another address, or listen where no rule says.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator
from typing_extensions import Self

from hl_net.addresses import parse_address
from hl_net.guest_socket import SavedSocket
from hl_net.handles import Saved
from hl_net.models import AddressText, Family, Handle, Port
from hl_net.policy import Protocol
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import Model
from hyperlight_core.wire import describe

__all__ = ["from_disk", "to_disk"]

_FAMILIES: dict[Family, int] = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_NAMES = {number: name for name, number in _FAMILIES.items()}


def _checked(text: str) -> str:
    parse_address(text)
    return text


class _Bound(Model):
    """Where a socket is bound, as the guest asked for it, and what it listens with."""

    address: Annotated[AddressText, AfterValidator(_checked)]
    port: Port
    backlog: int | None


class _Socket(Model):
    """A socket; one that is not bound reads as reset."""

    protocol: Protocol
    family: Family
    bound: _Bound | None = None


class _Handles(Model):
    """The number that comes next, and what has those before; None is an HTTP exchange."""

    next_number: Handle = 1
    handles: dict[Annotated[str, Field(pattern="^[1-9][0-9]{0,15}$")], _Socket | None] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if any(int(number) >= self.next_number for number in self.handles):
            raise ValueError("a handle has a number that is still to be given out")
        return self


def to_disk(saved: Saved) -> dict[str, Any]:
    """The part of it that a snapshot on disk keeps, as JSON."""
    handles = {str(number): _kept(found) for number, found in saved.handles.items()}
    kept = _Handles(next_number=saved.next_number, handles=handles)
    return kept.model_dump(mode="json", exclude_defaults=True)


def _kept(saved: SavedSocket | None) -> _Socket | None:
    if saved is None:
        return None
    bound = None
    if saved.bound is not None:
        address, port = saved.bound
        bound = _Bound(address=str(address), port=port, backlog=saved.backlog)
    return _Socket(protocol=saved.protocol, family=_NAMES[saved.family], bound=bound)


def from_disk(value: object, limit: int) -> Saved:
    """What `to_disk` made, or somebody else; `value` is None where there was no network.

    Raises:
        ConfigurationError: it is malformed or has more than `limit` handles.
    """
    try:
        kept = _Handles.model_validate({} if value is None else value)
    except ValidationError as error:
        raise ConfigurationError(f"sockets of the snapshot: {describe(error)}") from error
    if len(kept.handles) > limit:
        raise ConfigurationError(
            f"the snapshot has {len(kept.handles)} open sockets and requests,"
            f" and open_handles is {limit}"
        )
    handles = {int(number): _saved(found) for number, found in kept.handles.items()}
    return Saved(kept.next_number, handles, {})


def _saved(kept: _Socket | None) -> SavedSocket | None:
    if kept is None:
        return None
    saved = SavedSocket(kept.protocol, _FAMILIES[kept.family])
    if kept.bound is None:
        return saved
    endpoint = parse_address(kept.bound.address), kept.bound.port
    return replace(saved, bound=endpoint, backlog=kept.bound.backlog)
