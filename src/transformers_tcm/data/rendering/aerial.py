"""Scenes as seen from above: boats, ships, roofs and planes as simple shapes in any direction, on photographs.

Two pairs of classes cannot be told by their outline: boats and ships differ by size alone, plain and striped roofs by
texture alone. Scenes are made to test detectors of oriented objects where there are no annotated aerial images; the
angle matters, since nearly all shapes are long.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...images import load_image
from ...instances import OrientedInstances

__all__ = ["AERIAL_CLASSES", "AerialRenderer", "write_scenes"]

AERIAL_CLASSES = ("boat", "ship", "plain-roof", "striped-roof", "plane")
# Lengths in pixels, ten sizes; the smaller half are boats, the larger half ships.
LENGTHS = (32, 35, 38, 41, 44, 68, 75, 82, 90, 98)
BOAT, SHIP, PLAIN_ROOF, STRIPED_ROOF, PLANE = range(len(AERIAL_CLASSES))
# Width to length of each class.
ASPECTS = {BOAT: 0.3, SHIP: 0.3, PLAIN_ROOF: 0.4, STRIPED_ROOF: 0.4, PLANE: 0.8}
# Shapes are drawn so many times larger and averaged.
OVERSAMPLING = 4
# In a unit box, x from -0.5 to 0.5 along the object, y across.
HULL = np.array([[0.5, 0], [0.25, -0.5], [-0.42, -0.5], [-0.5, -0.3], [-0.5, 0.3], [-0.42, 0.5], [0.25, 0.5]])
FUSELAGE = np.array([[0.5, 0], [0.4, -0.06], [-0.5, -0.06], [-0.5, 0.06], [0.4, 0.06]])
WINGS = np.array([[0.18, 0], [-0.12, -0.5], [-0.22, -0.5], [-0.08, 0], [-0.22, 0.5], [-0.12, 0.5]])
TAIL = np.array([[-0.34, 0], [-0.46, -0.18], [-0.5, -0.18], [-0.46, 0], [-0.5, 0.18], [-0.46, 0.18]])
BOX = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
TRIES = 30


class AerialRenderer:
    """Draws scenes by number: the same number is the same scene.

    Args:
        backgrounds: photographs of the ground; keep those of training and test apart.
        size: side of the square scenes in pixels.
        max_objects: at most so many objects in a scene.
        seed: of all randomness.

    Raises:
        ValueError: without backgrounds.
    """

    def __init__(self, backgrounds: Sequence[Path], size: int = 320, max_objects: int = 12, seed: int = 0):
        if not backgrounds:
            raise ValueError("there are no photographs to draw scenes on")
        self.backgrounds, self.size, self.max_objects, self.seed = list(backgrounds), size, max_objects, seed

    def render(self, index: int) -> tuple[Image.Image, OrientedInstances]:
        """The scene of a number, and its objects with labels of `AERIAL_CLASSES`."""
        import cv2

        rng = np.random.default_rng([self.seed, index])
        canvas = self._ground(rng)
        taken: list[tuple[float, float, float]] = []
        for _ in range(int(rng.integers(4, 12))):
            _draw_clutter(canvas, rng, self.size, taken)
        polygons, labels = [], []
        for _ in range(int(rng.integers(3, self.max_objects + 1))):
            label = int(rng.integers(len(AERIAL_CLASSES)))
            length = _length(rng, label)
            width = length * ASPECTS[label]
            center = _free_place(rng, self.size, float(np.hypot(length, width)) / 2, taken)
            if center is not None:
                angle = float(rng.uniform(-np.pi, np.pi))
                to_scene = _placed(center, (length, width), angle)
                _draw_object(canvas, rng, label, to_scene)
                polygons.append(to_scene(BOX).astype(np.float32))
                labels.append(label)
        pixels = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA).astype(np.float32)
        noisy = pixels + rng.normal(0, rng.uniform(0, 5), pixels.shape)
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        return image, OrientedInstances(polygons, labels=np.array(labels, np.int64))

    def _ground(self, rng: np.random.Generator) -> np.ndarray:
        """A crop of a photograph, paler than it is, (size * OVERSAMPLING,) * 2 + (3,)."""
        photo = load_image(self.backgrounds[int(rng.integers(len(self.backgrounds)))])
        side = int(min(photo.size) * rng.uniform(0.5, 1))
        x, y = (int(rng.integers(extent - side + 1)) for extent in photo.size)
        crop = photo.crop((x, y, x + side, y + side)).resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(crop, np.float32)
        pale = 128 + (pixels - 128) * rng.uniform(0.4, 0.9)
        return pale.astype(np.uint8).repeat(OVERSAMPLING, axis=0).repeat(OVERSAMPLING, axis=1)


def _length(rng: np.random.Generator, label: int) -> float:
    """In pixels: one of ten sizes, which boats and ships share among them."""
    half = len(LENGTHS) // 2
    sizes = {BOAT: LENGTHS[:half], SHIP: LENGTHS[half:]}.get(label, LENGTHS)
    return float(sizes[int(rng.integers(len(sizes)))] * rng.uniform(0.96, 1.04))


def _free_place(
    rng: np.random.Generator, size: int, radius: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """A centre whose circle lies in the scene and meets none that is taken; `None` where none is found."""
    for _ in range(TRIES):
        x, y = rng.uniform(min(radius, size / 2), max(size - radius, size / 2), 2).tolist()
        if all(np.hypot(x - other_x, y - other_y) > radius + other for other_x, other_y, other in taken):
            taken.append((x, y, radius))
            return x, y
    return None


def _placed(
    center: tuple[float, float], sides: tuple[float, float], angle: float
) -> Callable[[np.ndarray], np.ndarray]:
    """What takes points (K, 2) of the unit box to the scene (K, 2)."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return lambda points: points * sides @ turn + center


