"""The record of every decision, for the host's logs."""

from __future__ import annotations

import dataclasses
import logging

from hl_net.policy import Decision
from hyperlight_core.errors import DeniedError

__all__ = ["LOGGER", "enforce", "refuse_malformed"]

#: Allowed attempts at level INFO, refused ones at WARNING; the record's `hl_net` is a dict.
LOGGER = logging.getLogger("hl_net.policy")


def enforce(decision: Decision, *, credentials: tuple[str, ...] = ()) -> None:
    """Record a decision, and carry it out.

    Args:
        decision: what the policy said.
        credentials: names of the credentials that go with the request.

    Raises:
        DeniedError: the decision is a refusal.
    """
    _record(decision, credentials)
    if not decision.allowed:
        raise decision.error()


def refuse_malformed(action: str, target: str, why: str) -> DeniedError:
    """Record the refusal of a target that cannot be read in just one way; the error to raise."""
    shown = ascii(target.partition("?")[0][:200])
    decision = Decision(False, action, shown, "", f"malformed: {why}")
    _record(decision, ())
    return decision.error()


def _record(decision: Decision, credentials: tuple[str, ...]) -> None:
    level, verb = (logging.INFO, "allow") if decision.allowed else (logging.WARNING, "refuse")
    if not LOGGER.isEnabledFor(level):
        return
    fields = dataclasses.asdict(decision) | {"credentials": credentials}
    LOGGER.log(
        level,
        "%s %s %s (%s: %s)",
        verb,
        decision.action,
        decision.target,
        decision.reason,
        decision.rule,
        extra={"hl_net": fields},
    )
