"""The application: one route that reads images, one that says whether it does, one that says how it goes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ..images import TooManyPixelsError
from .batching import MicroBatcher
from .limits import ServiceLimits
from .metrics import ServiceMetrics
from .reading import PhotoReader, UnreadableImageError
from .uploads import read_upload

__all__ = ["ROUTES", "create_app"]

# Where images are posted to; named after the command that writes the same.
ROUTES = {"text-detection": "/detect", "text-spotting": "/spot"}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
_REQUEST_BODY = {"required": True, "content": {"image/*": _BINARY, "multipart/form-data": _FORM}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A damaged form."},
    408: {"description": "The image was sent too slowly."},
    413: {"description": "Too many bytes or pixels."},
    415: {"description": "The content type is that of something else."},
    422: {"description": "No image, or a damaged one."},
    429: {"description": "Too many requests at the moment; try again."},
}


def create_app(
    find: Callable[..., Any], task: str, model: str, limits: ServiceLimits | None = None, batch_size: int = 8
) -> FastAPI:
    """A service that reads images with a pipeline.

    Args:
        find: the pipeline, or what is called as one: with a list of images and a `batch_size`.
        task: `"text-detection"` or `"text-spotting"`, on which the address depends, see `ROUTES`.
        model: its name, for `/healthz`.
        limits: of requests.
        batch_size: images that are computed together at most.

    Raises:
        ValueError: for another task, or a batch without images.
    """
    if task not in ROUTES:
        raise ValueError(f"no service for the task {task!r}; expected one of {', '.join(ROUTES)}")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    service = _Service(find, task, model, limits or ServiceLimits(), batch_size)
    app = FastAPI(title="transformers-tcm", lifespan=service.lifespan)
    extra = {"requestBody": _REQUEST_BODY}
    app.add_api_route(ROUTES[task], service.read, methods=["POST"], responses=_ERRORS, openapi_extra=extra)
    app.add_api_route("/healthz", service.health)
    app.add_api_route("/metrics", service.exposition)
    return app


class _Service:
    """What the routes share: the queue, the thread that works on it, and the counters."""

    def __init__(self, find: Callable[..., Any], task: str, model: str, limits: ServiceLimits, batch_size: int):
        self._about = {"task": task, "model": model}
        self._limits = limits
        self._metrics = ServiceMetrics()
        self._batcher = MicroBatcher(self._metrics.of_batches(PhotoReader(find, limits.max_pixels)), batch_size)
        self._accepted = 0

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._batcher.start()
        yield
        await asyncio.to_thread(self._batcher.close)

    async def read(self, request: Request) -> Response:
        """Find the text in an image: `image`, its name where it has one, `width`, `height` and `instances`."""
        with self._metrics.request(), self._place_in_queue():
            upload = await read_upload(request, self._limits)
            result = await self._result(upload.content)
            return JSONResponse({"image": upload.name, **result})

    async def health(self) -> Response:
        """Whether images are read; the model has been loaded before anybody can ask."""
        state = {"status": "ok" if self._batcher.is_alive else "stopped", **self._about, "accepted": self._accepted}
        return JSONResponse(state, 200 if self._batcher.is_alive else 503)

    async def exposition(self) -> Response:
        """Metrics in the text format of Prometheus."""
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @contextmanager
    def _place_in_queue(self) -> Iterator[None]:
        """Taken before the image is sent, so that the queue bounds what is held in memory."""
        if self._accepted >= self._limits.queue:
            raise HTTPException(429, f"{self._accepted} requests are in work; try again later", {"Retry-After": "1"})
        self._accepted += 1
        self._metrics.accepted(self._accepted)
        try:
            yield
        finally:
            self._accepted -= 1
            self._metrics.accepted(self._accepted)

    async def _result(self, content: bytes) -> dict[str, Any]:
        try:
            return await asyncio.wrap_future(self._batcher.submit(content))
        except TooManyPixelsError as error:
            raise HTTPException(413, str(error)) from error
        except UnreadableImageError as error:
            raise HTTPException(422, str(error)) from error
        # What the pipeline says is for the log.
        except Exception as error:
            raise HTTPException(500, "this image could not be read; the log of the service says why") from error
