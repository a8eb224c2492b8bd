"""Copy-paste: words cut out of real photos, pasted onto free places of others.

Reference: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..geometry import transform_points
from ..images import load_image
from ..instances import TextInstances
from .warp import homography, picture_corners, warp

if TYPE_CHECKING:
    from .word_crops import WordCrop

__all__ = ["CopyPaste", "WordPatch", "cut_words", "patches_of_words"]

# Width of the border in which a word fades into the photo, relative to its height.
_MARGIN = 0.25
# Words are placed on a grid of so many pixels; tried before a word is given up, and places compared for each.
_CELL = 4
_TRIES = 3
_PLACES = 6
# How much a word may be enlarged before it looks blurred.
_ENLARGEMENT = 1.25


@dataclass(frozen=True)
class WordPatch:
    """A word cut out of a picture, with a margin.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        opacity: (h, w) uint8: 255 inside the word, falling to 0 in the margin, 0 where another word is.
        polygon: (K, 2) outline of the word in these pixels.
        height: shorter side of the word's smallest enclosing rectangle, in pixels.
        text: the word, `None` where unknown.
    """

    pixels: np.ndarray
    opacity: np.ndarray
    polygon: np.ndarray
    height: float
    text: str | None


def cut_words(image: np.ndarray, instances: TextInstances, min_height: float = 10.0) -> list[WordPatch]:
    """The legible words of a photo that can be cut out of it.

    Those that reach out of the photo, are lower than `min_height` pixels or share ground with another word are left.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: its text, what is ignored included.
        min_height: of a word, in pixels.
    """
    import cv2

    patches = []
    limits = np.array(image.shape[1::-1])
    texts = instances.texts or [None] * len(instances)
    for index in np.flatnonzero(~instances.ignored).tolist():
        polygon = instances.polygons[index]
        height = min(cv2.minAreaRect(np.ascontiguousarray(polygon))[1])
        if height < min_height or (polygon < 0).any() or (polygon > limits).any():
            continue
        others = [other for place, other in enumerate(instances.polygons) if place != index]
        patch = _cut(image, polygon, others, height, texts[index])
        if patch is not None:
            patches.append(patch)
    return patches


def patches_of_words(words: Iterable["WordCrop"], min_height: float = 10.0) -> list[WordPatch]:
    """The words of a list of word crops, see `load_word_crops`, that are at least `min_height` pixels high."""
    patches = []
    for word in words:
        image = np.asarray(load_image(word.image))
        corners = np.clip(word.corners(*image.shape[1::-1]), 0, image.shape[1::-1])
        patches += cut_words(image, TextInstances([corners], texts=[word.text]), min_height)
    return patches


def _cut(
    image: np.ndarray, polygon: np.ndarray, others: Sequence[np.ndarray], height: float, text: str | None
) -> WordPatch | None:
    """The patch of one word of that height, `None` if another word covers a part of it."""
    import cv2

    fade = max(_MARGIN * height, 2.0)
    margin = int(np.ceil(fade)) + 1  # a pixel more, so that nothing of the patch's edge is seen
    low = np.floor(polygon.min(axis=0)).astype(int)
    high = np.maximum(np.ceil(polygon.max(axis=0)).astype(int), low + 1)
    # As much of the photo as there is, and where it ends, its last pixels again.
    left, top = np.minimum(low, margin)
    right, bottom = np.minimum(np.array(image.shape[1::-1]) - high, margin)
    part = image[low[1] - top : high[1] + bottom, low[0] - left : high[0] + right]
    above, below, before, after = (margin - int(side) for side in (top, bottom, left, right))
    pixels = cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_REPLICATE)
    origin = low - margin
    word, around = (_filled(outlines, origin, pixels.shape[:2]) for outlines in ([polygon], others))
    if (word & around).any():
        return None
    distance = cv2.distanceTransform(1 - word, cv2.DIST_L2, 3)
    opacity = np.rint(255 * np.clip(1 - distance / fade, 0, 1)).astype(np.uint8) * (1 - around)
    return WordPatch(pixels, opacity, polygon - origin.astype(np.float32), float(height), text)


def _filled(outlines: Sequence[np.ndarray], origin: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) uint8, 1 inside the outlines, for pixels that start at `origin`."""
    import cv2

    mask = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [np.rint(outline - origin).astype(np.int32)], 1)
    return mask


