"""Images with oriented objects as torch datasets, for training and evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..images import load_image
from ..instances import OrientedInstances
from .datasets import process_for_model
from .objects import row_to_objects

__all__ = ["AerialPatches", "OrientedImages", "turned"]

Rows = Sequence[Mapping[str, Any]]
ImageProcessor = Any  # a TCM image processor; this module does not know the models


class OrientedImages(Dataset[dict[str, Any]]):
    """Whole images, resized by the image processor: the evaluation set.

    Items are dicts of `pixel_values` (3, H, W), `pixel_mask` (H, W) and `labels`, for `TextDetectionCollator`.
    """

    def __init__(self, rows: Rows, image_processor: ImageProcessor):
        self.rows = rows
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return process_for_model(self.image_processor, row["image"], row_to_objects(row))


class AerialPatches(Dataset[dict[str, Any]]):
    """Patches flipped and turned at random, as often as a training takes them: the training set.

    Every patch comes once before any comes again. Item `i` depends on nothing but `seed` and `i`, so that a run that is
    resumed goes on with what it would have seen.

    Args:
        rows: with the columns of `object_features`.
        image_processor: resizes and normalises the patches.
        length: number of items.
        seed: of all randomness.
        flip_probability: share of the patches that are flipped, one third of them each in width, in height and in both.
        turn_probability: share of the patches that are turned by one, two or three right angles.
        use_difficult: learn objects that are marked as difficult or cut off, as the released code does.

    Raises:
        ValueError: without rows, or for a probability out of range.
    """

    def __init__(
        self,
        rows: Rows,
        image_processor: ImageProcessor,
        length: int,
        seed: int = 0,
        flip_probability: float = 0.75,
        turn_probability: float = 0.0,
        use_difficult: bool = True,
    ):
        if not len(rows):
            raise ValueError("there are no patches to train on")
        if not (0 <= flip_probability <= 1 and 0 <= turn_probability <= 1):
            raise ValueError(f"{flip_probability} and {turn_probability} are no probabilities in [0, 1]")
        self.rows, self.image_processor, self.length, self.seed = rows, image_processor, length, seed
        self.flip_probability, self.turn_probability = flip_probability, turn_probability
        self.use_difficult = use_difficult

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, place = divmod(index, len(self.rows))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        row = self.rows[int(order[place])]
        rng = np.random.default_rng([self.seed, 1, index])
        horizontal = vertical = False
        if rng.random() < self.flip_probability:
            horizontal, vertical = [(True, False), (False, True), (True, True)][int(rng.integers(3))]
        turns = int(rng.integers(1, 4)) if rng.random() < self.turn_probability else 0
        objects = row_to_objects(row, self.use_difficult)
        image, objects = turned(np.asarray(load_image(row["image"])), objects, turns, horizontal, vertical)
        return process_for_model(self.image_processor, image, objects)


def turned(
    image: np.ndarray, objects: OrientedInstances, turns: int, horizontal: bool, vertical: bool
) -> tuple[np.ndarray, OrientedInstances]:
    """An image (H, W, 3) and its objects, flipped in width and height and then turned clockwise by right angles."""
    height, width = image.shape[:2]
    # Pixels span (0, 0) to (W, H): a flip takes x to W - x.
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    if horizontal:
        image, matrix = image[:, ::-1], np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) @ matrix
    if vertical:
        image, matrix = image[::-1], np.array([[1.0, 0, 0], [0, -1, height], [0, 0, 1]]) @ matrix
    for _ in range(turns % 4):
        # Clockwise on the screen: (x, y) goes to (height - y, x).
        image, matrix = np.rot90(image, -1), np.array([[0.0, -1, image.shape[0]], [1, 0, 0], [0, 0, 1]]) @ matrix
    moved = objects.transform(matrix[:2])
    if horizontal != vertical:  # a mirror turns the order of the corners round
        moved = moved.with_polygons([np.roll(polygon[::-1], 2, axis=0) for polygon in moved.polygons])
    return np.ascontiguousarray(image), moved
