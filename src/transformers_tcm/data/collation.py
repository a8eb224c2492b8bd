"""From single images to padded batches, with the head's target maps made here, in the worker process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..instances import TextInstances

if TYPE_CHECKING:
    from ..models.tcm.configuration_tcm import TCMConfig

# OpenCV draws no outline beyond this, and takes seconds for one that comes near it.
MAX_COORDINATE = 32_000
# Hundreds of vertices are finer than any annotation; thousands that cross each other would take minutes.
MAX_VERTICES = 512

__all__ = ["TextDetectionCollator", "label_words", "labels_to_instances"]


class TextDetectionCollator:
    """Pads images to one size and adds to their labels what the model learns from.

    Those are the head's target maps and, for a spotter, the control points of the words.

    Args:
        config: of the model; its head makes the targets.
        train_detection: `False` leaves the target maps out, to train a spotter's recogniser alone; those of items that
            say so themselves (`WordCollages`) are always left out.
    """

    def __init__(self, config: "TCMConfig", train_detection: bool = True):
        from ..models.tcm.heads import head_class

        self.head = head_class(config.head_type)
        self.settings = config.head_settings
        self.reads = config.recognizer is not None
        self.train_detection = train_detection
        if not self.reads and not train_detection:
            raise ValueError(
                "a detector has nothing to train without detection; give a configuration with `recognizer`"
            )

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Items of `TextPhotos`, `RandomTextCrops` or `WordCollages` to the arguments of a model.

        Returns:
            `pixel_values` (B, 3, H, W), `pixel_mask` (B, H, W) and `labels`, a list of dicts: what the image processor
            made, the head's targets (H, W) with the padding masked out, and for a spotter `control_points` (N, 8, 2)
            and `char_ids` (N, L), zeros for words that no two curves describe. For a spotter
            also `train_detection` (B,), whether an image has target maps.
        """
        height = max(item["pixel_values"].shape[1] for item in items)
        width = max(item["pixel_values"].shape[2] for item in items)
        masks = torch.stack([_pad(item["pixel_mask"], height, width) for item in items])
        train_detection = [self.train_detection and item.get("train_detection", True) for item in items]
        batch = {
            "pixel_values": torch.stack([_pad(item["pixel_values"], height, width) for item in items]),
            "pixel_mask": masks,
            "labels": [
                {
                    **item["labels"],
                    **(self._targets(item["labels"], mask) if detected else {}),
                    **self._words(item["labels"]),
                }
                for item, mask, detected in zip(items, masks, train_detection, strict=True)
            ],
        }
        return {**batch, "train_detection": torch.tensor(train_detection)} if self.reads else batch

    def _words(self, label: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Where the words are, for a spotter, and what they say."""
        if not self.reads:
            return {}
        from ..models.tcm.recognition.proposals import words_to_bezier

        char_ids = label.get("char_ids", torch.zeros(len(label["counts"]), 1, dtype=torch.int64))
        polygons = labels_to_instances(label).polygons
        control_points, fitted = words_to_bezier(polygons, label_words(label))
        return {
            "control_points": torch.from_numpy(control_points),
            "char_ids": char_ids * torch.from_numpy(fitted)[:, None],
        }

    def _targets(self, label: dict[str, torch.Tensor], pixel_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = pixel_mask.shape
        targets = self.head.targets(labels_to_instances(label), height, width, self.settings)
        inside = pixel_mask.numpy().astype(np.uint8)
        masked = {name: array * inside if name.endswith("_mask") else array for name, array in targets.items()}
        return {name: torch.from_numpy(array) for name, array in masked.items()}


def labels_to_instances(label: dict[str, torch.Tensor]) -> TextInstances:
    """The polygons and ignore flags of one image's label, in pixels of the network's input.

    Points further out than `MAX_COORDINATE` are moved there; of outlines with more than `MAX_VERTICES` points so many
    are taken, evenly.
    """
    points = label["points"].cpu().clamp(-MAX_COORDINATE, MAX_COORDINATE)
    polygons = [_thinned(polygon.numpy()) for polygon in torch.split(points, label["counts"].tolist())]
    return TextInstances(polygons, ignore=label["ignore"].cpu().numpy())


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


def _pad(tensor: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Zeros to the right of and below (…, h, w)."""
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))
