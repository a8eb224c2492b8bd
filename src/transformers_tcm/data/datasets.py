"""Annotated photos as torch datasets: whole photos for evaluation, random crops for training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..images import load_image
from ..instances import Instances
from .augmentation import TextAugmentation
from .loaders import row_to_instances

__all__ = ["DecodedRows", "RandomTextCrops", "TextPhotos", "process_for_model"]

Rows = Sequence[Mapping[str, Any]]
ImageProcessor = Any  # a TCM image processor; this module does not know the models


class DecodedRows(Sequence[Mapping[str, Any]]):
    """Rows of a dataset with every photo decoded once, up front, and kept in memory.

    Decoding costs more than a crop does. Workers that are forked share the pixels.

    Args:
        rows: rows with `image`, `polygons`, `texts` and `ignore`, as the loaders return them.
    """

    def __init__(self, rows: Rows):
        from tqdm.auto import tqdm

        self._rows = [_decode(row) for row in tqdm(rows, desc="Decoding photos", unit="photo", leave=False)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]


def _decode(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its photo as (H, W, 3) uint8 RGB."""
    image = row["image"]
    return row if isinstance(image, np.ndarray) else {**row, "image": np.asarray(load_image(image))}


class TextPhotos(Dataset[dict[str, Any]]):
    """Whole photos, resized by the image processor: the evaluation set.

    Items are dicts of `pixel_values` (3, H, W), `pixel_mask` (H, W) and `labels`, for `TextDetectionCollator`.
    """

    def __init__(self, rows: Rows, image_processor: ImageProcessor):
        self.rows = rows
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return process_for_model(self.image_processor, row["image"], row_to_instances(row))


class RandomTextCrops(Dataset[dict[str, Any]]):
    """An endless supply of augmented crops from weighted sources, cut to a length: the training set.

    Crop `i` depends on nothing but `seed` and `i`, so that a run that is resumed at any step, with any number of
    workers, continues with the crops it would have seen.

    Args:
        sources: rows of each source.
        weights: share of the crops that each source gives; normalised to a sum of 1.
        augmentation: makes a crop of a fixed size from a photo.
        image_processor: normalises the crop; it is not resized again.
        length: number of crops.
        seed: of all randomness.

    Raises:
        ValueError: if there is not one weight for each source, or a source is empty.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        weights: Sequence[float],
        augmentation: TextAugmentation,
        image_processor: ImageProcessor,
        length: int,
        seed: int = 0,
    ):
        if not sources or len(sources) != len(weights) or not all(len(rows) for rows in sources):
            raise ValueError(
                f"expected a positive weight and at least one photo for each source; got {len(sources)} sources of "
                f"{[len(rows) for rows in sources]} photos and {len(weights)} weights"
            )
        self.sources = list(sources)
        self.weights = np.asarray(weights, dtype=np.float64) / sum(weights)
        self.augmentation = augmentation
        self.image_processor = image_processor
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        rows = self.sources[rng.choice(len(self.sources), p=self.weights)]
        row = _decode(rows[int(rng.integers(len(rows)))])
        crop, instances = self.augmentation(row["image"], row_to_instances(row), rng)
        return process_for_model(self.image_processor, crop, instances, do_resize=False)


def process_for_model(
    image_processor: ImageProcessor, image: Any, instances: Instances, **kwargs: Any
) -> dict[str, Any]:
    """One image through the processor, its batch dimension taken off again."""
    batch = image_processor(image, annotations=instances, return_tensors="pt", **kwargs)
    return {name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")}
