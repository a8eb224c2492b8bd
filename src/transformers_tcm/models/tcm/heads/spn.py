"""SPN: the segmentation proposals of Mask TextSpotter v3.

Reference: Liao et al., "Mask TextSpotter v3: Segmentation Proposal Network for Robust Scene Text Spotting", ECCV 2020.

The head is the proposal network alone. What the paper does with each proposal besides reading it, to classify and move
its box, to segment the word anew and to segment its characters, is left out: outline and score of a word are those of
its proposal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput

from .... import geometry
from ....instances import TextInstances
from ..losses_tcm import dice_loss
from ..strict_tcm import strict_frozen
from .base import DecodingSettings, DetectionHead, HeadInputs, Regions, check_range, stacked, valid_parts
from .necks import ConcatenatedFPN
from .shrinking import find_regions, map_branch, map_logits, offset_in_pixels, shrink_distance

__all__ = ["SPNConfig", "SPNDecoding", "SPNHead", "SPNOutput"]

# How far a simplified outline may leave the pixels' one, as a share of its perimeter.
TOLERANCE = 0.01


@strict_frozen
@dataclass(frozen=True)
class SPNConfig:
    """Settings of the SPN head.

    Args:
        neck_channels: width of the pyramid, a multiple of 4.
        hidden_channels: width of the branch for the map.
        shrink_ratio: r of the shrunk text regions, moved in by area x (1 - r^2) / perimeter.
        min_short_side: words with a shorter side (pixels of the network's input) are ignored in training.
    """

    neck_channels: int = 256
    hidden_channels: int = 64
    shrink_ratio: float = 0.4
    min_short_side: float | int = 0

    def __post_init__(self) -> None:
        if self.neck_channels < 4 or self.neck_channels % 4 or self.hidden_channels < 1:
            raise ValueError(
                "`neck_channels` must be a positive multiple of 4 and `hidden_channels` positive, got "
                f"{self.neck_channels} and {self.hidden_channels}"
            )
        if not 0 < self.shrink_ratio < 1:
            raise ValueError(f"`shrink_ratio` must lie between 0 and 1, got {self.shrink_ratio}")
        check_range(self, min_short_side=(0, None))


@strict_frozen
@dataclass(frozen=True)
class SPNDecoding(DecodingSettings):
    """How proposals are read from the map; `box_threshold` bounds its mean in the smallest rectangle around a region.

    `max_candidates` takes the largest regions. With `polygon` outlines follow them, otherwise they are rectangles.

    Args:
        threshold: a pixel of the map above this is text, in [0, 1].
        unclip_ratio: how far the outline of a shrunk region is grown, as a multiple of area / perimeter.
        box_unclip_ratio: how far the rectangle around a shrunk region is grown, likewise of its own.
    """

    box_threshold: float | int = 0.1
    min_size: float | int = 5
    polygon: bool = True
    threshold: float | int = 0.1
    unclip_ratio: float | int = 3.0
    box_unclip_ratio: float | int = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, threshold=(0, 1), unclip_ratio=(0, None), box_unclip_ratio=(0, None))


@dataclass
class SPNOutput(ModelOutput):
    """The map of the SPN head.

    Args:
        prob_map: (B, 1, H, W) probability of shrunk text at the network's input size, in [0, 1].
    """

    prob_map: torch.Tensor


class SPNHead(DetectionHead):
    """Pyramid and one map of shrunk text."""

    config_class = SPNConfig
    decoding_class = SPNDecoding
    presets = {
        "tiny": {"neck_channels": 128, "hidden_channels": 32},
        "small": {"neck_channels": 192, "hidden_channels": 48},
    }
    display_name = "SPN (Mask TextSpotter v3)"
    paper = "Liao et al., Mask TextSpotter v3: Segmentation Proposal Network for Robust Scene Text Spotting, ECCV 2020"
    score_map_loss = "dice"
    # In float16, see `map_logits`. The model collects these names.
    keep_in_float32 = ("probability.0", "probability.1")

    def __init__(self, settings: SPNConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes)
        self.neck = ConcatenatedFPN(in_channels, settings.neck_channels)
        self.probability = map_branch(settings.neck_channels, settings.hidden_channels)

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> SPNOutput:
        return SPNOutput(prob_map=map_logits(self.probability, self.neck(inputs.pyramid)).sigmoid())

    def loss(self, maps: SPNOutput, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Dice loss over the batch as a whole."""
        return {"loss_segmentation": dice_loss(maps.prob_map, *self.score_map_targets(labels))}

    @staticmethod
    def targets(
        instances: TextInstances, size: tuple[int, int], valid_size: tuple[int, int], settings: SPNConfig
    ) -> dict[str, np.ndarray]:
        """`shrink_map` and `shrink_mask` (height, width) uint8 of one image, the shrunk text and where it counts.

        Ignored, tiny and vanishing words are masked out.
        """
        import cv2

        shrink_map, shrink_mask = np.zeros(size, np.uint8), np.ones(size, np.uint8)
        for polygon, ignore in zip(instances.polygons, instances.ignored, strict=True):
            too_small = geometry.word_height(polygon) < settings.min_short_side
            distance = shrink_distance(polygon, settings.shrink_ratio)
            shrunk = [] if ignore or too_small else offset_in_pixels(polygon, -distance)
            cv2.fillPoly(
                shrink_map if shrunk else shrink_mask,
                [(shrunk[0] if shrunk else polygon).astype(np.int32)],
                int(bool(shrunk)),
            )
        shrink_mask[valid_size[0] :], shrink_mask[:, valid_size[1] :] = 0, 0
        return {"shrink_map": shrink_map, "shrink_mask": shrink_mask}

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return stacked(labels, "shrink_map").float()[:, None], stacked(labels, "shrink_mask").float()[:, None]

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: SPNDecoding) -> Regions:
        """Regions of the binarised map (B, 1, H, W), grown back to words."""
        outlines: list[list[np.ndarray]] = []
        scores = []
        for probabilities in valid_parts(maps["prob_map"], valid_sizes, "prob_map"):
            regions = find_regions(probabilities[0], decoding, scored=_rectangle_in_pixels)
            grown = [(_grown(outline, decoding), score) for outline, score in regions]
            outlines.append([outline for outline, _ in grown if outline is not None])
            scores.append(np.array([score for outline, score in grown if outline is not None]))
        return Regions.from_outlines(outlines, scores)


