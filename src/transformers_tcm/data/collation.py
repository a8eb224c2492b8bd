"""From single images to padded batches, with the head's target maps made here, in the worker process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..instances import TextInstances

if TYPE_CHECKING:
    from ..models.tcm.configuration_tcm import TCMConfig

__all__ = ["TextDetectionCollator", "labels_to_instances"]


class TextDetectionCollator:
    """Pads images to one size and adds the head's target maps to their labels.

    Args:
        config: its head makes the targets.
    """

    def __init__(self, config: "TCMConfig"):
        from ..models.tcm.heads import head_class

        self.head = head_class(config.head_type)
        self.settings = config.head_settings

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Items of `TextPhotos` or `RandomTextCrops` to the arguments of a model.

        Returns:
            `pixel_values` (B, 3, H, W), `pixel_mask` (B, H, W) and `labels`, a list of dicts: what the image processor
            made, and the head's targets (H, W) with the padding masked out.
        """
        height = max(item["pixel_values"].shape[1] for item in items)
        width = max(item["pixel_values"].shape[2] for item in items)
        masks = torch.stack([_pad(item["pixel_mask"], height, width) for item in items])
        return {
            "pixel_values": torch.stack([_pad(item["pixel_values"], height, width) for item in items]),
            "pixel_mask": masks,
            "labels": [
                {**item["labels"], **self._targets(item["labels"], mask)}
                for item, mask in zip(items, masks, strict=True)
            ],
        }

    def _targets(self, label: dict[str, torch.Tensor], pixel_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = pixel_mask.shape
        targets = self.head.targets(labels_to_instances(label), height, width, self.settings)
        inside = pixel_mask.numpy().astype(np.uint8)
        masked = {name: array * inside if name.endswith("_mask") else array for name, array in targets.items()}
        return {name: torch.from_numpy(array) for name, array in masked.items()}


def labels_to_instances(label: dict[str, torch.Tensor]) -> TextInstances:
    """The polygons and ignore flags of one image's label, in pixels of the network's input."""
    polygons = torch.split(label["points"].cpu(), label["counts"].tolist())
    return TextInstances([polygon.numpy() for polygon in polygons], ignore=label["ignore"].cpu().numpy())


def _pad(tensor: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Zeros to the right of and below (…, h, w)."""
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))
