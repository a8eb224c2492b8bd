"""DBNet: differentiable binarisation of a probability map by a learned threshold map.

References: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020;
"Real-Time Scene Text Detection with Differentiable Binarization and Adaptive Scale Fusion" (DBNet++), TPAMI 2022.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput

from .... import geometry
from ....instances import TextInstances
from ..losses_tcm import balanced_binary_cross_entropy, dice_loss
from ..strict_tcm import strict_frozen
from .base import DecodingSettings, DetectionHead, HeadInputs, Regions, check_range, stacked, valid_parts
from .necks import ConcatenatedFPN
from .shrinking import (
    find_quads,
    find_regions,
    map_branch,
    map_logits,
    offset_in_pixels,
    parts_of_regions,
    quads_around,
    shrink_distance,
)

__all__ = ["DBNetConfig", "DBNetDecoding", "DBNetHead", "DBNetOutput"]


@strict_frozen
@dataclass(frozen=True)
class DBNetConfig:
    """Settings of the DBNet head.

    Args:
        neck_channels: width of the pyramid, a multiple of 4.
        hidden_channels: width of the two branches.
        adaptive_scale_fusion: weigh pyramid levels at every pixel (DBNet++).
        steepness: k of the approximate step function 1 / (1 + exp(-k (P - T))).
        shrink_ratio: r of the shrunk text regions, moved in by area x (1 - r^2) / perimeter.
        threshold_min: lowest value of the threshold map's target.
        threshold_max: its highest value, on the outlines.
        min_short_side: words with a shorter side (pixels of the network's input) are ignored in training.
        negative_ratio: hard negatives for each positive pixel.
        prob_weight: weight of the probability map's cross-entropy, relative to the binary map's dice loss.
        threshold_weight: weight of the threshold map's L1 loss.
    """

    neck_channels: int = 256
    hidden_channels: int = 64
    adaptive_scale_fusion: bool = False
    steepness: float | int = 50.0
    shrink_ratio: float = 0.4
    threshold_min: float = 0.3
    threshold_max: float = 0.7
    min_short_side: float | int = 8.0
    negative_ratio: float | int = 3.0
    prob_weight: float | int = 5.0
    threshold_weight: float | int = 10.0

    def __post_init__(self) -> None:
        if self.neck_channels < 4 or self.neck_channels % 4 or self.hidden_channels < 1:
            raise ValueError(
                "`neck_channels` must be a positive multiple of 4 and `hidden_channels` positive, got "
                f"{self.neck_channels} and {self.hidden_channels}"
            )
        if not 0 < self.shrink_ratio < 1:
            raise ValueError(f"`shrink_ratio` must lie between 0 and 1, got {self.shrink_ratio}")
        if not 0 <= self.threshold_min < self.threshold_max <= 1:
            raise ValueError(
                "expected 0 <= `threshold_min` < `threshold_max` <= 1, "
                f"got {self.threshold_min} and {self.threshold_max}"
            )


@strict_frozen
@dataclass(frozen=True)
class DBNetDecoding(DecodingSettings):
    """How words are read from the probability map; `max_candidates` takes the largest regions.

    Args:
        threshold: a pixel of the probability map above this is text, in [0, 1].
        unclip_ratio: how far the shrunk text regions are grown again, as a multiple of area / perimeter.
    """

    threshold: float | int = 0.3
    unclip_ratio: float | int = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, threshold=(0, 1), unclip_ratio=(0, None))


@dataclass
class DBNetOutput(ModelOutput):
    """Maps of the DBNet head at the network's input size, all in [0, 1].

    Args:
        prob_map: (B, 1, H, W) probability of (shrunk) text.
        threshold_map: (B, 1, H, W) adaptive threshold; only in training or where asked for.
        binary_map: (B, 1, H, W) approximate binary map; only in training or where asked for.
    """

    prob_map: torch.Tensor
    threshold_map: torch.Tensor | None = None
    binary_map: torch.Tensor | None = None


class DBNetHead(DetectionHead):
    """Pyramid, probability branch and threshold branch."""

    config_class = DBNetConfig
    decoding_class = DBNetDecoding
    presets = {
        "tiny": {"neck_channels": 128, "hidden_channels": 32},
        "small": {"neck_channels": 192, "hidden_channels": 48},
    }
    display_name = "DBNet"
    paper = "Liao et al., Real-time Scene Text Detection with Differentiable Binarization, AAAI 2020"
    score_map_loss = "bce"
    keep_in_float32 = ("probability.0", "probability.1", "threshold.0", "threshold.1")

    def __init__(self, settings: DBNetConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes)
        self.neck = ConcatenatedFPN(in_channels, settings.neck_channels, settings.adaptive_scale_fusion)
        self.probability = map_branch(settings.neck_channels, settings.hidden_channels)
        self.threshold = map_branch(settings.neck_channels, settings.hidden_channels)

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> DBNetOutput:
        features = self.neck(inputs.pyramid)
        # Sigmoids in float32: the steep step function would turn the rounding of half precision into noise.
        prob_map = map_logits(self.probability, features).sigmoid()
        if not with_training_maps:
            return DBNetOutput(prob_map=prob_map)
        threshold_map = map_logits(self.threshold, features).sigmoid()
        binary_map = torch.sigmoid(self.settings.steepness * (prob_map - threshold_map))
        return DBNetOutput(prob_map=prob_map, threshold_map=threshold_map, binary_map=binary_map)

    def loss(self, maps: DBNetOutput, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Cross-entropy with hard negatives, dice and L1 terms, all over the batch as a whole."""
        assert maps.threshold_map is not None  # `forward` makes both maps where there are labels
        assert maps.binary_map is not None
        names = ("shrink_map", "shrink_mask", "threshold_map", "threshold_mask")
        shrink_map, shrink_mask, threshold_map, threshold_mask = (
            stacked(labels, name).float()[:, None]  # (B, H, W) -> (B, 1, H, W)
            for name in names
        )
        probability_loss = balanced_binary_cross_entropy(
            maps.prob_map, shrink_map, shrink_mask, self.settings.negative_ratio
        )
        distance = (maps.threshold_map - threshold_map).abs() * threshold_mask
        return {
            "loss_prob": self.settings.prob_weight * probability_loss,
            "loss_binary": dice_loss(maps.binary_map, shrink_map, shrink_mask),
            "loss_threshold": self.settings.threshold_weight * distance.sum() / threshold_mask.sum().clamp(min=1e-6),
        }

    @staticmethod
    def targets(
        instances: TextInstances, size: tuple[int, int], valid_size: tuple[int, int], settings: DBNetConfig
    ) -> dict[str, np.ndarray]:
        """Target maps (height, width) of one image.

        `shrink_map` and `shrink_mask` are uint8, the shrunk text and where it counts; `threshold_map` float16, highest
        on the outlines, and `threshold_mask` uint8, where it counts. Ignored, tiny and vanishing words are masked out.
        """
        import cv2

        shrink_map, threshold_mask = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        shrink_mask = np.ones(size, np.uint8)
        threshold_map = np.full(size, settings.threshold_min, np.float16)
        for polygon, ignore in zip(instances.polygons, instances.ignored, strict=True):
            distance = shrink_distance(polygon, settings.shrink_ratio)
            shrunk = [] if ignore or _is_tiny(polygon, settings) else offset_in_pixels(polygon, -int(distance + 0.5))
            if len(shrunk) != 1:
                cv2.fillPoly(shrink_mask, [polygon.astype(np.int32)], 0)
                continue
            cv2.fillPoly(shrink_map, [shrunk[0].astype(np.int32)], 1)
            _draw_border(polygon, distance, settings, threshold_map, threshold_mask)
        for mask in (shrink_mask, threshold_mask):
            mask[valid_size[0] :], mask[:, valid_size[1] :] = 0, 0
        return {
            "shrink_map": shrink_map,
            "shrink_mask": shrink_mask,
            "threshold_map": threshold_map,
            "threshold_mask": threshold_mask,
        }

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return stacked(labels, "shrink_map").float()[:, None], stacked(labels, "shrink_mask").float()[:, None]

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: DBNetDecoding) -> Regions:
        """Regions of the binarised probability map (B, 1, H, W), grown back to words."""
        find = _find_polygons if decoding.polygon else _find_quads
        found = [find(part[0], decoding) for part in valid_parts(maps["prob_map"], valid_sizes, "prob_map")]
        return Regions.from_outlines([outlines for outlines, _ in found], [scores for _, scores in found])

    @staticmethod
    def split(
        maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: DBNetDecoding, regions: Regions
    ) -> tuple[Regions, Sequence[int]]:
        """Regions that a valley of the probability map runs through, cut along it."""
        polygons, images = regions.polygons(), regions.batch_indices.cpu().numpy()
        outlines, scores, sources = [], [], []
        for image, part in enumerate(valid_parts(maps["prob_map"], valid_sizes, "prob_map")):
            here = np.flatnonzero(images == image).tolist()
            contours, means, places = parts_of_regions(part[0], [polygons[index] for index in here], decoding)
            found = zip(_grown(contours, decoding), means, places, strict=True)
            kept = [(outline, mean, here[place]) for outline, mean, place in found if outline is not None]
            outlines.append([outline for outline, _, _ in kept])
            scores.append(np.array([mean for _, mean, _ in kept]))
            sources += [source for _, _, source in kept]
        return Regions.from_outlines(outlines, scores), sources


