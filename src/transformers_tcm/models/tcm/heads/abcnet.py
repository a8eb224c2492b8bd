"""ABCNet: words as two Bézier curves, predicted at every location of a pyramid without anchors.

References: Liu et al., "ABCNet: Real-time Scene Text Spotting with Adaptive Bezier-Curve Network", CVPR 2020, on the
detector of Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019. With the BiFPN and the
recogniser "abinet" it is ABINet++, Fang et al., TPAMI 2023.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils import ModelOutput

from .... import geometry
from ....bezier import CORNERS, bezier_points, short_sides
from ....instances import TextInstances
from ..recognition.proposals import words_to_bezier
from ..strict_tcm import strict_frozen
from .base import DecodingSettings, DetectionHead, HeadInputs, Regions, check_range, split_by_image, stacked
from .boxes import focal_loss, generalized_box_iou, nms
from .necks import BidirectionalPyramid, FeaturePyramid

__all__ = ["ABCNetConfig", "ABCNetDecoding", "ABCNetHead", "ABCNetOutput"]

FINEST_INPUT = 2  # the pyramid handed to a head starts with C2
# Where the smooth L1 loss turns linear, in strides: about the pixel or two that an outline should be exact to.
SMOOTH_L1_BETA = 1 / 9
# Boxes end at most this far from their location, as a logarithm of strides: beyond any image, short of an overflow.
MAX_LOG_DISTANCE = 8.0
MIN_AREA = 1.0
POINTS_PER_SIDE = 10


@strict_frozen
@dataclass(frozen=True)
class ABCNetConfig:
    """Settings of the ABCNet head.

    Level k of the pyramid has stride 2^k. It finds words whose box ends up to `size_per_stride` x 2^k pixels from a
    location and more than half of that; the finest level also finds all smaller words, the coarsest all larger ones.
    The defaults are FCOS' ranges, 64 pixels at stride 8 up to 512 at stride 64.
    Words in photos are often lower than 16 pixels: a `finest_level` of 2 (stride 4) gives these several locations
    instead of one, at four times the cost of the finest level.

    Args:
        channels: width of pyramid and towers.
        pyramid: `"fpn"`, or `"bifpn"` for that of ABINet++, which always starts at C2.
        num_convs: convolutions of each of the two towers.
        num_groups: groups of the towers' group norms, of at least two channels each.
        finest_level: 2 or 3, the first level of the pyramid.
        coarsest_level: 5, 6 or 7, its last.
        size_per_stride: reach of a level's largest words, in strides.
        center_radius: locations up to this many strides from the centre of a word's box learn to find it.
        min_short_side: words with a shorter side (pixels of the network's input) are ignored in training.
        prior_probability: score that every location starts with.
        class_weight: weight of the focal loss.
        box_weight: weight of the boxes' generalised-IoU loss.
        centerness_weight: weight of the centre-ness' cross-entropy.
        bezier_weight: weight of the control points' smooth L1 loss.
    """

    channels: int = 256
    pyramid: Literal["fpn", "bifpn"] = "fpn"
    num_convs: int = 4
    num_groups: int = 32
    finest_level: int = 3
    coarsest_level: int = 7
    size_per_stride: float | int = 8.0
    center_radius: float | int = 1.5
    min_short_side: float | int = 4.0
    prior_probability: float = 0.01
    class_weight: float | int = 1.0
    box_weight: float | int = 1.0
    centerness_weight: float | int = 1.0
    bezier_weight: float | int = 1.0

    def __post_init__(self) -> None:
        if self.num_groups < 1 or self.channels < 2 * self.num_groups or self.channels % self.num_groups:
            raise ValueError(
                "`channels` must be a multiple of `num_groups` with at least two channels in each group, got "
                f"{self.channels} channels in {self.num_groups} groups"
            )
        if self.num_convs < 1:
            raise ValueError(f"`num_convs` must be at least 1, got {self.num_convs}")
        if self.finest_level not in (2, 3) or self.coarsest_level not in (5, 6, 7):
            raise ValueError(
                "`finest_level` must be 2 or 3 and `coarsest_level` 5, 6 or 7, got "
                f"{self.finest_level} and {self.coarsest_level}"
            )
        if self.size_per_stride <= 0 or self.center_radius <= 0:
            raise ValueError(
                "`size_per_stride` and `center_radius` must be positive, got "
                f"{self.size_per_stride} and {self.center_radius}"
            )
        if not 0 < self.prior_probability < 1:
            raise ValueError(f"`prior_probability` must lie between 0 and 1, got {self.prior_probability}")
        weights = {name: value for name, value in vars(self).items() if name.endswith("_weight")}
        if min(weights.values()) < 0:
            raise ValueError(f"weights of losses must not be negative, got {weights}")

    @property
    def strides(self) -> list[int]:
        """Pixels of the network's input between two locations of each level."""
        return [2**level for level in range(self.finest_level, self.coarsest_level + 1)]


@strict_frozen
@dataclass(frozen=True)
class ABCNetDecoding(DecodingSettings):
    """Which locations' words are taken.

    A score is the geometric mean of class probability and centre-ness, which `box_threshold` bounds from below;
    `max_candidates` takes the best locations; `polygon` gives outlines of 20 points, ten on each side, otherwise the
    quad of the curves' four ends. There is no map of text pixels and nothing to grow.

    Args:
        nms_threshold: words whose boxes overlap a better one's by more than this IoU are left out.
    """

    nms_threshold: float | int = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, nms_threshold=(0, 1))


