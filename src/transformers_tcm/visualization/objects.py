"""Draw oriented objects into a picture, a colour for each class, with a legend. Imports OpenCV on first use."""

import colorsys
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..images import load_image
from ..instances import OrientedInstances

__all__ = ["class_colors", "draw_objects"]

Color = tuple[int, int, int]

HALO: Color = (0, 0, 0)
IGNORED: Color = (190, 190, 190)
# Neighbouring hues are this share of the circle apart, so that any number of classes can be told from each other.
GOLDEN_RATIO = 0.618034
# Of the legend's letters to the square root of the image's area.
LETTER_SIZE = 1 / 50
MIN_LETTER_SIZE = 12
# OpenCV takes integers with this many fractional bits: sixteenths of a pixel.
SHIFT = 4


def class_colors(count: int) -> list[Color]:
    """Bright colours (red, green, blue) in 0…255, the same for a class in all pictures."""
    hues = [(0.36 + index * GOLDEN_RATIO) % 1 for index in range(count)]
    # Every third one is paler: hues alone run out soon.
    return [
        tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, (0.85, 0.85, 0.45)[index % 3], 1.0))  # type: ignore[misc]
        for index, hue in enumerate(hues)
    ]


def draw_objects(
    image: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image.Image,
    objects: OrientedInstances | Sequence[Mapping[str, Any]],
    id2label: Mapping[int, str],
    line_width: int | None = None,
    legend: bool = True,
) -> Image.Image:
    """Outline oriented objects in a copy of a picture, in the colours of their classes.

    The side that an object's box starts with, from its first to its second corner, has a dot in the middle, which tells
    its direction. The legend, in the corner with the fewest objects, counts those of each class.

    Args:
        image: a path, a PIL image, an array (H, W, 3), or whatever else `load_image` takes.
        objects: with labels, or the list that `pipeline("oriented-object-detection")` gives for an image, in pixels of
            the upright image. Ignored ones are grey.
        id2label: names of the classes.
        line_width: in pixels; grows with the image unless given.
        legend: write down what the colours mean.

    Returns:
        An RGB image of the size of the upright `image`.

    Raises:
        FileNotFoundError, ValueError, TypeError: if `image` cannot be read.
        ValueError: if the objects have no labels.
    """
    import cv2

    if not isinstance(objects, OrientedInstances):
        objects = OrientedInstances.from_detections(objects, {name: label for label, name in id2label.items()})
    if objects.labels is None:
        raise ValueError("the objects have no `labels`, which decide their colours")
    pixels = np.array(load_image(image))
    width = max(1, round(float(np.sqrt(pixels[:, :, 0].size)) / 500)) if line_width is None else line_width
    palette = dict(zip(sorted(id2label), class_colors(len(id2label)), strict=True))
    colors = [
        IGNORED if ignore else palette[label]
        for label, ignore in zip(objects.labels.tolist(), objects.ignored, strict=True)
    ]
    outlines = [np.rint(polygon * 2**SHIFT).astype(np.int32) for polygon in objects.polygons]
    # All halos first, so that none crosses the line of a neighbour.
    cv2.polylines(pixels, outlines, True, HALO, width + 2, cv2.LINE_AA, SHIFT)
    for outline, polygon, color in zip(outlines, objects.polygons, colors, strict=True):
        cv2.polylines(pixels, [outline], True, color, width, cv2.LINE_AA, SHIFT)
        middle = np.rint(polygon[:2].mean(axis=0)).astype(int).tolist()
        cv2.circle(pixels, middle, width + 1, color, cv2.FILLED, cv2.LINE_AA)
    drawn = Image.fromarray(pixels)
    if legend and len(objects):
        _draw_legend(drawn, objects, id2label, palette)
    return drawn


def _draw_legend(
    image: Image.Image, objects: OrientedInstances, id2label: Mapping[int, str], palette: Mapping[int, Color]
) -> None:
    """A box with a line for each class that is there."""
    labels, counts = np.unique(np.asarray(objects.labels), return_counts=True)
    size = max(MIN_LETTER_SIZE, round((image.width * image.height) ** 0.5 * LETTER_SIZE))
    font = ImageFont.load_default(size)
    named = zip(labels.tolist(), counts.tolist(), strict=True)
    lines = [(palette[label], f"{id2label[label]}  {count}") for label, count in named]
    draw = ImageDraw.Draw(image, "RGBA")
    margin, step = size // 2, round(1.3 * size)
    extent = (
        round(max(draw.textlength(text, font=font) for _, text in lines)) + 2 * step + margin,
        len(lines) * step + 2 * margin,
    )
    x, y = _emptiest_corner(image.size, extent, objects)
    draw.rectangle((x, y, x + extent[0], y + extent[1]), fill=(0, 0, 0, 170))
    for number, (color, text) in enumerate(lines):
        top = y + margin + number * step
        draw.rectangle((x + margin, top + size // 5, x + margin + size * 3 // 5, top + size * 4 // 5), fill=color)
        draw.text((x + margin + step, top), text, fill=(255, 255, 255), font=font)


def _emptiest_corner(size: tuple[int, int], extent: tuple[int, int], objects: OrientedInstances) -> tuple[int, int]:
    """Where a box of an extent covers the fewest objects, the first corner in reading order of several."""
    centers = np.array([polygon.mean(axis=0) for polygon in objects.polygons])
    corners = [(x, y) for y in (0, max(0, size[1] - extent[1])) for x in (0, max(0, size[0] - extent[0]))]
    covered = [((centers >= corner) & (centers <= np.add(corner, extent))).all(axis=1).sum() for corner in corners]
    return corners[int(np.argmin(covered))]
