"""The record of every decision, for the host's logs; of a flood of them, the count."""

from __future__ import annotations

import dataclasses
import logging
import time

from hl_net.policy import Decision
from hyperlight_core.errors import DeniedError

__all__ = ["BURST", "LOGGER", "Audit"]

#: Allowed attempts at level INFO, refused ones at WARNING; the record's `hl_net` is a dict.
LOGGER = logging.getLogger("hl_net.policy")
#: Records that one sandbox may have written at once, of each kind; then one a second.
BURST = 100
_LONGEST = 500  # characters of what a guest may make as long as it likes


class _Quota:
    """How many records of one kind may still be written, and how many were left out."""

    def __init__(self) -> None:
        self._free, self._at, self.left_out = float(BURST), time.monotonic(), 0

    def take(self) -> bool:
        now = time.monotonic()
        self._free, self._at = min(BURST, self._free + now - self._at), now
        if self._free < 1:
            self.left_out += 1
            return False
        self._free -= 1
        return True

    def left_out_before(self) -> int:
        """How many since it was asked last."""
        count, self.left_out = self.left_out, 0
        return count


class Audit:
    """Records the decisions of one sandbox, whose flood leaves out none of another one's."""

    def __init__(self) -> None:
        self._quotas = {True: _Quota(), False: _Quota()}

    def enforce(self, decision: Decision, *, credentials: tuple[str, ...] = ()) -> None:
        """Record a decision, and carry it out.

        Args:
            decision: what the policy said.
            credentials: names of the credentials that go with the request.

        Raises:
            DeniedError: the decision is a refusal.
        """
        self.record(decision, credentials)
        if not decision.allowed:
            raise decision.error()

    def refuse_malformed(self, action: str, target: str, why: str) -> DeniedError:
        """Record the refusal of a target that can be read in several ways; the error to raise."""
        shown = ascii(target.partition("?")[0][:200])
        decision = Decision(False, action, shown, "", f"malformed: {why}")
        self.record(decision)
        return decision.error()

    def record(self, decision: Decision, credentials: tuple[str, ...] = ()) -> None:
        """Write one record, or count it where there were too many."""
        level = logging.INFO if decision.allowed else logging.WARNING
        if LOGGER.isEnabledFor(level) and self._quotas[decision.allowed].take():
            self._write(level, decision, credentials)

    def _write(self, level: int, decision: Decision, credentials: tuple[str, ...]) -> None:
        verb, quota = "allow" if decision.allowed else "refuse", self._quotas[decision.allowed]
        target, rule = decision.target[:_LONGEST], decision.rule[:_LONGEST]
        fields = dataclasses.asdict(dataclasses.replace(decision, target=target, rule=rule))
        fields |= {"credentials": credentials, "left_out": quota.left_out_before()}
        text = "%s %s %s (%s: %s)"
        words = (verb, decision.action, target, decision.reason, rule)
        LOGGER.log(level, text, *words, extra={"hl_net": fields})

    def close(self) -> None:
        """Write how many records were left out in the end."""
        for allowed, quota in self._quotas.items():
            if count := quota.left_out_before():
                fields = {"allowed": allowed, "left_out": count}
                level = logging.INFO if allowed else logging.WARNING
                LOGGER.log(level, "%d records left out", count, extra={"hl_net": fields})
