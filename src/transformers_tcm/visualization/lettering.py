"""Captions written into a picture, by their places of `captions`.

A caption covers no other word and no other caption. Where it does not fit beside its word it becomes smaller, then it
stands off to the side with a line to its word, and where there is no room for that either a number takes its place, of
which a legend below the picture says what it stands for.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .. import geometry
from .captions import place_apart, place_caption

__all__ = ["HALO", "Color", "load_font", "write_captions"]

Color = tuple[int, int, int]
HALO: Color = (0, 0, 0)

# Of the letters of a caption to those of the word.
_RELATIVE_SIZE = 0.7
# Letters that are smaller than this cannot be read.
_TINIEST = 10


class _Place(NamedTuple):
    """Where a caption is written.

    Args:
        text: its letters, or its number in the legend.
        font: with its size.
        box: (4,) around letters and halo.
        offset: from the point that letters are written at to the corner of the box.
        line: (2, 2) to the word, or `None`.
    """

    text: str
    font: Any
    box: np.ndarray
    offset: tuple[float, float]
    line: np.ndarray | None = None


def write_captions(
    image: Image.Image,
    polygons: Sequence[np.ndarray],
    captions: Sequence[str],
    colors: Sequence[Color],
    smallest: int,
    gap: float,
    line_width: int,
) -> Image.Image:
    """A caption for each outline, up to three times as large as the smallest ones where the words are large.

    Args:
        image: RGB; is written into.
        polygons: outlines (K_i, 2) of all words.
        captions: of each, empty where nothing is to be written.
        colors: of each.
        smallest: usual size of the letters in pixels; where it is crowded they become smaller.
        gap: pixels between a caption and the outline of its word.
        line_width: of the lines to captions that stand off.

    Returns:
        The image; a higher one with a legend where there is no room for all captions.
    """
    draw = ImageDraw.Draw(image)
    word_boxes = np.array([geometry.bounding_box(polygon) for polygon in polygons]).reshape(-1, 4)
    taken, legend = np.zeros((0, 4)), dict[int, str]()
    for index, (polygon, caption) in enumerate(zip(polygons, captions, strict=True)):
        if not caption:
            continue
        others = np.concatenate([np.delete(word_boxes, index, axis=0), taken])
        place = _place(draw, caption, polygon, smallest, gap, others)
        if place is None:
            legend[index] = f"{len(legend) + 1}  {caption}"
            place = _number(draw, str(len(legend)), polygon, gap, others)
        _write(draw, place, colors[index], line_width)
        taken = np.concatenate([taken, place.box[None], *([] if place.line is None else [_pieces(place.line)])])
    return _with_legend(image, [*legend.values()], [colors[index] for index in legend], smallest) if legend else image


def _place(
    draw: ImageDraw.ImageDraw, caption: str, polygon: np.ndarray, smallest: int, gap: float, others: np.ndarray
) -> _Place | None:
    """In the largest size that there is room for beside the word, or else off to the side, or on a word without room
    beside it; `None` where there is none of these."""
    wanted = round(min(max(_RELATIVE_SIZE * geometry.word_height(polygon), smallest), 3 * smallest))
    tiniest = min(smallest, _TINIEST)
    for size in (*range(wanted, tiniest, -2), tiniest):
        font, extent, offset = _measure(draw, caption, size)
        box = place_caption(extent, polygon, draw.im.size, gap, others)
        if box is not None:
            return _Place(caption, font, box, offset)
    apart = place_apart(extent, polygon, draw.im.size, 2 * gap, others)
    if apart is not None:
        return _Place(caption, font, apart[0], offset, apart[1])
    return _on_its_word(draw, caption, polygon, smallest, others)


def _on_its_word(
    draw: ImageDraw.ImageDraw, caption: str, polygon: np.ndarray, size: int, others: np.ndarray
) -> _Place | None:
    """At the first corner of a word that fills the picture, moved into the image."""
    font, extent, offset = _measure(draw, caption, size)
    corner = np.clip(polygon[0] - [0, extent[1]], 0, np.maximum(np.subtract(draw.im.size, extent), 0)).round()
    box = np.concatenate([corner, corner + extent])
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return None if (high > low).all(axis=1).any() else _Place(caption, font, box, offset)


def _number(draw: ImageDraw.ImageDraw, number: str, polygon: np.ndarray, gap: float, others: np.ndarray) -> _Place:
    """Beside the word, or in the middle of it, as large as fits there."""
    font, extent, offset = _measure(draw, number, _TINIEST)
    box = place_caption(extent, polygon, draw.im.size, gap, others)
    if box is None:
        left, top, right, bottom = geometry.bounding_box(polygon)
        font, extent, offset = _measure(draw, number, max(6, min(_TINIEST, int((bottom - top) * 0.8))))
        corner = np.round([(left + right - extent[0]) / 2, (top + bottom - extent[1]) / 2])
        box = np.concatenate([corner, corner + extent])
    return _Place(number, font, box, offset)


def _measure(
    draw: ImageDraw.ImageDraw, text: str, size: int
) -> tuple[ImageFont.FreeTypeFont, tuple[int, int], tuple[float, float]]:
    """Font, width and height of a text with its halo, and the offset of its corner."""
    font = load_font(size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, stroke_width=_stroke(font))
    return font, (math.ceil(right - left), math.ceil(bottom - top)), (left, top)


def _write(draw: ImageDraw.ImageDraw, place: _Place, color: Color, line_width: int) -> None:
    if place.line is not None:
        ends = [tuple(point) for point in place.line.tolist()]
        draw.line(ends, fill=HALO, width=line_width + 2)
        draw.line(ends, fill=color, width=line_width)
    where = (place.box[0] - place.offset[0], place.box[1] - place.offset[1])
    draw.text(where, place.text, fill=color, font=place.font, stroke_width=_stroke(place.font), stroke_fill=HALO)


def _pieces(line: np.ndarray) -> np.ndarray:
    """Boxes (M, 4) along a line (2, 2), because the box around it would hold much more."""
    count = int(np.linalg.norm(line[1] - line[0]) / 8) + 1
    stops = line[0] + np.linspace(0, 1, count + 1)[:, None] * (line[1] - line[0])  # (count + 1, 2)
    return np.concatenate([np.minimum(stops[:-1], stops[1:]) - 1, np.maximum(stops[:-1], stops[1:]) + 1], axis=1)


def _with_legend(image: Image.Image, entries: list[str], colors: list[Color], size: int) -> Image.Image:
    """The picture above the entries, which are in as many columns as fit."""
    font, height = load_font(size), round(1.5 * size)
    widest = max(font.getlength(entry) for entry in entries)
    columns = max(1, int(image.width // (widest + size)))
    rows = -(-len(entries) // columns)
    framed = Image.new("RGB", (image.width, image.height + rows * height + size // 2), HALO)
    framed.paste(image)
    draw = ImageDraw.Draw(framed)
    for (x, y), entry, color in zip(_cells(columns, rows), entries, colors, strict=False):
        where = (size / 2 + x * image.width / columns, image.height + size / 4 + y * height)
        draw.text(where, entry, fill=color, font=font)
    return framed


def _cells(columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """Column and row of each entry, columns first."""
    return ((x, y) for x in range(columns) for y in range(rows))


@lru_cache(maxsize=64)
def load_font(size: float) -> Any:
    """The font of captions in a size in pixels."""
    return ImageFont.load_default(size)


def _stroke(font: Any) -> int:
    """Width of the halo in pixels."""
    size: float = font.size
    return max(1, round(size) // 8)
