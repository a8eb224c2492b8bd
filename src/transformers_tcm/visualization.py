"""Draw text instances into a picture. Imports OpenCV on first use."""

import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .images import load_image
from .instances import TextInstances

__all__ = ["draw_text_instances"]

Color = tuple[int, int, int]

FOUND: Color = (40, 255, 120)
IGNORED: Color = (190, 190, 190)
HALO: Color = (0, 0, 0)

# OpenCV takes integers with this many fractional bits: sixteenths of a pixel.
_SHIFT = 4


def draw_text_instances(
    image: str | os.PathLike | bytes | IO[bytes] | np.ndarray | Image.Image,
    instances: TextInstances | Sequence[Mapping[str, Any]],
    scores: bool = False,
    color: Color = FOUND,
    line_width: int | None = None,
) -> Image.Image:
    """Outline text in a copy of a picture, in lines that can be seen on any background: bright, with a dark halo.

    Args:
        image: a path, a PIL image, an array (H, W, 3), or whatever else `load_image` takes.
        instances: the text, or the list that `pipeline("text-detection")` gives for an image, in pixels of the upright
            image. Ignored instances are dashed and grey.
        scores: write the scores beside the outlines.
        color: red, green, blue in 0…255.
        line_width: in pixels; grows with the image unless given.

    Returns:
        An RGB image of the size of the upright `image`.

    Raises:
        FileNotFoundError, ValueError, TypeError: if `image` cannot be read.
        ValueError: if `scores` are to be written but there are none, or `line_width` is not positive.
    """
    if not isinstance(instances, TextInstances):
        instances = TextInstances.from_detections(instances)
    pixels = np.array(load_image(image))
    # By area rather than by the longer side, which would bury the text of a narrow strip under its outlines.
    width = max(1, round(float(np.sqrt(pixels[:, :, 0].size)) / 500)) if line_width is None else line_width
    if width < 1:
        raise ValueError(f"`line_width` is {width}; expected at least 1 pixel")
    strokes = [
        _dashes(polygon, 4.0 * width) if ignore else [np.concatenate([polygon, polygon[:1]])]
        for polygon, ignore in zip(instances.polygons, instances.ignored, strict=True)
    ]
    # All halos first, so that none crosses the line of a neighbour.
    for lines in strokes:
        _draw_lines(pixels, lines, HALO, width + 2 * max(1, round(width / 2)))
    for lines, ignore in zip(strokes, instances.ignored, strict=True):
        _draw_lines(pixels, lines, IGNORED if ignore else color, width)
    drawn = Image.fromarray(pixels)
    if scores:
        if instances.scores is None:
            raise ValueError("these instances have no scores to write; leave out `scores=True`")
        captions = [f"{score:.2f}" for score in instances.scores]
        _write_captions(drawn, instances.polygons, captions, color, size=max(14, 8 * width))
    return drawn


def _dashes(polygon: np.ndarray, length: float) -> list[np.ndarray]:
    """Pieces (2, 2) of the closed outline, each edge starting and ending with a dash of about `length` pixels."""
    dashes = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        count = int(np.linalg.norm(end - start) / length) // 2 * 2 + 1
        stops = start + np.linspace(0, 1, count + 1)[:, None] * (end - start)  # (count + 1, 2)
        dashes += [stops[i : i + 2] for i in range(0, count, 2)]
    return dashes


def _draw_lines(pixels: np.ndarray, lines: list[np.ndarray], color: Color, width: int) -> None:
    """Open lines (K, 2), smoothed, into pixels (H, W, 3)."""
    import cv2

    points = [np.rint(line * 2**_SHIFT).astype(np.int32) for line in lines]
    cv2.polylines(pixels, points, False, color, width, cv2.LINE_AA, _SHIFT)


def _write_captions(
    image: Image.Image, polygons: list[np.ndarray], captions: list[str], color: Color, size: int
) -> None:
    """A line of text above the first corner of each polygon, moved into the image where it would leave it."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    stroke = max(1, size // 8)
    for polygon, caption in zip(polygons, captions, strict=True):
        left, top, right, bottom = draw.textbbox((0, 0), caption, font=font, stroke_width=stroke)
        x = min(polygon[0, 0] - left, image.width - right)
        y = min(polygon[0, 1] - bottom - stroke, image.height - bottom)
        where = (max(x, -left), max(y, -top))
        draw.text(where, caption, fill=color, font=font, stroke_width=stroke, stroke_fill=HALO)