@dataclass(frozen=True)
class CopyPaste:
    """Pastes words onto places of a photo where no text is labelled.

    A word is scaled, turned and warped a little, moved towards the colours around its new place, and fades into them
    beyond its outline; inside it stays what it was. Nothing of it touches labelled text, what is ignored included.
    Of some free places the flattest is taken. All randomness comes from the generator of the call.

    Args:
        patches: the words to choose from.
        probability: share of the photos that get words.
        max_words: on a photo; at least one is tried.
        word_heights: range of the heights of the pasted words in pixels, log-uniform; words are enlarged by at most a
            quarter.
        rotation: largest turn in degrees.
        warp: largest move of a patch's corners, relative to the height of the word.
        gap: pixels between a pasted word's margin and labelled text.

    Raises:
        ValueError: without patches, for a probability outside [0, 1] or a range that is not increasing and positive.
    """

    patches: Sequence[WordPatch]
    probability: float = 0.5
    max_words: int = 4
    word_heights: tuple[float, float] = (12.0, 64.0)
    rotation: float = 10.0
    warp: float = 0.1
    gap: int = 3

    def __post_init__(self) -> None:
        if not self.patches:
            raise ValueError("there is no word to paste: none is legible, whole and at least 10 pixels high")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"`probability` is {self.probability}; expected one in [0, 1]")
        if not 0 < self.word_heights[0] <= self.word_heights[1]:
            raise ValueError(f"`word_heights` is {self.word_heights}; expected (low, high) with 0 < low <= high")

    def __call__(
        self, image: np.ndarray, instances: TextInstances, rng: np.random.Generator, frame: np.ndarray | None = None
    ) -> tuple[np.ndarray, TextInstances]:
        """Paste words, or leave the photo as it is.

        Args:
            image: (H, W, 3) uint8 RGB; it is not changed.
            instances: its text.
            rng: the source of all randomness.
            frame: (4, 2) outline of the photo within the image, by default the whole image.

        Returns:
            The image and its text, the pasted words last.
        """
        if rng.random() >= self.probability:
            return image, instances
        free = _FreePlaces(image, instances, frame, self.gap)
        image = image.copy()
        polygons: list[np.ndarray] = []
        texts: list[str | None] = []
        for _ in range(int(rng.integers(1, self.max_words + 1))):
            pasted = self._paste_somewhere(image, free, rng)
            if pasted is not None:
                polygons.append(pasted[0])
                texts.append(pasted[1])
        old = instances.texts or [None] * len(instances)
        ignore = np.concatenate([instances.ignored, np.zeros(len(polygons), bool)])
        return image, TextInstances(instances.polygons + polygons, texts=[*old, *texts], ignore=ignore)

    def _paste_somewhere(
        self, image: np.ndarray, free: "_FreePlaces", rng: np.random.Generator
    ) -> tuple[np.ndarray, str | None] | None:
        """Outline and text of a word that was pasted, `None` if no place was found for some."""
        for _ in range(_TRIES):
            patch = self.patches[int(rng.integers(len(self.patches)))]
            height = float(np.exp(rng.uniform(*np.log(self.word_heights))))
            height = min(height, _ENLARGEMENT * patch.height)
            if height < self.word_heights[0]:
                continue
            corners = self._draw_corners(patch, height, rng)
            low, high = corners.min(axis=0), corners.max(axis=0)
            place = free.take(np.ceil(high - low).astype(int), rng)
            if place is not None:
                return _paste(image, patch, corners - low + place, rng), patch.text
        return None

    def _draw_corners(self, patch: WordPatch, height: float, rng: np.random.Generator) -> np.ndarray:
        """Where the corners (4, 2) of a patch go, up to a shift, for its word to get a height."""
        scale = height / patch.height
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moves = rng.uniform(-self.warp, self.warp, (4, 2)) * height
        return scale * picture_corners(patch.pixels) @ turn.T + moves


