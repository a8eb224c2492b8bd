"""Requests that arrive while others are computed are computed together."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

__all__ = ["MicroBatcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatcher(Generic[Item, Result]):
    """One worker thread that takes what is waiting, up to `most` items, and computes it at once.

    Nobody waits for a batch to fill: an item that comes alone is computed alone, and batches grow with the load.

    Args:
        compute: gives for a list of items the result of each, or the exception that its submitter gets.
        most: items of a batch.
    """

    def __init__(self, compute: Callable[[list[Item]], Sequence[Result | Exception]], most: int):
        self._compute = compute
        self._most = most
        # `None` comes last and ends the thread.
        self._waiting: SimpleQueue[tuple[Item, Future[Result]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="micro-batches", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether there is somebody who computes."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to compute; once."""
        self._thread.start()

    def submit(self, item: Item) -> Future[Result]:
        """Queue an item; its result comes when it was computed."""
        future: Future[Result] = Future()
        self._waiting.put((item, future))
        return future

    def close(self) -> None:
        """Compute what was submitted before, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            # Those that nobody waits for any more are left out, and none can be cancelled from here on.
            batch = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            for (_, future), result in zip(batch, self._results([item for item, _ in batch]), strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next_batch(self) -> list[tuple[Item, Future[Result]]]:
        """What is waiting, and at least one item; empty when there will be no more."""
        batch: list[tuple[Item, Future[Result]]] = []
        try:
            while len(batch) < self._most:
                entry = self._waiting.get(block=not batch)
                if entry is None:
                    self._waiting.put(None)  # read again after this batch
                    break
                batch.append(entry)
        except Empty:
            pass
        return batch

    def _results(self, items: list[Item]) -> Sequence[Result | Exception]:
        # An error that `compute` did not see coming must not end the thread, which would leave the others waiting.
        try:
            return self._compute(items) if items else []
        except Exception as error:
            return [error] * len(items)
