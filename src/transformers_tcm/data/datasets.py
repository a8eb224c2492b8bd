"""Annotated photos as torch datasets: whole photos for evaluation, random crops for training."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..images import load_image
from ..instances import Instances
from .augmentation import TextAugmentation
from .loaders import row_to_instances
from .picture_cache import decoded_pictures

if TYPE_CHECKING:
    import datasets

__all__ = ["DecodedRows", "RandomTextCrops", "StreamedTextCrops", "TextPhotos", "process_for_model", "use_one_thread"]

Rows = Sequence[Mapping[str, Any]]
ImageProcessor = Any  # a TCM image processor; this module does not know the models


class DecodedRows(Sequence[Mapping[str, Any]]):
    """Rows of a dataset with every photo decoded once, up front, and kept in memory or in a folder.

    Decoding costs more than a crop does. Workers that are forked share the pixels.

    Args:
        rows: rows with `image`, `polygons`, `texts` and `ignore`, as the loaders return them.
        cache: folder to keep the decoded photos in, see `decoded_pictures`; the photos have to be files.

    Raises:
        ValueError: with a `cache`, if a photo is no file.
    """

    def __init__(self, rows: Rows, cache: str | os.PathLike[str] | None = None):
        from tqdm.auto import tqdm

        self._photos: Sequence[np.ndarray]
        if cache is None:
            decoded = [_decode(row) for row in tqdm(rows, desc="Decoding photos", unit="photo", leave=False)]
            self._rows, self._photos = decoded, [row["image"] for row in decoded]
        else:
            self._rows, files = _without_photos(rows)
            self._photos = decoded_pictures(files, cache)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return {**self._rows[index], "image": self._photos[index]}


def _without_photos(rows: Rows) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Rows without their photos, which are not decoded, and the files of these."""
    if hasattr(rows, "cast_column"):
        from datasets import Image

        rows = rows.cast_column("image", Image(decode=False))
    kept: list[Mapping[str, Any]] = []
    files: list[str] = []
    for row in rows:
        image = row["image"]
        file = image["path"] if isinstance(image, Mapping) else image
        if not isinstance(file, str | os.PathLike):
            raise ValueError(f"a cache is for photos in files, and one is a {type(image).__name__}; leave it out")
        files.append(os.fspath(file))
        kept.append({name: value for name, value in row.items() if name != "image"})
    return kept, files


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
    workers, continues with the crops it would have seen. Each process makes them on one thread, see `use_one_thread`.

    Args:
        sources: rows of each source.
        weights: share of the crops that each source gives; normalised to a sum of 1.
        augmentation: makes a crop of a fixed size from a photo.
        image_processor: makes an item of the crop, see its `training_item`; it is not resized again.
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
        use_one_thread()
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
        item: dict[str, Any] = self.image_processor.training_item(crop, instances)
        return item


def use_one_thread() -> None:
    """Keep OpenCV to one thread, as torch is kept in processes that load data, instead of one for each core.

    In this process, and thereby in those that are forked from it: one that is forked later cannot stop the threads of
    its parent, and waits for ever.
    """
    import cv2

    cv2.setNumThreads(1)


class StreamedTextCrops(IterableDataset[dict[str, Any]]):
    """Augmented crops of photos that are streamed, one of each, over and over: a training set without a length.

    Crops depend on nothing but `seed` and the numbers of processes and of workers.

    Args:
        rows: a streamed dataset, as `load_named_dataset` gives it. Its shards are shared among the processes, see
            `set_process`, and those of a process among its workers.
        augmentation, image_processor: as in `RandomTextCrops`.
        seed: of all randomness.
        buffer_size: photos among which the next one is drawn.
    """

    # Rows that could be counted or looked at again: none.
    sources: tuple[Rows, ...] = ()

    def __init__(
        self,
        rows: "datasets.IterableDataset",
        augmentation: TextAugmentation,
        image_processor: ImageProcessor,
        seed: int = 0,
        buffer_size: int = 256,
    ):
        # All processes draw the same order of shards, or their parts would overlap.
        self.rows = self._part = rows.shuffle(seed=seed, buffer_size=buffer_size)
        self.augmentation = augmentation
        self.image_processor = image_processor
        self.seed = seed
        self.process = 0

    def set_process(self, index: int, count: int) -> None:
        """Give only the crops of one of `count` processes, whose parts have no photo in common within a pass.

        A part is shards where their number is a multiple of `count`. Otherwise every process reads all shards, and
        decodes every `count`-th photo.
        """
        from datasets.distributed import split_dataset_by_node

        self._part, self.process = split_dataset_by_node(self.rows, index, count), index

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number = 0 if worker is None else worker.id
        for epoch in itertools.count():
            self._part.set_epoch(epoch)
            index = -1
            for index, row in enumerate(self._part):
                rng = np.random.default_rng([self.seed, self.process, number, epoch, index])
                crop, instances = self.augmentation(_decode(row)["image"], row_to_instances(row), rng)
                yield self.image_processor.training_item(crop, instances)
            if index < 0:  # more workers than shards
                return


def process_for_model(
    image_processor: ImageProcessor, image: Any, instances: Instances, **kwargs: Any
) -> dict[str, Any]:
    """One image through the processor, its batch dimension taken off again."""
    batch = image_processor(image, annotations=instances, return_tensors="pt", **kwargs)
    return {name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")}