def _draw_object(
    canvas: np.ndarray, rng: np.random.Generator, label: int, to_scene: Callable[[np.ndarray], np.ndarray]
) -> None:
    color = _contrasting(rng, canvas, to_scene(BOX))
    if label in (BOAT, SHIP):
        _fill(canvas, to_scene(HULL), color)
        _fill(canvas, to_scene(BOX * [0.25, 0.45] - [0.2, 0]), _shade(color, -50))
    elif label == PLANE:
        for part in (WINGS, TAIL, FUSELAGE):
            _fill(canvas, to_scene(part), color)
    else:
        _fill(canvas, to_scene(BOX), color)
        if label == STRIPED_ROOF:
            for position in np.linspace(-0.4, 0.4, 5):
                _fill(canvas, to_scene(BOX * [0.08, 1] + [position, 0]), _shade(color, -80))


def _draw_clutter(
    canvas: np.ndarray, rng: np.random.Generator, size: int, taken: list[tuple[float, float, float]]
) -> None:
    """An ellipse, a triangle, a cross or a road that is none of the classes."""
    import cv2

    color = tuple(int(value) for value in rng.integers(20, 236, 3))
    kind = int(rng.integers(4))
    if kind == 3:  # roads run below everything
        start, end = np.rint(rng.uniform(0, size, (2, 2)) * OVERSAMPLING).astype(int).tolist()
        cv2.line(canvas, start, end, color, int(rng.integers(2, 8)) * OVERSAMPLING)
        return
    radius = float(rng.uniform(5, 30))
    center = _free_place(rng, size, radius, taken)
    if center is None:
        return
    place = _placed(center, (2 * radius, 2 * radius * rng.uniform(0.3, 1)), float(rng.uniform(-np.pi, np.pi)))
    turn = np.linspace(0, 2 * np.pi, {0: 40, 1: 4}.get(kind, 4), endpoint=False)
    outline = np.stack([np.cos(turn), np.sin(turn)], axis=1) / 2
    if kind == 0:
        _fill(canvas, place(outline), color)
    elif kind == 1:
        _fill(canvas, place(outline[:3]), color)
    else:
        for arm in ([1, 0.2], [0.2, 1]):
            _fill(canvas, place(BOX * arm), color)


def _fill(canvas: np.ndarray, points: np.ndarray, color: tuple[int, ...]) -> None:
    import cv2

    cv2.fillPoly(canvas, [np.rint(points * OVERSAMPLING).astype(np.int32)], color)


def _contrasting(rng: np.random.Generator, canvas: np.ndarray, polygon: np.ndarray) -> tuple[int, ...]:
    """A colour that stands out from the ground under an object: red, green and blue."""
    low, high = (np.rint(bound * OVERSAMPLING).astype(int) for bound in (polygon.min(axis=0), polygon.max(axis=0)))
    window = canvas[max(low[1], 0) : high[1] + 1, max(low[0], 0) : high[0] + 1]
    ground = window.reshape(-1, 3).mean(axis=0)
    bright = ground.mean() < 128
    color = rng.integers(190, 256, 3) if bright else rng.integers(90, 150, 3) - (90 if ground.mean() < 160 else 40)
    return tuple(int(value) for value in np.clip(color, 0, 255))


def _shade(color: tuple[int, ...], change: int) -> tuple[int, ...]:
    """Darker, or brighter where it is dark already."""
    change = -change if np.mean(color) < abs(change) + 20 else change
    return tuple(int(np.clip(value + change, 0, 255)) for value in color)


def write_scenes(renderer: AerialRenderer, folder: Path, count: int, start: int = 0) -> None:
    """Scenes in the form of DOTA: `folder/images/NUMBER.png` and `folder/labelTxt/NUMBER.txt`."""
    names = dict(enumerate(AERIAL_CLASSES))
    for part in ("images", "labelTxt"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        image, objects = renderer.render(index)
        image.save(folder / "images" / f"{index:05d}.png")
        (folder / "labelTxt" / f"{index:05d}.txt").write_text(objects.to_dota(names), encoding="utf-8")
