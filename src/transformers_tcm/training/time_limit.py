"""A training that ends after so many seconds, its learning rate at the end of the schedule by then."""

import time
from typing import Any

import torch

__all__ = ["TimeLimit"]


class TimeLimit:
    """Moves a schedule of the learning rate on as time passes, where the steps alone would be too late.

    The schedule counts as its place the larger one of the steps made and the share of the time that has passed. A run
    that goes on from a checkpoint starts at that one's place in the schedule, and has all of the time for the rest.

    Args:
        seconds: of a run, evaluations and saving included; `None` for no limit.
        max_steps: steps of the schedule.
    """

    def __init__(self, seconds: float | None, max_steps: int):
        self.seconds, self.max_steps = seconds, max_steps
        self._first, self._since = 0, 0.0

    def start(self, scheduler: Any) -> None:
        """The time of a `LambdaLR` schedule, as all of transformers' that end at zero are, begins now."""
        self._first, self._since = scheduler.last_epoch, time.monotonic()

    def follow(self, scheduler: Any, accelerator: Any) -> bool:
        """Set the rate for the next step; all processes call it after each step of the schedule.

        Returns:
            Whether the time is up.
        """
        if self.seconds is None:
            return False
        passed = (time.monotonic() - self._since) / self.seconds
        if accelerator.num_processes > 1:
            passed = float(accelerator.gather(torch.tensor([passed], device=accelerator.device)).max())
        place = self._first + int((self.max_steps - self._first) * min(passed, 1.0))
        if place > scheduler.last_epoch:
            scheduler.last_epoch = place - 1
            scheduler.step()
        return passed >= 1
