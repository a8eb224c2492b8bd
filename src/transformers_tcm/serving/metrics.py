"""What a service says of itself, for Prometheus."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.exceptions import HTTPException  # that of fastapi is derived from it

__all__ = ["ServiceMetrics"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_PREFIX = "transformers_tcm"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class ServiceMetrics:
    """Counters of one application, apart from those of others in the process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time, open files
        self._requests = Counter(
            f"{_PREFIX}_requests", "Requests by status of the answer.", ["status"], registry=registry
        )
        self._accepted = Gauge(f"{_PREFIX}_requests_accepted", "Requests in the queue or computed.", registry=registry)
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "From the head of a request to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Histogram(
            f"{_PREFIX}_batch_images", "Images computed together.", buckets=_BATCH_SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            f"{_PREFIX}_batch_seconds", "Decoding and computing of a batch.", buckets=_SECONDS, registry=registry
        )

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the answer to a request; an `HTTPException` tells its status."""
        start, status = time.perf_counter(), 500
        try:
            yield
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self._requests.labels(str(status)).inc()
            self._seconds.observe(time.perf_counter() - start)

    def accepted(self, count: int) -> None:
        """How many requests there are now in the queue and in computation."""
        self._accepted.set(count)

    def of_batches(self, compute: Callable[[list[Item]], Sequence[Result]]) -> Callable[[list[Item]], Sequence[Result]]:
        """The same function of a batch, measured."""

        def measured(items: list[Item]) -> Sequence[Result]:
            self._images.observe(len(items))
            with self._batch_seconds.time():
                return compute(items)

        return measured

    def exposition(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self._registry)