@dataclass
class ABCNetOutput(ModelOutput):
    """What the ABCNet head sees at each of the L locations of all levels, in pixels of the network's input.

    Locations are ordered from the finest level to the coarsest and row by row within a level.

    Args:
        class_logits: (B, L) whether there is a word.
        centerness_logits: (B, L) how central in its box the location is.
        boxes: (B, L, 4) the word's axis-aligned box, x_min, y_min, x_max, y_max.
        control_points: (B, L, 8, 2) the word's two Bézier curves, as in `transformers_tcm.bezier`.
        locations: (B, L, 3) x, y and stride of the location.
    """

    class_logits: torch.Tensor
    # Always there: `ModelOutput` takes but one field without a default.
    centerness_logits: torch.Tensor = None  # type: ignore[assignment]
    boxes: torch.Tensor = None  # type: ignore[assignment]
    control_points: torch.Tensor = None  # type: ignore[assignment]
    locations: torch.Tensor = None  # type: ignore[assignment]


class ABCNetHead(DetectionHead):
    """Pyramid with its levels sharing two towers: one for the class, one for box, centre-ness and curves."""

    config_class = ABCNetConfig
    decoding_class = ABCNetDecoding
    presets = {
        "tiny": {"channels": 64, "num_convs": 2, "num_groups": 16},
        "small": {"channels": 128, "num_convs": 3},
    }
    display_name = "ABCNet"
    paper = "Liu et al., ABCNet: Real-time Scene Text Spotting with Adaptive Bezier-Curve Network, CVPR 2020"
    score_map_loss = "dice"

    def __init__(self, settings: ABCNetConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes)
        channels, num_levels = settings.channels, len(settings.strides)
        # The levels below the finest are left out of an FPN, but not of a BiFPN, where they lead on to the others.
        skipped = settings.finest_level - FINEST_INPUT
        self.first_map, self.first_level = (skipped, 0) if settings.pyramid == "fpn" else (0, skipped)
        neck_class = FeaturePyramid if settings.pyramid == "fpn" else BidirectionalPyramid
        self.neck = neck_class(in_channels[self.first_map :], channels, num_levels + self.first_level)
        self.class_tower, self.box_tower = _tower(settings), _tower(settings)
        self.classifier = nn.Conv2d(channels, 1, 3, padding=1)
        self.box = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.bezier = nn.Conv2d(channels, 16, 3, padding=1)
        # Levels see boxes of different sizes through the same layer.
        self.box_scales = nn.Parameter(torch.ones(num_levels))

    def init_weights(self) -> None:
        """Small predictions and a low score everywhere, lest the background outweigh the words at first (FCOS)."""
        for layer in (self.classifier, self.box, self.centerness, self.bezier):
            init.normal_(layer.weight, std=0.01)
            init.zeros_(layer.get_parameter("bias"))
        prior = self.settings.prior_probability
        init.constant_(self.classifier.get_parameter("bias"), math.log(prior / (1 - prior)))
        init.ones_(self.box_scales)
        if isinstance(self.neck, BidirectionalPyramid):
            self.neck.init_weights()

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> ABCNetOutput:
        levels = self.neck(inputs.pyramid[self.first_map :])[self.first_level :]
        predictions = [
            self._predict(features, stride, scale)
            for features, stride, scale in zip(levels, self.settings.strides, self.box_scales, strict=True)
        ]
        return ABCNetOutput(*(torch.cat(parts, dim=1) for parts in zip(*predictions, strict=True)))

    def _predict(self, features: torch.Tensor, stride: int, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The fields of an `ABCNetOutput` for one level (B, C, h, w), L = h x w."""
        class_features, box_features = self.class_tower(features), self.box_tower(features)
        height, width = features.shape[-2:]
        locations = _locations(height, width, stride, features.device)
        # Coordinates in half precision would be off by several pixels.
        distances = stride * (scale.float() * _flat(self.box(box_features))).clamp(max=MAX_LOG_DISTANCE).exp()
        offsets = stride * _flat(self.bezier(box_features)).unflatten(-1, (8, 2))
        return (
            _flat(self.classifier(class_features))[..., 0],
            _flat(self.centerness(box_features))[..., 0],
            torch.cat([locations - distances[..., :2], locations + distances[..., 2:]], dim=-1),
            locations[:, None] + offsets,
            functional.pad(locations, (0, 1), value=stride).expand(features.shape[0], -1, -1),
        )

    def loss(self, maps: ABCNetOutput, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Focal loss over all locations, the other terms over those that words are assigned to.

        Raises:
            ValueError: if the labels were made for another head or other sizes.
        """
        assigned = stacked(labels, "assigned_words").long()  # (B, L)
        if assigned.shape != maps.class_logits.shape:
            raise ValueError(
                f"`labels` assign words to {tuple(assigned.shape)} locations, the head has "
                f"{tuple(maps.class_logits.shape)}; build them with the collator for the padded size of the batch"
            )
        positive = assigned >= 0
        counts = positive | _mask_at(maps.locations, stacked(labels, "text_mask")[:, None])
        focal = focal_loss(maps.class_logits, positive.float())
        boxes, curves = _targets_of(assigned, positive, labels)  # (P, 4) and (P, 8, 2)
        x, y, stride = maps.locations[positive].unbind(dim=-1)  # (P,) each
        centerness = _centerness(x, y, boxes)
        cross_entropy = functional.binary_cross_entropy_with_logits(
            maps.centerness_logits[positive], centerness, reduction="sum"
        )
        overlap = generalized_box_iou(maps.boxes[positive], boxes)
        errors = (maps.control_points[positive] - curves) / stride[:, None, None]
        distance = functional.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none", beta=SMOOTH_L1_BETA)
        num_positive, total = positive.sum().clamp(min=1), centerness.sum().clamp(min=1e-6)
        return {
            "loss_class": self.settings.class_weight * (focal * counts).sum() / num_positive,
            "loss_box": self.settings.box_weight * ((1 - overlap) * centerness).sum() / total,
            "loss_centerness": self.settings.centerness_weight * cross_entropy / num_positive,
            "loss_bezier": self.settings.bezier_weight * (distance.mean(dim=(1, 2)) * centerness).sum() / total,
        }

    @staticmethod
    def targets(
        instances: TextInstances, size: tuple[int, int], valid_size: tuple[int, int], settings: ABCNetConfig
    ) -> dict[str, np.ndarray]:
        """Targets of one image with N words, L locations on all levels.

        `text_map` and `text_mask` (height, width) are uint8, the text and where it counts; `word_boxes` (N, 4) and
        `word_curves` (N, 8, 2) float32, the words' axis-aligned boxes and control points; `assigned_words` (L,) int64
        the word that each location is to find, -1 for none. Words that are ignored, tiny or no two curves can describe
        are masked out.
        """
        import cv2

        curves, usable = words_to_bezier(instances.polygons, instances.texts or [None] * len(instances))
        usable &= ~instances.ignored & (short_sides(curves) >= settings.min_short_side)
        text_map, text_mask = np.zeros(size, np.uint8), np.ones(size, np.uint8)
        for polygon, used in zip(instances.polygons, usable, strict=True):
            cv2.fillPoly(text_map if used else text_mask, [polygon.astype(np.int32)], int(used))
        text_mask[valid_size[0] :], text_mask[:, valid_size[1] :] = 0, 0
        return {
            "text_map": text_map,
            "text_mask": text_mask,
            "word_boxes": instances.boxes,
            "word_curves": curves,
            "assigned_words": _assign(instances.boxes, usable, *size, settings),
        }

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return stacked(labels, "text_map").float()[:, None], stacked(labels, "text_mask").float()[:, None]

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: ABCNetDecoding) -> Regions:
        """The best words of the locations within the `valid_sizes`, those that overlap better ones left out."""
        fields = {name: torch.as_tensor(value).detach().float().cpu() for name, value in maps.items()}
        scores = (fields["class_logits"].sigmoid() * fields["centerness_logits"].sigmoid()).sqrt()  # (B, L)
        if not bool(scores.isfinite().all()):
            raise ValueError("the scores are NaN or infinite; run the model in float32 or bfloat16")
        outlines, kept_scores, curves = [], [], []
        for index, (height, width) in enumerate(valid_sizes.tolist()):
            x, y, _ = fields["locations"][index].unbind(dim=-1)
            found = torch.nonzero((scores[index] >= decoding.box_threshold) & (x < width) & (y < height))[:, 0]
            found = found[scores[index, found].topk(min(decoding.max_candidates, len(found))).indices]
            boxes, curves_found = (fields[name][index, found].numpy() for name in ("boxes", "control_points"))
            best, control_points = _distinct_words(scores[index, found].numpy(), boxes, curves_found, decoding)
            words = _outlines(control_points, decoding.polygon)
            large = np.array([geometry.signed_area(outline) >= MIN_AREA for outline in words], dtype=bool)
            outlines.append([words[place] for place in np.flatnonzero(large)])
            kept_scores.append(best[large])
            curves.append(control_points[large])
        return Regions.from_outlines(outlines, kept_scores, control_points=curves)


