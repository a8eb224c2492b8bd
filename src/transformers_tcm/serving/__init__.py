"""Detectors and spotters as a service over HTTP: `transformers-tcm serve` (needs the extra `serve`).

A request is an image. It passes `uploads` (limits of bytes), waits for `batching` (one thread that computes what is
waiting, several images at a time) and is read by `reading` (limits of pixels); `app` puts these together, `metrics`
counts, `server` listens and stops.
"""

from .app import ROUTES, create_app
from .batching import MicroBatcher
from .limits import ServiceLimits
from .reading import PhotoReader
from .server import run_server

__all__ = ["ROUTES", "MicroBatcher", "PhotoReader", "ServiceLimits", "create_app", "run_server"]
