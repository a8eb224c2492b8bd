"""DBNet: differentiable binarisation of a probability map by a learned threshold map.

References: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020;
"Real-Time Scene Text Detection with Differentiable Binarization and Adaptive Scale Fusion" (DBNet++), TPAMI 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from torch import nn

from .... import geometry
from ....instances import TextInstances
from ..losses_tcm import balanced_binary_cross_entropy, dice_loss
from .base import DetectionHead, HeadOutput, stack_targets
from .necks import ConcatenatedFPN

__all__ = ["DBNetConfig", "DBNetHead", "DBNetOutput"]


@strict
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


@dataclass
class DBNetOutput(HeadOutput):
    """Maps of the DBNet head at the network's input size, all in [0, 1].

    Args:
        prob_map: (B, 1, H, W) probability of (shrunk) text.
        threshold_map: (B, 1, H, W) adaptive threshold; only in training or where asked for.
        binary_map: (B, 1, H, W) approximate binary map; only in training or where asked for.
    """

    prob_map: torch.Tensor
    threshold_map: torch.Tensor | None = None
    binary_map: torch.Tensor | None = None

    def decode(
        self,
        valid_sizes: torch.Tensor,
        threshold: float,
        box_threshold: float,
        unclip_ratio: float,
        max_candidates: int,
        min_size: float,
        polygon: bool,
    ) -> list[TextInstances]:
        """See `HeadOutput.decode`: regions of the binarised probability map (B, 1, H, W), grown back to words."""
        decoded = []
        for prob_map, (height, width) in zip(self.prob_map[:, 0], valid_sizes.tolist(), strict=True):
            probabilities = np.ascontiguousarray(prob_map[:height, :width].detach().float().cpu().numpy())
            regions = _find_regions(probabilities, threshold, box_threshold, max_candidates, min_size)
            grow = _grow_polygon if polygon else _grow_quad
            grown = [(grow(outline, unclip_ratio), score) for outline, score in regions]
            kept = [(outline, score) for outline, score in grown if outline is not None]
            outlines, scores = [outline for outline, _ in kept], np.array([score for _, score in kept])
            decoded.append(TextInstances(outlines, scores=scores))
        return decoded


class DBNetHead(DetectionHead):
    """Pyramid, probability branch and threshold branch."""

    config_class = DBNetConfig
    score_map_loss = "bce"

    def __init__(self, settings: DBNetConfig, in_channels: Sequence[int]):
        super().__init__()
        self.settings = settings
        self.neck = ConcatenatedFPN(in_channels, settings.neck_channels, settings.adaptive_scale_fusion)
        self.probability = _map_branch(settings.neck_channels, settings.hidden_channels)
        self.threshold = _map_branch(settings.neck_channels, settings.hidden_channels)

    def forward(self, pyramid: Sequence[torch.Tensor], with_training_maps: bool = True) -> DBNetOutput:
        features = self.neck(pyramid)
        # Sigmoids in float32: the steep step function would turn the rounding of half precision into noise.
        prob_map = self.probability(features).float().sigmoid()
        if not with_training_maps:
            return DBNetOutput(prob_map=prob_map)
        threshold_map = self.threshold(features).float().sigmoid()
        binary_map = torch.sigmoid(self.settings.steepness * (prob_map - threshold_map))
        return DBNetOutput(prob_map=prob_map, threshold_map=threshold_map, binary_map=binary_map)

    def loss(self, output: DBNetOutput, labels: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Cross-entropy with hard negatives, dice and L1 terms, all over the batch as a whole."""
        assert output.threshold_map is not None  # `forward` makes both maps where there are labels
        assert output.binary_map is not None
        shrink_map, shrink_mask = stack_targets(labels, "shrink_map"), stack_targets(labels, "shrink_mask")
        threshold_map = stack_targets(labels, "threshold_map")
        threshold_mask = stack_targets(labels, "threshold_mask")
        probability_loss = balanced_binary_cross_entropy(
            output.prob_map, shrink_map, shrink_mask, self.settings.negative_ratio
        )
        distance = (output.threshold_map - threshold_map).abs() * threshold_mask
        return {
            "loss_prob": self.settings.prob_weight * probability_loss,
            "loss_binary": dice_loss(output.binary_map, shrink_map, shrink_mask),
            "loss_threshold": self.settings.threshold_weight * distance.sum() / threshold_mask.sum().clamp(min=1e-6),
        }

    @staticmethod
    def targets(
        instances: TextInstances, height: int, width: int, settings: DBNetConfig | None = None
    ) -> dict[str, np.ndarray]:
        """Target maps (height, width) of one image.

        `shrink_map` and `shrink_mask` are uint8, the shrunk text and where it counts; `threshold_map`
        float32, highest on the outlines, and `threshold_mask` uint8, where it counts. Ignored, tiny and vanishing words
        are masked out.
        """
        import cv2

        settings = settings or DBNetConfig()
        low, high = settings.threshold_min, settings.threshold_max
        shrink_map = np.zeros((height, width), np.uint8)
        shrink_mask = np.ones((height, width), np.uint8)
        closeness = np.zeros((height, width), np.float32)
        threshold_mask = np.zeros((height, width), np.uint8)
        for polygon, ignore in zip(instances.polygons, instances.ignored, strict=True):
            distance = _shrink_distance(polygon, settings.shrink_ratio)
            shrunk = [] if ignore or _is_tiny(polygon, settings) else _offset_in_pixels(polygon, -int(distance + 0.5))
            if len(shrunk) != 1:
                cv2.fillPoly(shrink_mask, [polygon.astype(np.int32)], 0)
                continue
            cv2.fillPoly(shrink_map, [shrunk[0].astype(np.int32)], 1)
            _draw_border(polygon, distance, closeness, threshold_mask)
        return {
            "shrink_map": shrink_map,
            "shrink_mask": shrink_mask,
            "threshold_map": low + (high - low) * closeness,
            "threshold_mask": threshold_mask,
        }

    @staticmethod
    def score_map_targets(labels: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        return stack_targets(labels, "shrink_map"), stack_targets(labels, "shrink_mask")


def _map_branch(in_channels: int, hidden_channels: int) -> nn.Sequential:
    """One full-resolution map of logits from features at stride 4."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden_channels),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(hidden_channels, hidden_channels, 2, 2),
        nn.BatchNorm2d(hidden_channels),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(hidden_channels, 1, 2, 2),
    )


def _shrink_distance(polygon: np.ndarray, ratio: float) -> float:
    """How far a polygon is moved in: area x (1 - ratio^2) / perimeter, in pixels."""
    return abs(geometry.signed_area(polygon)) * (1 - ratio**2) / (geometry.perimeter(polygon) + 1e-3)


def _offset_in_pixels(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    """Outlines on whole pixels, as the released detectors were trained on."""
    return geometry.offset_polygon(np.trunc(polygon), distance, precision=1)


def _is_tiny(polygon: np.ndarray, settings: DBNetConfig) -> bool:
    """Too small to learn from: less than a pixel of area, or too thin."""
    if abs(geometry.signed_area(polygon)) < 1:
        return True
    quad = geometry.min_area_quad(polygon)
    sides = np.linalg.norm(quad[[1, 3]] - quad[0], axis=1)
    return bool(sides.min() < settings.min_short_side)


def _draw_border(polygon: np.ndarray, distance: float, closeness: np.ndarray, mask: np.ndarray) -> None:
    """Raise `closeness` to 1 - d / distance, d from the outline; mark the dilated polygon in `mask`."""
    import cv2

    dilated = _offset_in_pixels(polygon, distance)
    if len(dilated) != 1:
        return
    cv2.fillPoly(mask, [dilated[0].astype(np.int32)], 1)
    height, width = closeness.shape
    left, top = np.clip(np.floor(dilated[0].min(axis=0)).astype(int), 0, [width, height])
    right, bottom = np.clip(np.ceil(dilated[0].max(axis=0)).astype(int) + 1, 0, [width, height])
    if left >= right or top >= bottom:
        return
    near = 1 - _distance_to_outline(polygon, np.arange(left, right), np.arange(top, bottom)) / distance
    target = closeness[top:bottom, left:right]
    np.maximum(target, near, out=target)


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


def _find_regions(
    probabilities: np.ndarray, threshold: float, box_threshold: float, max_candidates: int, min_size: float
) -> list[tuple[np.ndarray, float]]:
    """Outlines (K, 2) of text regions in a (H, W) map and their mean probability."""
    import cv2

    contours, _ = cv2.findContours((probabilities > threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > max_candidates:
        contours = sorted(contours, key=cv2.contourArea, reverse=True)[:max_candidates]
    regions = []
    for contour in contours:
        if min(cv2.minAreaRect(contour)[1]) >= min_size:
            score = _mean_inside(probabilities, contour)
            if score >= box_threshold:
                regions.append((contour[:, 0].astype(np.float32), score))
    return regions


def _mean_inside(probabilities: np.ndarray, contour: np.ndarray) -> float:
    """Mean of the map inside a contour (K, 1, 2), looked at within its bounding box only."""
    import cv2

    left, top, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [contour - np.array([left, top], dtype=contour.dtype)], 1)
    return cv2.mean(probabilities[top : top + height, left : left + width], inside)[0]


def _grow_quad(outline: np.ndarray, ratio: float) -> np.ndarray:
    return geometry.unclip_quad(geometry.min_area_quad(outline), ratio)


def _grow_polygon(outline: np.ndarray, ratio: float) -> np.ndarray | None:
    """Grown outline without the vertices that a pixel contour has in excess."""
    import cv2

    simplified = cv2.approxPolyDP(outline.reshape(-1, 1, 2), 0.002 * geometry.perimeter(outline), True)[:, 0]
    grown = geometry.unclip_polygon(simplified, ratio) if len(simplified) >= 3 else None
    return None if grown is None or len(grown) < 3 else geometry.order_clockwise(grown)
