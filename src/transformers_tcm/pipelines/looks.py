"""Looks at a picture: coarser ones for large letters (image pyramid), the picture turned upright, a crop in a margin.

The first two are made of the tensors that the image processor gave, so no picture is decoded or resized twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ..instances import TextInstances
from ..models.tcm.heads.base import Regions
from ..models.tcm.post_processing_tcm import to_original_size
from ..tiling import worth_reading

__all__ = [
    "CROP_MARGIN",
    "CROP_SCALE",
    "Batch",
    "Known",
    "Look",
    "coarser",
    "framed",
    "turned",
    "turned_back",
    "unframed",
    "worth_reading_again",
]

# Around a crop, in its pixels, and by how much it is enlarged at most: what reads most word crops and small signs of
# the validation set (docs/accuracy.md).
CROP_MARGIN, CROP_SCALE = 8, 3.0

# A look that is hardly smaller than the first shows nothing new.
_MOST_ALIKE = 0.8

# Inputs of the model by name, as the image processor makes them.
Batch = dict[str, torch.Tensor]


@dataclass
class Look:
    """What the model gave for some pictures of a batch.

    Args:
        indices: the pictures' places in the batch.
        outputs: of the model.
    """

    indices: list[int]
    outputs: Any


@dataclass
class Known:
    """What a coarse look at a picture follows.

    Args:
        instances: what a fine look found, in pixels of the picture.
        scale: by how much the picture is enlarged for the coarse look.
    """

    instances: TextInstances
    scale: float


def coarser(batch: Batch, longest_edge: int, divisor: int) -> Batch | None:
    """The same pictures smaller; `None` where they would hardly be smaller, and without any.

    Args:
        batch: `pixel_values` (B, 3, H, W) and `pixel_mask` (B, H, W) of the image processor.
        longest_edge: of the largest picture, in pixels.
        divisor: height and width become multiples of it.
    """
    pixels, sizes = batch["pixel_values"], _valid_sizes(batch["pixel_mask"])
    if not len(pixels):
        return None
    scale = longest_edge / int(sizes.max())
    if scale > _MOST_ALIKE:
        return None
    size = [max(1, round(side * scale)) for side in pixels.shape[-2:]]
    small = functional.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    smaller_sizes = (sizes * scale).round().long().clamp(min=1)
    if not pixels.is_floating_point():
        small = small.round()  # bytes are cut off
    return _padded(small.to(pixels.dtype), smaller_sizes, divisor)


def worth_reading_again(
    known: Sequence[Known], batch: Batch, target_sizes: torch.Tensor, regions: Regions
) -> list[int]:
    """Which regions of a coarse look at B pictures are worth reading, see `tiling.worth_reading`.

    Args:
        known: of each picture.
        batch: the coarse look's input.
        target_sizes: (B, 2) height and width of the pictures.
        regions: of the coarse look, in pixels of its input.
    """
    polygons, images = regions.polygons(), regions.batch_indices.cpu().numpy()
    ratios = (target_sizes / _valid_sizes(batch["pixel_mask"]).cpu()).tolist()
    kept: list[int] = []
    for image, (fine, (ratio_y, ratio_x)) in enumerate(zip(known, ratios, strict=True)):
        here = np.flatnonzero(images == image)
        coarse = TextInstances([polygons[index] for index in here]).scale(ratio_x, ratio_y)
        kept += here[worth_reading(fine.instances, coarse, fine.scale)].tolist()
    return kept


def turned(batch: Batch, quarter_turns: int, divisor: int) -> Batch:
    """One picture (1, 3, H, W) turned anticlockwise, padded right and below as before."""
    height, width = _valid_sizes(batch["pixel_mask"])[0].tolist()
    pixels = torch.rot90(batch["pixel_values"][..., :height, :width], quarter_turns, (-2, -1))
    return _padded(pixels, torch.tensor([pixels.shape[-2:]]), divisor)


def turned_back(instances: TextInstances, quarter_turns: int, size: tuple[int, int]) -> TextInstances:
    """What was found in a picture that was turned anticlockwise, in pixels of the picture of `size` (height, width)."""
    height, width = size
    # Of the upper left corner of the turned picture, and of a step to the right in it.
    origin = {1: (width, 0), 2: (width, height), 3: (0, height)}[quarter_turns]
    x_axis = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[quarter_turns]
    y_axis = (-x_axis[1], x_axis[0])
    matrix = np.array([x_axis, y_axis], np.float32)
    return instances.with_polygons([polygon @ matrix + np.array(origin, np.float32) for polygon in instances.polygons])


def framed(crop: Image.Image) -> Image.Image:
    """A crop in a margin of its border's median colour: words that touch the edge of a picture are hardly found."""
    pixels = np.asarray(crop.convert("RGB"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = np.median(border, axis=0).astype(int).tolist()
    size = (crop.width + 2 * CROP_MARGIN, crop.height + 2 * CROP_MARGIN)
    picture = Image.new("RGB", size, (red, green, blue))
    picture.paste(crop, (CROP_MARGIN, CROP_MARGIN))
    return picture


def unframed(instances: TextInstances, size: tuple[int, int]) -> TextInstances:
    """What was found in a picture of `size` (height, width) with a margin, in pixels of the crop in it."""
    moved = [polygon - np.float32(CROP_MARGIN) for polygon in instances.polygons]
    inner = (size[0] - 2 * CROP_MARGIN, size[1] - 2 * CROP_MARGIN)
    return to_original_size(instances.with_polygons(moved), inner, inner)


def _valid_sizes(pixel_mask: torch.Tensor) -> torch.Tensor:
    """Height and width (B, 2) of the pictures in masks (B, H, W)."""
    mask = pixel_mask.bool()
    return torch.stack([mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)], dim=1)


def _padded(pixels: torch.Tensor, sizes: torch.Tensor, divisor: int) -> Batch:
    """Pictures (B, 3, h, w) with zeros right and below, and their mask."""
    extra_rows, extra_columns = (-side % divisor for side in pixels.shape[-2:])
    pixels = functional.pad(pixels, (0, extra_columns, 0, extra_rows))
    rows, columns = (torch.arange(side) for side in pixels.shape[-2:])
    # (B, H, 1) and (B, 1, W)
    inside = (rows[None, :, None] < sizes[:, 0, None, None].cpu()) & (columns < sizes[:, 1, None, None].cpu())
    return {"pixel_values": pixels, "pixel_mask": inside.long().to(pixels.device)}