class _FreePlaces:
    """Where in an image nothing is labelled yet, on a grid of cells."""

    def __init__(self, image: np.ndarray, instances: TextInstances, frame: np.ndarray | None, gap: int):
        import cv2

        height, width = image.shape[:2]
        taken = _filled(instances.polygons, np.zeros(2), (height, width))
        taken = cv2.dilate(taken, np.ones((2 * gap + 1, 2 * gap + 1), np.uint8))
        if frame is not None:
            taken = np.maximum(taken, 1 - _filled([frame], np.zeros(2), (height, width)))
        rows, columns = height // _CELL, width // _CELL
        cells = taken[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
        self._taken = np.ascontiguousarray(cells.max(axis=(1, 3)))  # (rows, columns)
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (columns, rows), interpolation=cv2.INTER_AREA)
        slope_x, slope_y = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        self._roughness = cv2.integral(np.abs(slope_x) + np.abs(slope_y))

    def take(self, size: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Upper left corner (2,) of a free place for a box of a size (width, height) in pixels, which is then taken."""
        import cv2

        columns, rows = (-(-size // _CELL)).tolist()
        if rows > self._taken.shape[0] or columns > self._taken.shape[1]:
            return None
        candidates = np.argwhere(_box_sums(cv2.integral(self._taken), rows, columns) == 0)
        if not len(candidates):
            return None
        chosen = candidates[rng.integers(len(candidates), size=_PLACES)]
        roughness = _box_sums(self._roughness, rows, columns)[chosen[:, 0], chosen[:, 1]]
        row, column = chosen[int(roughness.argmin())].tolist()
        self._taken[row : row + rows, column : column + columns] = 1
        return np.array([column, row]) * _CELL


def _box_sums(integral: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Sums over all boxes of that many cells, (R - rows + 1, C - columns + 1) for an integral image of R x C cells."""
    upper = integral[:-rows, columns:] - integral[:-rows, :-columns]
    return integral[rows:, columns:] - integral[rows:, :-columns] - upper


class _Warped(NamedTuple):
    """A patch as it lies in a part of an image: `pixels` (h, w, 3), `opacity` (h, w) in [0, 1]."""

    pixels: np.ndarray
    opacity: np.ndarray


def _paste(image: np.ndarray, patch: WordPatch, corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend a patch into an image, in place, its corners at (4, 2); the word's outline there."""
    polygon = transform_points(patch.polygon, homography(picture_corners(patch.pixels), corners))
    left, top, right, bottom = np.clip(
        np.concatenate([np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))]), 0, [*image.shape[1::-1]] * 2
    ).astype(int)
    part = image[top:bottom, left:right]
    warped = _warp(patch, corners - [left, top], part.shape[:2])
    matched = warped.pixels + _colour_shift(warped, part, float(rng.uniform(0, 1)))
    opacity = warped.opacity[..., None]
    part[:] = np.rint(np.clip(opacity * matched + (1 - opacity) * part, 0, 255)).astype(np.uint8)
    return polygon


def _warp(patch: WordPatch, corners: np.ndarray, shape: tuple[int, int]) -> _Warped:
    """A patch with its corners at (4, 2) of an image of shape (h, w)."""
    matrix = homography(picture_corners(patch.pixels), corners)
    pixels = warp(patch.pixels, matrix, shape, border="replicate")
    return _Warped(pixels.astype(np.float32), warp(patch.opacity, matrix, shape).astype(np.float32) / 255)


def _colour_shift(warped: _Warped, part: np.ndarray, strength: float) -> np.ndarray:
    """What to add to the colours (3,) of a patch for its margin to resemble the place, by a strength in [0, 1].

    No more than leaves the word its contrast: hardly any pixel of it becomes black or white by it.
    """
    margin = (warped.opacity > 0.05) & (warped.opacity < 0.95)
    word = warped.pixels[warped.opacity > 0.95]
    if not margin.any() or not len(word):
        return np.zeros(3, np.float32)
    shift = part[margin].mean(axis=0) - warped.pixels[margin].mean(axis=0)
    darkest, brightest = np.percentile(word, [2, 98], axis=0)
    return np.clip(strength * shift, np.minimum(-darkest, 0), np.maximum(255 - brightest, 0)).astype(np.float32)
