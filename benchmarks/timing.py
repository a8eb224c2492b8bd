"""What the benchmarks of speed share: timing in turns, ratios of the same round, the most memory."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["in_turn", "median_ratio", "peak_megabytes"]

Name = TypeVar("Name")


def in_turn(runs: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[float]]:
    """Seconds of each in every round, so that a machine whose speed drifts treats all alike; one before warms up."""
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """How many times as long as the reference of the same round it takes."""
    return statistics.median(one / other for one, other in zip(seconds, reference, strict=True))


def peak_megabytes() -> float:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    # What `getrusage` says on Linux begins with the memory of the process that started this one.
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3  # kB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB elsewhere
