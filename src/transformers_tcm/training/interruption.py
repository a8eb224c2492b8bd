"""Stopping a training without losing steps, and going on with it."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

__all__ = ["StopRequest", "last_checkpoint"]

logger = logging.getLogger(__name__)


class StopRequest:
    """Delays the first SIGTERM or SIGINT (Ctrl-C) until the training has saved a checkpoint.

    A second signal takes effect at once. What is ignored, as SIGINT by a program that a shell has put in the
    background, stays ignored. Outside the main thread, where Python handles no signals, nothing is delayed.
    """

    def __init__(self) -> None:
        self._signal = 0
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals in place of obeying them, for the duration of a `with` block."""
        self._signal = 0
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGTERM, signal.SIGINT)
            heeded = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._note) for number in heeded}
        try:
            yield
        finally:
            self._release()

    def agreed(self, accelerator: Any) -> bool:
        """Whether any process of an `Accelerator` was asked to stop; all have to call it after the same step."""
        if accelerator.num_processes > 1:
            numbers = accelerator.gather(torch.tensor([self._signal], device=accelerator.device))
            self._signal = int(numbers.max())
        return self._signal > 0

    def deliver(self) -> None:
        """Let the signal take its usual course: with SIGTERM the process ends, with SIGINT `KeyboardInterrupt`."""
        self._release()
        signal.raise_signal(self._signal)

    def _note(self, number: int, frame: Any) -> None:
        if self._signal:
            self.deliver()
            return
        self._signal = number
        logger.warning("asked to stop: a checkpoint is saved after this step; ask again to stop at once")

    def _release(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self._handlers.items():
            # `None` stands for a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers = {}


def last_checkpoint(folder: str | Path, complete: str) -> str | None:
    """The newest `checkpoint-N` in a folder that holds the file `complete`, which is written last; else `None`."""
    numbered = [
        (int(path.parent.name.removeprefix("checkpoint-")), str(path.parent))
        for path in Path(folder).glob(f"checkpoint-*/{complete}")
        if path.parent.name.removeprefix("checkpoint-").isdigit()
    ]
    return max(numbered)[1] if numbered else None
