"""Draw text instances, or a score map, into a picture. Imports OpenCV on first use."""

import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw

from ..images import load_image
from ..instances import ILLEGIBLE, TextInstances
from .lettering import HALO, Color, load_font, write_captions

__all__ = ["draw_text_instances", "overlay_score_map"]

FOUND: Color = (40, 255, 120)
IGNORED: Color = (190, 190, 190)

# Darkest and brightest grey of a photo under a score map.
_PHOTO_RANGE = (50, 215)
# OpenCV takes integers with this many fractional bits: sixteenths of a pixel.
_SHIFT = 4


def draw_text_instances(
    image: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image.Image,
    instances: TextInstances | Sequence[Mapping[str, Any]],
    scores: bool = False,
    texts: bool = True,
    color: Color | Sequence[Color] = FOUND,
    line_width: int | None = None,
) -> Image.Image:
    """Outline text in a copy of a picture, and write down what was read: bright with a dark halo, for any background.

    Words are written beside their outlines, in a size that follows theirs, and never over another word or caption:
    where it is crowded they are smaller, or off to the side with a line to their outline; where there is no room for
    that either, a number stands for them in a legend below the picture. Only on a word that fills the picture is its
    caption written over it.

    Args:
        image: a path, a PIL image, an array (H, W, 3), or whatever else `load_image` takes.
        instances: the text, or the list that `pipeline("text-detection")` or `pipeline("text-spotting")` gives for an
            image, in pixels of the upright image. Ignored instances are dashed and grey.
        scores: write the scores of the detections beside the outlines.
        texts: write the words where the instances have any.
        color: red, green, blue in 0…255, for all instances or for each.
        line_width: in pixels; grows with the image unless given.

    Returns:
        An RGB image of the size of the upright `image`, or a higher one with a legend.

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
    colors = _colors(color, instances.ignored)
    for lines, one in zip(strokes, colors, strict=True):
        _draw_lines(pixels, lines, one, width)
    smallest, gap = max(14, 8 * width), halo / 2 + 1
    return write_captions(Image.fromarray(pixels), instances.polygons, captions, colors, smallest, gap, width)


def _colors(color: Color | Sequence[Color], ignored: np.ndarray) -> list[Color]:
    """The colour of each instance."""
    colors: Sequence[Any] = [color] * len(ignored) if np.ndim(color) == 1 else color
    return [IGNORED if ignore else tuple(one) for one, ignore in zip(colors, ignored, strict=True)]


def overlay_score_map(
    image: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image.Image,
    score_map: np.ndarray,
    alpha: float = 0.5,
    colorbar: bool = False,
) -> Image.Image:
    """Lay a score map over a grey copy of a picture, as a heat map.

    The colours (inferno) run from black over purple and orange to pale yellow, and grow brighter with the score
    throughout, so that they can be told apart without colours as well. The picture is grey so that all colour is score,
    and its tones are spread over a middle range, so that neither a bright photo nor a dark one passes for a score.

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
    """A photo (H, W) uint8 with the 2nd and 98th percentiles at the ends of `_PHOTO_RANGE`, the median in the middle.

    The photo adds its brightness to that of the scores. In one range photos of night and of snow add the same.
    """
    low, median, high = np.percentile(grey, (2, 50, 98))
    darkest, brightest = _PHOTO_RANGE
    if high == low:  # a photo of one colour
        return np.full_like(grey, (darkest + brightest) // 2)
    share = ((grey - low) / (high - low)).clip(0, 1)
    gamma = np.log(0.5) / np.log(np.clip((median - low) / (high - low), 0.1, 0.8))
    stretched: np.ndarray = np.rint(darkest + (brightest - darkest) * share**gamma).astype(np.uint8)
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
    font, margin = load_font(height * 0.45), height // 4
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
    words = [None if word == ILLEGIBLE else word for word in words]  # which dashes say already
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