def _tower(settings: ABCNetConfig) -> nn.Sequential:
    """Convolutions that all levels share, (B, C, h, w) to the same."""
    layers: list[nn.Module] = []
    for _ in range(settings.num_convs):
        layers.append(nn.Conv2d(settings.channels, settings.channels, 3, padding=1, bias=False))
        layers += [nn.GroupNorm(settings.num_groups, settings.channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) to (B, h x w, C) float32."""
    return maps.flatten(2).transpose(1, 2).float()


def _locations(height: int, width: int, stride: int, device: torch.device) -> torch.Tensor:
    """Centres (height x width, 2) of a level's cells as x, y in pixels, row by row."""
    y, x = ((torch.arange(size, device=device) + 0.5) * stride for size in (height, width))
    # No `cartesian_prod`, which makes constants of sizes that are free in an exported graph.
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1)


def _mask_at(locations: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mask (B, 1, H, W) at locations (B, L, 3), as (B, L) bool; `False` beyond the map."""
    height, width = mask.shape[-2:]
    x, y = locations[..., 0].long(), locations[..., 1].long()
    images = torch.arange(len(mask), device=mask.device)[:, None]
    values = mask[images, 0, y.clamp(max=height - 1), x.clamp(max=width - 1)]
    return (values > 0) & (x < width) & (y < height)


def _targets_of(
    assigned: torch.Tensor, positive: torch.Tensor, labels: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (P, 4) and control points (P, 8, 2) of the words at the P positive of all locations (B, L)."""
    boxes, curves = split_by_image(labels, "word_boxes"), split_by_image(labels, "word_curves")
    counts = torch.tensor([0, *(len(image) for image in boxes[:-1])], device=assigned.device)
    words = (assigned + counts.cumsum(0)[:, None])[positive]  # among the words of all images
    return torch.cat(boxes)[words], torch.cat(curves)[words]


def _centerness(x: torch.Tensor, y: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """1 in the middle of a box (P, 4), 0 at its border; all else (P,)."""
    sides = torch.stack([x - boxes[:, 0], boxes[:, 2] - x, y - boxes[:, 1], boxes[:, 3] - y]).view(2, 2, -1)
    return (sides.amin(dim=1) / sides.amax(dim=1)).prod(dim=0).sqrt()


def _assign(boxes: np.ndarray, usable: np.ndarray, height: int, width: int, settings: ABCNetConfig) -> np.ndarray:
    """The word (L,) that each location is to find, -1 for none.

    A word takes the locations near its centre on the level for its size. Where these are none, for words are long and
    low, it takes those of the finest level. The smallest of several words wins.
    """
    strides = settings.strides
    limits = np.array([0.0, *(settings.size_per_stride * stride for stride in strides[:-1]), np.inf])
    parts, start = [], 0
    for level, stride in enumerate(strides):
        shape = math.ceil(height / stride), math.ceil(width / stride)
        words, cells, reach = _central(boxes, stride, shape, settings.center_radius)
        fits = (limits[level] < reach) & (reach <= limits[level + 1])
        parts.append((words, start + cells, fits, np.full_like(words, level)))
        start += shape[0] * shape[1]
    words, locations, fits, levels = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = np.isin(words, words[fits])
    taken = usable[words] & (fits | (~found & (levels == 0)))
    words, locations = words[taken], locations[taken]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    smallest_last = np.argsort(-areas[words], kind="stable")
    assigned = np.full(start, -1, dtype=np.int64)
    assigned[locations[smallest_last]] = words[smallest_last]
    return assigned


def _central(
    boxes: np.ndarray, stride: int, shape: tuple[int, int], radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a word and a cell of one level whose centre lies inside the word's box (N, 4), near its middle.

    Returns the words (P,), the cells (P,) counted row by row, and the distances (P,) from there to the farthest side.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    low = np.maximum(boxes[:, :2], middle - radius * stride)
    high = np.minimum(boxes[:, 2:], middle + radius * stride)
    first = np.floor(low / stride - 0.5).astype(np.int64) + 1
    indices = first[..., None] + np.arange(math.ceil(2 * radius))  # (N, 2, k): columns and rows
    centers = (indices + 0.5) * stride
    inside = (indices >= 0) & (indices < np.array(shape)[::-1, None]) & (centers < high[..., None])
    reach = np.maximum(centers - boxes[:, :2, None], boxes[:, 2:, None] - centers)
    words, row, column = np.nonzero(inside[:, 1, :, None] & inside[:, 0, None, :])  # of (N, k, k)
    cells = indices[words, 1, row] * shape[1] + indices[words, 0, column]
    return words, cells, np.maximum(reach[words, 0, column], reach[words, 1, row])


def _distinct_words(
    scores: np.ndarray, boxes: np.ndarray, control_points: np.ndarray, decoding: ABCNetDecoding
) -> tuple[np.ndarray, np.ndarray]:
    """Those of words, the best first, that are sound and large and overlap no better one.

    Takes scores (N,), boxes (N, 4) and control points (N, 8, 2), gives scores (M,) and control points (M, 8, 2).
    """
    sound = np.flatnonzero(np.isfinite(control_points).all(axis=(1, 2)))
    large = sound[short_sides(control_points[sound]) >= decoding.min_size]
    kept = large[nms(boxes[large], scores[large], decoding.nms_threshold)]
    return scores[kept], control_points[kept]


def _outlines(control_points: np.ndarray, polygon: bool) -> list[np.ndarray]:
    """Clockwise outlines of words (N, 8, 2); the enclosing quad of one that crosses itself."""
    outlines = control_points[:, CORNERS]
    if polygon:
        sides = bezier_points(control_points.reshape(-1, 2, 4, 2), np.linspace(0, 1, POINTS_PER_SIDE))
        outlines = sides.reshape(-1, 2 * POINTS_PER_SIDE, 2).astype(np.float32)
    return [geometry.sound_outline(outline) for outline in outlines]
