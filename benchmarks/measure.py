"""Measurements: medians over many runs, each beside a floor of the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        name: what was measured.
        value: the figure.
        unit: its unit.
        floor: what it is compared with, in the same unit, measured in the same run.
        floor_name: what that is.
        target: the ratio, or with `target_is_value` the figure, to reach; None for none.
        higher_is_better: whether the figure is a rate.
        target_is_value: whether the target is for the figure itself.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    floor_name: str = ""
    target: float | None = None
    higher_is_better: bool = False
    target_is_value: bool = False

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of the floor."""
        return self.value / self.floor if self.floor else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        measured = self.value if self.target_is_value else self.ratio
        if self.target is None or measured is None:
            return None
        return measured >= self.target if self.higher_is_better else measured <= self.target

    def row(self) -> dict[str, Any]:
        """For results.json."""
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}


def samples(function: Callable[[], object], rounds: int, warmup: int = 20) -> list[float]:
    """Seconds that each of `rounds` calls took, sorted."""
    clock = time.perf_counter
    for _ in range(warmup):
        function()
    taken = []
    for _ in range(rounds):
        began = clock()
        function()
        taken.append(clock() - began)
    return sorted(taken)


def median(sorted_samples: list[float]) -> float:
    """The middle one."""
    return sorted_samples[len(sorted_samples) // 2]


def percentile(sorted_samples: list[float], share: float) -> float:
    """The one that `share` of them do not exceed."""
    return sorted_samples[min(len(sorted_samples) - 1, int(len(sorted_samples) * share))]


def private_mib() -> float:
    """Private memory of this process in MiB; proc_pid_smaps(5)."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