def _is_tiny(polygon: np.ndarray, settings: DBNetConfig) -> bool:
    """Too small to learn from: less than a pixel of area, or too thin."""
    if abs(geometry.signed_area(polygon)) < 1:
        return True
    quad = geometry.min_area_quad(polygon)
    sides = np.linalg.norm(quad[[1, 3]] - quad[0], axis=1)
    return bool(sides.min() < settings.min_short_side)


def _draw_border(
    polygon: np.ndarray, distance: float, settings: DBNetConfig, threshold_map: np.ndarray, mask: np.ndarray
) -> None:
    """Raise the threshold near an outline, to its highest there, and mark the dilated polygon, both in place."""
    import cv2

    dilated = offset_in_pixels(polygon, distance)
    if len(dilated) != 1:
        return
    cv2.fillPoly(mask, [dilated[0].astype(np.int32)], 1)
    height, width = threshold_map.shape
    left, top = np.clip(np.floor(dilated[0].min(axis=0)).astype(int), 0, [width, height])
    right, bottom = np.clip(np.ceil(dilated[0].max(axis=0)).astype(int) + 1, 0, [width, height])
    if left >= right or top >= bottom:
        return
    away = _distance_to_outline(polygon, np.arange(left, right), np.arange(top, bottom)) / distance
    near = settings.threshold_max - (settings.threshold_max - settings.threshold_min) * away
    target = threshold_map[top:bottom, left:right]
    np.maximum(target, near.astype(np.float16), out=target)