def _rectangle(outline: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of the smallest rectangle around an outline."""
    import cv2

    return cv2.boxPoints(cv2.minAreaRect(outline))


def _rectangle_in_pixels(contour: np.ndarray) -> np.ndarray:
    """The smallest rectangle (4, 1, 2) around a contour (K, 1, 2)."""
    return np.trunc(_rectangle(contour)).astype(np.int32)[:, None]


def _grown(outline: np.ndarray, decoding: SPNDecoding) -> np.ndarray | None:
    """The outline of a word from that of its shrunk region (K, 2); `None` where it is none or falls apart."""
    if not decoding.polygon:
        rectangle = _grown_in_pixels(_rectangle(outline), float(decoding.box_unclip_ratio))
        return None if rectangle is None else geometry.min_area_quad(rectangle)
    polygon = _grown_in_pixels(_simplified(outline), float(decoding.unclip_ratio))
    return None if polygon is None else geometry.order_clockwise(polygon)


def _simplified(outline: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.approxPolyDP(outline[:, None], TOLERANCE * geometry.perimeter(outline), True)[:, 0]


def _grown_in_pixels(outline: np.ndarray, ratio: float) -> np.ndarray | None:
    """An outline (K, 2) moved out by a multiple of its area / perimeter, with round corners, on whole pixels."""
    if len(outline) < 3:
        return None
    grown = offset_in_pixels(outline, geometry.unclip_distance(outline, ratio))
    return grown[0] if len(grown) == 1 else None
