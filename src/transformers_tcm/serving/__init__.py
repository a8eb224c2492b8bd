"""Detectors and spotters as a service over HTTP: `transformers-tcm serve` (needs the extra `serve`).

A request is an image. It passes `uploads` (limits of bytes), waits for `batching` (one thread that computes what is
waiting, several images at a time) and is read by `reading` (limits of pixels); `app` puts these together, `metrics`
counts, `server` listens and stops. Nothing is imported here: `batching`, `limits` and `reading` work without the extra.
"""

__all__: list[str] = []
