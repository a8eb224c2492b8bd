"""Images per second of a training."""

import time

__all__ = ["Throughput"]


class Throughput:
    """Measures the steps, data loading included; what happens between `step` and the next `start` does not count.

    Call `start` before the first step and after everything that is no training, such as an evaluation.
    """

    def __init__(self) -> None:
        self._images = 0
        self._seconds = 0.0
        self._since = time.perf_counter()

    def start(self) -> None:
        """A step begins now."""
        self._since = time.perf_counter()

    def step(self, images: int) -> None:
        """A step over so many images has ended, and the next begins."""
        now = time.perf_counter()
        self._seconds += now - self._since
        self._images += images
        self._since = now

    def take(self) -> float:
        """Images per second of the steps since the last call."""
        rate = self._images / max(self._seconds, 1e-9)
        self._images, self._seconds = 0, 0.0
        return rate
