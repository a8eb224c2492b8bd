"""Several images are loaded and computed at once, while the results of those before them are written."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..pipelines import TextDetectionPipeline

__all__ = ["overlapped", "workers_for"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Each holds the maps of an image of its own.
_MOST_WORKERS = 4


def workers_for(detector: "TextDetectionPipeline", images: int) -> int:
    """How many images a pipeline computes at once: on a processor one for each of torch's threads, at most four.

    Elsewhere, on a GPU and in other engines, whose graphs are not for several threads, it is one: then nothing but the
    writing goes on meanwhile.
    """
    import torch

    from ..models.tcm.exported_tcm import ExportedModel

    if isinstance(detector.model, ExportedModel) or detector.device.type != "cpu":
        return 1
    return max(1, min(images, torch.get_num_threads(), _MOST_WORKERS))


def overlapped(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item with what `function` makes of it, in order; no more than `workers` of them are ahead.

    Args:
        function: is called in the threads of the workers, which share torch's threads among them.
    """
    import torch

    threads = torch.get_num_threads()
    # Setting them holds for the calling thread, and for all threads that begin later.
    share = (max(1, threads // workers),)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=share) as pool:
        ahead: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                ahead.append((item, pool.submit(function, item)))
                if len(ahead) > workers:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
