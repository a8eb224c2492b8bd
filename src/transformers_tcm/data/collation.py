"""From single images to padded batches, with the head's target maps made here, in the worker process."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from ..instances import TextInstances

if TYPE_CHECKING:
    from ..models.tcm.configuration_tcm import TCMConfig

# OpenCV draws no outline beyond this, and takes seconds for one that comes near it.
MAX_COORDINATE = 32_000
# What the image encoder divides height and width by.
SIZE_DIVISOR = 32
# Of the photos that CLIP was trained on: bytes of this colour are normalised to zero, but for rounding.
MEAN_COLOUR = (123, 117, 104)
# Hundreds of vertices are finer than any annotation; thousands that cross each other would take minutes.
MAX_VERTICES = 512

__all__ = ["TextDetectionCollator", "label_instances", "label_words", "labels_by_image", "labels_to_instances"]


class TextDetectionCollator:
    """Pads images to one size and adds to their labels what the model learns from.

    Those are the head's targets and, for a spotter, the control points of the words.

    Args:
        config: of the model; its head makes the targets.
        train_detection: `False` leaves the targets out, to train a spotter's recogniser alone; those of items that
            say so themselves (`WordCollages`) are always left out.

    Raises:
        ValueError: for a model without recogniser that is to be trained without detection.
    """

    def __init__(self, config: "TCMConfig", train_detection: bool = True):
        from ..models.tcm.heads import head_class

        self.head = head_class(config.head_type)
        self.settings = config.head_settings
        self.reads = config.recognizer is not None
        self.train_detection = train_detection
        if not self.reads and not train_detection:
            raise ValueError(
                "a model without recogniser has nothing to train without detection; give a configuration with "
                "`recognizer`"
            )

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Items of `TextPhotos`, `RandomTextCrops` or `WordCollages` to the arguments of a model.

        Returns:
            `pixel_values` (B, 3, H, W), bytes where the items hold bytes, which the model normalises; `pixel_mask`
            (B, H, W) bool, left out where no image is padded; `labels`, a dictionary of tensors: of the M words of all
            images `points`, `counts` (M,) and `ignore` (M,) as the image processor made them, with `word_counts` (B,),
            the words of each image, and `orig_size` (B, 2); the head's targets of the images that have any, stacked
            (B, …) where they have one shape, otherwise joined along the first axis with `NAME_counts`; and for a
            spotter `control_points` (M, 8, 2) and `char_ids` (M, L), zeros for words that no two curves describe. For a
            spotter also `train_detection` (B,), whether an image has targets.
        """
        size = _padded_size([item["pixel_values"] for item in items])
        train_detection = [self.train_detection and item.get("train_detection", True) for item in items]
        if not (self.reads or all(train_detection)):
            raise ValueError(
                f"a model with the head {self.head.display_name} has no recogniser to train on words alone"
            )
        valid_sizes = [_valid_size(item) for item in items]
        images = [label_instances(item["labels"]) for item in items]
        targets = [
            self.head.targets(instances, size, valid, self.settings)
            for instances, valid, detected in zip(images, valid_sizes, train_detection, strict=True)
            if detected
        ]
        batch: dict[str, Any] = {"pixel_values": _padded([item["pixel_values"] for item in items], size)}
        if any(valid != size for valid in valid_sizes):
            batch["pixel_mask"] = torch.zeros(len(items), *size, dtype=torch.bool)
            for mask, (height, width) in zip(batch["pixel_mask"], valid_sizes, strict=True):
                mask[:height, :width] = True
        words = _joined_words([item["labels"] for item in items])
        batch["labels"] = {**words, **_batch_targets(targets), **self._readings(images, words)}
        return {**batch, "train_detection": torch.tensor(train_detection)} if self.reads else batch

    def _readings(self, images: list[TextInstances], words: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Where the words are, for a spotter, and what they say."""
        if not self.reads:
            return {}
        from ..models.tcm.recognition.proposals import words_to_bezier

        pairs = [words_to_bezier(one.polygons, one.texts or [None] * len(one)) for one in images]
        fitted = torch.from_numpy(np.concatenate([known for _, known in pairs]))
        char_ids = words.get("char_ids", torch.zeros(len(fitted), 1, dtype=torch.int64))
        return {
            "control_points": torch.from_numpy(np.concatenate([points for points, _ in pairs])),
            "char_ids": char_ids * fitted[:, None],
        }


def _padded_size(images: Sequence[torch.Tensor]) -> tuple[int, int]:
    """The smallest height and width that hold images (3, h, w) and that the model takes."""
    height, width = (-(-max(image.shape[side] for image in images) // SIZE_DIVISOR) * SIZE_DIVISOR for side in (1, 2))
    return height, width


def _valid_size(item: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the image of an item, which may be padded right and below by its mask (H, W)."""
    mask = item.get("pixel_mask")
    if mask is None:
        return tuple(item["pixel_values"].shape[1:])
    return int(mask[:, 0].sum()), int(mask[0].sum())


def _padded(images: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Images (3, h, w) as one batch (B, 3, H, W) in shared memory, filled once; what is padded is grey or zero."""
    channels, dtype = images[0].shape[0], images[0].dtype
    if dtype == torch.uint8:  # channels last, as pictures are: rows are copied as they lie
        batch = _empty((len(images), *size, channels), dtype).permute(0, 3, 1, 2)
        padding = torch.tensor(MEAN_COLOUR, dtype=dtype)[:, None, None]
    else:
        batch = _empty((len(images), channels, *size), dtype)
        padding = torch.zeros(1, 1, 1, dtype=dtype)
    for target, image in zip(batch, images, strict=True):
        height, width = image.shape[1:]
        target[:, :height, :width] = image
        target[:, height:], target[:, :height, width:] = padding, padding
    return batch


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor to be filled, in a worker one that is sent without being copied."""
    size = math.prod(shape) * dtype.itemsize
    if get_worker_info() is None or not size:
        return torch.empty(shape, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(torch.UntypedStorage._new_shared(size)).view(shape)


def _joined_words(labels: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What the image processor says of the words of each image, those of all images in a row."""
    joined = {name: torch.cat([label[name] for label in labels]) for name in ("points", "counts", "ignore")}
    joined["word_counts"] = torch.tensor([len(label["counts"]) for label in labels])
    joined["orig_size"] = torch.stack([label["orig_size"] for label in labels])
    if all("class_labels" in label for label in labels):
        joined["class_labels"] = torch.cat([label["class_labels"] for label in labels])
    if any("char_ids" in label for label in labels):
        unknown = [label.get("char_ids", torch.zeros(len(label["counts"]), 1, dtype=torch.int64)) for label in labels]
        longest = max(ids.shape[1] for ids in unknown)
        joined["char_ids"] = torch.cat([torch.nn.functional.pad(ids, (0, longest - ids.shape[1])) for ids in unknown])
    return joined


def _batch_targets(targets: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """The targets of all images by name, see `TextDetectionCollator.__call__`."""
    batch: dict[str, torch.Tensor] = {}
    for name in targets[0] if targets else ():
        arrays = [one[name] for one in targets]
        if len({array.shape for array in arrays}) == 1:
            batch[name] = _empty((len(arrays), *arrays[0].shape), torch.from_numpy(arrays[0]).dtype)
            np.stack(arrays, out=batch[name].numpy())
        else:
            batch[name] = torch.from_numpy(np.concatenate(arrays))
            batch[f"{name}_counts"] = torch.tensor([len(array) for array in arrays])
    return batch


def labels_by_image(labels: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The words of a batch of the collator for each image, as the image processor made them."""
    counts = labels["word_counts"].tolist()
    vertices = [int(part.sum()) for part in labels["counts"].split(counts)]
    parts = {"points": labels["points"].split(vertices), "orig_size": labels["orig_size"].unbind()}
    for name in ("counts", "ignore", "class_labels", "char_ids", "control_points"):
        if name in labels:
            parts[name] = labels[name].split(counts)
    return [{name: values[index] for name, values in parts.items()} for index in range(len(counts))]


def label_instances(label: dict[str, torch.Tensor]) -> TextInstances:
    """One image's label with its words, in pixels of the network's input; see `labels_to_instances`."""
    return replace(labels_to_instances(label), texts=label_words(label))


def labels_to_instances(label: dict[str, torch.Tensor]) -> TextInstances:
    """The polygons and ignore flags of one image's label, in pixels of the network's input.

    Points further out than `MAX_COORDINATE` are moved there; of outlines with more than `MAX_VERTICES` points so many
    are taken, evenly.
    """
    points = label["points"].cpu().clamp(-MAX_COORDINATE, MAX_COORDINATE)
    polygons = [_thinned(polygon.numpy()) for polygon in torch.split(points, label["counts"].tolist())]
    classes = label.get("class_labels")
    return TextInstances(
        polygons, labels=None if classes is None else classes.cpu().numpy(), ignore=label["ignore"].cpu().numpy()
    )


def _thinned(polygon: Any) -> Any:
    """At most `MAX_VERTICES` points (K, 2) of an outline."""
    if len(polygon) <= MAX_VERTICES:
        return polygon
    return polygon[np.linspace(0, len(polygon), MAX_VERTICES, endpoint=False).astype(np.int64)]


def label_words(label: dict[str, torch.Tensor]) -> list[str | None]:
    """The words of one image's label, `None` where unknown."""
    if "char_ids" not in label:
        return [None] * len(label["counts"])
    return ["".join(chr(code) for code in row if code) or None for row in label["char_ids"].tolist()]
