"""Draw text instances, or a score map, into a picture. Imports OpenCV on first use."""

import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..geometry import word_height
from ..images import load_image
from ..instances import TextInstances
from .captions import place_caption

__all__ = ["draw_text_instances", "overlay_score_map"]

Color = tuple[int, int, int]

FOUND: Color = (40, 255, 120)
IGNORED: Color = (190, 190, 190)
HALO: Color = (0, 0, 0)

# Of the letters of a caption to those of the word.
_RELATIVE_SIZE = 0.7
# Darkest and brightest grey of a photo under a score map.
_PHOTO_RANGE = (40, 190)
# OpenCV takes integers with this many fractional bits: sixteenths of a pixel.
_SHIFT = 4


def draw_text_instances(
    image: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image.Image,
    instances: TextInstances | Sequence[Mapping[str, Any]],
    scores: bool = False,
    texts: bool = True,
    color: Color = FOUND,
    line_width: int | None = None,
) -> Image.Image:
    """Outline text in a copy of a picture, and write down what was read: bright with a dark halo, for any background.

    Words are written beside their outlines, never across, in a size that follows theirs, and fully inside the picture.
    Only where a word leaves no room beside it are they written over it. Captions keep off each other where they can.

    Args:
        image: a path, a PIL image, an array (H, W, 3), or whatever else `load_image` takes.
        instances: the text, or the list that `pipeline("text-detection")` or `pipeline("text-spotting")` gives for an
            image, in pixels of the upright image. Ignored instances are dashed and grey.
        scores: write the scores of the detections beside the outlines.
        texts: write the words where the instances have any.
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
    captions = _captions(instances, scores, texts)
    strokes = [
        _dashes(polygon, 4.0 * width) if ignore else [np.concatenate([polygon, polygon[:1]])]
        for polygon, ignore in zip(instances.polygons, instances.ignored, strict=True)
    ]
    halo = width + 2 * max(1, round(width / 2))
    # All halos first, so that none crosses the line of a neighbour.
    for lines in strokes:
        _draw_lines(pixels, lines, HALO, halo)
    for lines, ignore in zip(strokes, instances.ignored, strict=True):
        _draw_lines(pixels, lines, IGNORED if ignore else color, width)
    drawn = Image.fromarray(pixels)
    colors = [IGNORED if ignore else color for ignore in instances.ignored]
    _write_captions(drawn, instances, captions, colors, smallest=max(14, 8 * width), gap=halo / 2 + 1)
    return drawn


def overlay_score_map(
    image: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image.Image,
    score_map: np.ndarray,
    alpha: float = 0.6,
    colorbar: bool = False,
) -> Image.Image:
    """Lay a score map over a grey copy of a picture, as a heat map.

    The colours (inferno) run from black over purple and orange to pale yellow, and grow brighter with the score
    throughout, so that they can be told apart without colours as well. The picture is grey so that all colour is score,
    and its contrast is reduced to a middle range, so that neither a bright photo nor a dark one passes for a score.

    Args:
        image: a path, a PIL image, an array (H, W, 3), or whatever else `load_image` takes.
        score_map: (h, w) values in [0, 1] of the upright image, of any size: what a pipeline gives with
            `output_score_maps=True`.
        alpha: from 0, the picture alone, to 1, the score map alone.
        colorbar: add a bar below the picture that says which colour is which score.

    Returns:
        An RGB image of the size of the upright `image`, with the bar higher by a twentieth of its longer side or more.

    Raises:
        FileNotFoundError, ValueError, TypeError: if `image` cannot be read.
        TypeError: if there is no score map.
        ValueError: if it has another shape or other values, or `alpha` is outside [0, 1].
    """
    import cv2

    values = _checked_score_map(score_map)
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` is {alpha}; expected a number between 0 and 1")
    grey = np.asarray(load_image(image).convert("L"))  # (H, W)
    if values.shape != grey.shape:
        values = np.asarray(cv2.resize(values, grey.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    photo = Image.fromarray(_middle_range(grey) if alpha else grey).convert("RGB")
    drawn = Image.blend(photo, _heat(values), alpha)
    return _with_colorbar(drawn, alpha) if colorbar else drawn


def _checked_score_map(score_map: np.ndarray) -> np.ndarray:
    """Values (h, w) float32; raises what `overlay_score_map` says."""
    if score_map is None:
        raise TypeError("there is no score map: the model has none, or `output_score_maps=True` was not given")
    values = np.asarray(score_map, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"`score_map` has shape {values.shape}; expected (height, width)")
    # Written such that NaN fails it.
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"`score_map` has values in [{values.min()}, {values.max()}]; expected [0, 1]")
    return values


def _middle_range(grey: np.ndarray) -> np.ndarray:
    """A photo (H, W) uint8 whose 2nd and 98th percentiles are at the ends of `_PHOTO_RANGE`.

    The photo adds its brightness to that of the scores. Stretched to one range, photos of night and of snow add the
    same.
    """
    low, high = np.percentile(grey, (2, 98))
    darkest, brightest = _PHOTO_RANGE
    # A photo of one colour stays flat, in the middle.
    share = (grey - low) / (high - low) if high > low else np.full(grey.shape, 0.5)
    stretched: np.ndarray = np.rint(darkest + (brightest - darkest) * share.clip(0, 1)).astype(np.uint8)
    return stretched


def _heat(values: np.ndarray) -> Image.Image:
    """Colours of values (H, W) in [0, 1]."""
    import cv2

    colors = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]  # BGR -> RGB
    return Image.fromarray(np.ascontiguousarray(colors))


def _with_colorbar(image: Image.Image, alpha: float) -> Image.Image:
    """The picture above a bar of the colours as they appear over a photo of medium grey, with their scores."""
    height = max(28, round(max(image.size) / 20))
    framed = Image.new("RGB", (image.width, image.height + height), HALO)
    framed.paste(image)
    font, margin = _font(height * 0.45), height // 4
    draw = ImageDraw.Draw(framed)
    middle = image.height + height / 2
    ends = [draw.textlength(text, font=font) for text in ("text 0", "1")]
    left, right = round(2 * margin + ends[0]), round(image.width - 2 * margin - ends[1])
    if right - left < height:  # too narrow for numbers beside the bar
        left, right = 0, image.width
    else:
        draw.text((margin, middle), "text 0", fill="white", font=font, anchor="lm")
        draw.text((image.width - margin, middle), "1", fill="white", font=font, anchor="rm")
    ramp = _heat(np.tile(np.linspace(0, 1, right - left, dtype=np.float32), (height - 2 * margin, 1)))
    grey = Image.new("RGB", ramp.size, (sum(_PHOTO_RANGE) // 2,) * 3)
    framed.paste(Image.blend(grey, ramp, alpha), (left, image.height + margin))
    return framed


def _captions(instances: TextInstances, scores: bool, texts: bool) -> list[str]:
    """A line for each instance, empty where nothing is to be written."""
    if scores and instances.scores is None:
        raise ValueError("these instances have no scores to write; leave out `scores=True`")
    words = instances.texts if texts and instances.texts is not None else [None] * len(instances)
    numbers = [f"{score:.2f}" for score in instances.scores] if scores and instances.scores is not None else []
    lines = [f"{word or ''} {number}" for word, number in zip_longest(words, numbers, fillvalue="")]
    # Fonts draw a box for what they lack, but fail at halves of a surrogate pair.
    return [" ".join("".join(c if c.isprintable() else " " for c in line).split()) for line in lines]


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
    image: Image.Image,
    instances: TextInstances,
    captions: list[str],
    colors: list[Color],
    smallest: int,
    gap: float,
) -> None:
    """A caption beside each polygon, up to three times as large as the smallest ones where the words are large."""
    draw = ImageDraw.Draw(image)
    word_boxes, boxes = instances.boxes, np.zeros((0, 4))
    for index, (polygon, caption) in enumerate(zip(instances.polygons, captions, strict=True)):
        if caption:
            others = np.concatenate([np.delete(word_boxes, index, axis=0), boxes])
            wanted = round(min(max(_RELATIVE_SIZE * word_height(polygon), smallest), 3 * smallest))
            box, font, offset = _fit_caption(
                draw, caption, polygon, [*range(wanted, smallest, -2), smallest], gap, others
            )
            where = (box[0] - offset[0], box[1] - offset[1])
            stroke = _caption_stroke(font)
            draw.text(where, caption, fill=colors[index], font=font, stroke_width=stroke, stroke_fill=HALO)
            boxes = np.concatenate([boxes, box[None]])


def _fit_caption(
    draw: ImageDraw.ImageDraw, caption: str, polygon: np.ndarray, sizes: Sequence[int], gap: float, others: np.ndarray
) -> tuple[np.ndarray, ImageFont.FreeTypeFont, tuple[float, float]]:
    """Box, font and offset of the text in the box, in the largest size that there is room for.

    Without any room it is written in the smallest size above the word, moved into the image.
    """
    for size in sizes:
        font = _font(size)
        left, top, right, bottom = draw.textbbox((0, 0), caption, font=font, stroke_width=_caption_stroke(font))
        extent = (math.ceil(right - left), math.ceil(bottom - top))
        box = place_caption(extent, polygon, draw.im.size, gap, others)
        if box is not None:
            break
    else:
        corner = np.clip(polygon[0] - [0, extent[1]], 0, np.maximum(np.subtract(draw.im.size, extent), 0)).round()
        box = np.concatenate([corner, corner + extent])
    return box, font, (left, top)


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _caption_stroke(font: Any) -> int:
    """Width of the halo in pixels."""
    size: float = font.size
    return max(1, round(size) // 8)
