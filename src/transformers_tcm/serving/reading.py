"""Files of images in, what is in them out, as `transformers-tcm spot` and `detect` write it."""

import logging
from collections.abc import Callable
from typing import Any

from PIL import Image

from ..images import ReducedImage, TooManyPixelsError, load_image
from ..results import rounded

__all__ = ["PhotoReader", "UnreadableImageError"]

logger = logging.getLogger(__name__)

Detections = list[dict[str, Any]]
Photo = Image.Image | ReducedImage


class UnreadableImageError(ValueError):
    """The bytes are no image, or a damaged one."""


class PhotoReader:
    """Reads several photos at once, such that a bad one costs the others nothing.

    Args:
        find: a pipeline for text detection or spotting: it takes a list of images and a `batch_size`. Where it has
            `load_photo`, as those have, it loads them as well.
        max_pixels: width x height of the largest image that is decoded.
    """

    def __init__(self, find: Callable[..., list[Detections]], max_pixels: int):
        self._find = find
        self._load: Callable[..., Photo] = getattr(find, "load_photo", load_image)
        self._max_pixels = max_pixels

    def __call__(self, files: list[bytes]) -> list[dict[str, Any] | Exception]:
        """For each file `width` and `height` of the upright image and its `instances`, or what is wrong with it.

        An exception is a `TooManyPixelsError`, an `UnreadableImageError`, or whatever the pipeline raised.
        """
        opened = [self._open(content) for content in files]
        photos = [photo for photo in opened if not isinstance(photo, Exception)]
        found = iter(self._read(photos))
        return [photo if isinstance(photo, Exception) else _result(photo, next(found)) for photo in opened]

    def _open(self, content: bytes) -> Photo | Exception:
        try:
            return self._load(content, pixel_limit=self._max_pixels)
        except TooManyPixelsError as error:
            return error
        except ValueError as error:
            return UnreadableImageError(str(error))

    def _read(self, photos: list[Photo]) -> list[Detections | Exception]:
        if not photos:
            return []
        try:
            return [*self._find(photos, batch_size=len(photos))]
        except Exception as error:
            if len(photos) == 1:
                logger.exception("an image could not be read")
                return [error]
        # One of them is to blame.
        return [result for photo in photos for result in self._read([photo])]


def _result(photo: Photo, found: Detections | Exception) -> dict[str, Any] | Exception:
    if isinstance(found, Exception):
        return found
    return {"width": photo.width, "height": photo.height, "instances": rounded(found)}
