"""Random crops of a photo for training: the pixels and the polygons move together."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..geometry import clamp_polygon, clip_polygon, order_clockwise, signed_area, transform_points
from ..instances import TextInstances
from .copy_paste import CopyPaste
from .photometric import PhotometricJitter
from .warp import warp

__all__ = ["TextAugmentation"]

# Tried before a word has to be cut: so many transforms, with so many positions of the window each.
_VIEWS = 5
_POSITIONS = 64
# Rounding of float32 coordinates does not make a word stick out of the window.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class TextAugmentation:
    """Flip, rotate, scale and crop a photo in one affine warp, paste words into it, then jitter its colours.

    The window is chosen from the moved polygons before any pixel is touched: it cuts no legible word in two wherever
    such a window is found; a word that has to be cut is clipped and marked as ignored. All randomness comes from the
    generator of the call. Defaults follow DBNet (Liao et al., AAAI 2020).

    Args:
        crop_size: height and width of the result in pixels.
        scale_range: the scale is drawn uniformly from this range.
        base_edges: if given, scale 1 is where the photo's shorter side has the first, or, if that is smaller, its
            longer side the second number of pixels; otherwise it is the photo's own size.
        word_height_range: if given, the scale is instead drawn such that the height (shorter side) of a random legible
            word becomes log-uniform in this range of pixels, within `scale_range`.
        aspect_jitter: largest relative change of the ratio of width to height; 0 keeps it.
        rotation: largest rotation in degrees.
        turn_probability: share of crops turned by 90, 180 or 270 degrees before that.
        flip_probability: share of mirrored images; 0 for recognition.
        text_crop_probability: share of windows placed around a random legible word of an image that has any.
        photometric: the change of colours, `None` for none.
        copy_paste: words to paste onto free places of the crop, `None` for none.

    Raises:
        ValueError: for an empty crop, a range that is not increasing and positive, a probability outside [0, 1].
    """

    crop_size: tuple[int, int] = (640, 640)
    scale_range: tuple[float, float] = (0.5, 3.0)
    base_edges: tuple[int, int] | None = None
    word_height_range: tuple[float, float] | None = None
    aspect_jitter: float = 0.0
    rotation: float = 10.0
    turn_probability: float = 0.0
    flip_probability: float = 0.5
    text_crop_probability: float = 0.9
    photometric: PhotometricJitter | None = field(default_factory=PhotometricJitter)
    copy_paste: CopyPaste | None = None

    def __post_init__(self) -> None:
        if min(self.crop_size) < 1:
            raise ValueError(f"`crop_size` is {self.crop_size}; expected a positive height and width")
        for name in ("scale_range", "word_height_range"):
            bounds = getattr(self, name)
            if bounds is not None and not 0 < bounds[0] <= bounds[1]:
                raise ValueError(f"`{name}` is {bounds}; expected (low, high) with 0 < low <= high")
        if self.base_edges is not None and min(self.base_edges) < 1:
            raise ValueError(f"`base_edges` is {self.base_edges}; expected positive numbers of pixels")
        for name in ("turn_probability", "flip_probability", "text_crop_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected a probability in [0, 1]")

    def __call__(
        self, image: np.ndarray, instances: TextInstances, rng: np.random.Generator
    ) -> tuple[np.ndarray, TextInstances]:
        """Draw one crop.

        Args:
            image: (H, W, 3) uint8 RGB.
            instances: the text of the image in its pixels.
            rng: the source of all randomness.

        Returns:
            The crop (crop_height, crop_width, 3) uint8, zero where the image does not reach, and the text inside it.

        Raises:
            ValueError: if `image` is not (H, W, 3) uint8.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected an image of shape (H, W, 3) and dtype uint8, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        instances = _clip_to_image(instances, width, height)
        view = self._draw_view(instances, width, height, rng)
        for _ in range(_VIEWS - 1):
            if view.cut == 0:
                break
            view = min(view, self._draw_view(instances, width, height, rng), key=lambda candidate: candidate.cut)
        crop, moved = warp(image, view.matrix, self.crop_size), self._move(instances, view)
        if self.copy_paste is not None:
            frame = transform_points(np.array([[0, 0], [width, 0], [width, height], [0, height]]), view.matrix)
            crop, moved = self.copy_paste(crop, moved, rng, frame)
        if self.photometric is not None:
            crop = self.photometric(crop, rng)
        return crop, moved

    def _draw_view(self, instances: TextInstances, width: int, height: int, rng: np.random.Generator) -> "_View":
        """A random window of an image of this size, around a random legible word if there is one."""
        legible = ~instances.ignored
        scales = np.array(self.scale_range)
        if self.base_edges is not None:
            shortest, longest = self.base_edges
            scales = scales * min(shortest / min(width, height), longest / max(width, height))
        anchor = int(rng.choice(np.flatnonzero(legible))) if legible.any() else None
        linear = self._draw_linear(rng)
        linear = linear * self._draw_scale(instances, anchor, linear, scales, rng)
        canvas = _moved_boxes([np.array([[0, 0], [width, 0], [width, height], [0, height]])], linear)[0]
        boxes = _moved_boxes(instances.polygons, linear)
        around = boxes[anchor] if anchor is not None and rng.random() < self.text_crop_probability else None
        origin, cut = self._draw_origin(canvas, boxes[legible], around, rng)
        return _View(np.column_stack([linear, -origin]), boxes - np.tile(origin, 2), cut)

    def _draw_linear(self, rng: np.random.Generator) -> np.ndarray:
        """Flip, change of aspect, rotation and turn as one matrix (2, 2) of determinant 1 or -1."""
        stretch = (1 + self.aspect_jitter) ** (0.5 * rng.uniform(-1, 1))
        mirror = -1 if rng.random() < self.flip_probability else 1
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        if self.turn_probability and rng.random() < self.turn_probability:
            angle += rng.integers(1, 4) * np.pi / 2
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return rotation @ np.diag([mirror * stretch, 1 / stretch])

    def _draw_scale(
        self,
        instances: TextInstances,
        anchor: int | None,
        linear: np.ndarray,
        scales: np.ndarray,
        rng: np.random.Generator,
    ) -> float:
        """The scale within `scales`, no larger than the window takes for the word `anchor`."""
        low, high = scales
        if anchor is None:
            return rng.uniform(low, high)
        word = instances.polygons[anchor]
        if self.word_height_range is None:
            scale = rng.uniform(low, high)
        else:
            scale = np.exp(rng.uniform(*np.log(self.word_height_range))) / max(_word_height(word), 1.0)
        x_min, y_min, x_max, y_max = _moved_boxes([word], linear)[0]
        crop_height, crop_width = self.crop_size
        # A pixel less, because the window sits on whole pixels.
        fitting = min((crop_width - 1) / max(x_max - x_min, 1.0), (crop_height - 1) / max(y_max - y_min, 1.0))
        return float(np.clip(min(scale, fitting), low, high))

    def _draw_origin(
        self, canvas: np.ndarray, legible: np.ndarray, around: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, int]:
        """Upper left corner (2,) of a window of the moved image that cuts few `legible` words, and how many it cuts.

        Args:
            canvas: (4,) box of the moved image.
            legible: (N, 4) boxes of the legible words.
            around: (4,) box of a word that the window has to hold, or `None`.
        """
        size = np.array(self.crop_size[::-1])
        # Whole pixels, so that a crop without rotation and change of scale is a copy.
        low = np.floor(canvas[:2])
        high = np.maximum(np.ceil(canvas[2:] - size), low)
        if around is not None:
            # Where the word does not fit, both limits swap, and the window shows a part of it.
            limits = np.clip([np.ceil(around[2:] - size), np.floor(around[:2])], low, high)
            low, high = limits.min(axis=0), limits.max(axis=0)
        candidates = rng.integers(low, high, endpoint=True, size=(_POSITIONS, 2))
        # (candidates, N, 2): how far a word's low and high corners lie inside the window.
        starts = legible[None, :, :2] - candidates[:, None]
        ends = legible[None, :, 2:] - candidates[:, None]
        inside = (starts >= -_TOLERANCE).all(axis=2) & (ends <= size + _TOLERANCE).all(axis=2)
        outside = (ends <= 0).any(axis=2) | (starts >= size).any(axis=2)
        cut = (~inside & ~outside).sum(axis=1)
        return candidates[cut.argmin()], int(cut.min())

    def _move(self, instances: TextInstances, view: "_View") -> TextInstances:
        """The instances that the window shows, in its pixels."""
        height, width = self.crop_size
        matrix, boxes = view.matrix, view.boxes
        size = np.array([width, height])
        visible = np.flatnonzero(((boxes[:, 2:] > 0) & (boxes[:, :2] < size)).all(axis=1))
        whole = np.logical_and.reduce((boxes[:, :2] >= -_TOLERANCE) & (boxes[:, 2:] <= size + _TOLERANCE), axis=1)
        mirrored = np.linalg.det(matrix[:, :2]) < 0
        kept, polygons = [], []
        for index in visible.tolist():
            polygon = transform_points(instances.polygons[index], matrix)
            polygon = order_clockwise(polygon) if mirrored else polygon
            clipped = clamp_polygon(polygon, width, height) if whole[index] else clip_polygon(polygon, width, height)
            # Less than a pixel is nothing that a network could see or a target map could hold.
            if clipped is not None and (whole[index] or abs(signed_area(clipped)) >= 1):
                kept.append(index)
                polygons.append(clipped)
        chosen = instances.select(kept).with_polygons(polygons)
        chosen.ignore = chosen.ignored | ~whole[kept]
        return chosen


class _View(NamedTuple):
    """Where to look: `matrix` (2, 3) from image to window, `boxes` (N, 4) of the words there, legible words `cut`."""

    matrix: np.ndarray
    boxes: np.ndarray
    cut: int


def _clip_to_image(instances: TextInstances, width: int, height: int) -> TextInstances:
    """Cut annotations at the image's border; nothing to do, and nothing done, for most images."""
    if not len(instances):
        return instances
    points = np.concatenate(instances.polygons)
    inside = (points >= 0).all() and (points <= [width, height]).all()
    return instances if inside else instances.clip(width, height)


def _moved_boxes(polygons: list[np.ndarray], linear: np.ndarray) -> np.ndarray:
    """Axis-aligned boxes (N, 4) of polygons after a linear map (2, 2)."""
    if not polygons:
        return np.zeros((0, 4))
    points = np.concatenate(polygons).astype(np.float64) @ linear.T
    starts = np.cumsum([0] + [len(polygon) for polygon in polygons[:-1]])
    return np.hstack([np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)])


def _word_height(polygon: np.ndarray) -> float:
    """Shorter side of the smallest enclosing rectangle in pixels."""
    import cv2

    return min(cv2.minAreaRect(np.ascontiguousarray(polygon))[1])