def _distance_to_outline(polygon: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distance (H, W) of the pixels in columns (W,) and rows (H,) to the closest edge; a raster's would be rounded."""
    x, y = columns.astype(np.float32), rows.astype(np.float32)[:, None]
    nearest = np.full((len(rows), len(columns)), np.inf, np.float32)
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        (from_x, from_y), (edge_x, edge_y) = start, end - start
        squared_length = max(edge_x**2 + edge_y**2, 1e-9)
        # Where on the edge, from 0 to 1, its closest point lies.
        along = np.clip(((x - from_x) * edge_x + (y - from_y) * edge_y) / squared_length, 0, 1)
        squared = (x - from_x - along * edge_x) ** 2 + (y - from_y - along * edge_y) ** 2
        np.minimum(nearest, squared, out=nearest)
    return np.sqrt(nearest)


def _find_quads(probabilities: np.ndarray, decoding: DBNetDecoding) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Words of a map (H, W) as quads (N, 4, 2), and their scores (N,)."""
    quads, scores = find_quads(probabilities, decoding)
    return list(geometry.unclip_quads(quads, decoding.unclip_ratio)), scores


def _find_polygons(probabilities: np.ndarray, decoding: DBNetDecoding) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Words of a map (H, W) as outlines (M, 2), and their scores (N,)."""
    regions = find_regions(probabilities, decoding)
    grown = _unclip_polygons([outline for outline, _ in regions], decoding.unclip_ratio)
    kept = [(one, score) for one, (_, score) in zip(grown, regions, strict=True) if one is not None]
    outlines = geometry.order_outlines_clockwise([outline for outline, _ in kept])
    return outlines, np.array([score for _, score in kept])


def _grown(contours: Sequence[np.ndarray], decoding: DBNetDecoding) -> Sequence[np.ndarray | None]:
    """Words as quads or outlines, of contours (K_i, 1, 2) of shrunk text; `None` for those that enclose nothing."""
    if not decoding.polygon:
        return list(geometry.unclip_quads(quads_around(contours), decoding.unclip_ratio))
    grown = _unclip_polygons([contour[:, 0].astype(np.float32) for contour in contours], decoding.unclip_ratio)
    return [None if one is None else geometry.order_outlines_clockwise([one])[0] for one in grown]


def _unclip_polygons(outlines: Sequence[np.ndarray], ratio: float) -> Iterator[np.ndarray | None]:
    """Grown outlines without the vertices that a pixel contour has in excess."""
    import cv2

    tolerances = (0.002 * geometry.perimeters(outlines)).tolist()
    simplified = [cv2.approxPolyDP(*one, True)[:, 0] for one in zip(outlines, tolerances, strict=True)]
    for outline, grown in zip(simplified, geometry.unclip_polygons(simplified, ratio), strict=True):
        # Lines and points enclose nothing.
        yield None if grown is None or min(len(outline), len(grown)) < 3 else grown
