"""Rotated ATSS: one square anchor at each location, assigned by a threshold that adapts to the object.

References: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
Selection", CVPR 2020; its rotated form of MMRotate, Zhou et al., ACM MM 2022.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init

from ....rotated_boxes import rotated_iou
from ..strict_tcm import strict_frozen
from .base import Regions, split_by_image, stacked
from .necks import InputFeaturePyramid
from .oriented import (
    BACKGROUND,
    MIN_IOU,
    MIN_SIDE,
    NOT_COUNTED,
    STRIDES,
    CenternessConfig,
    OrientedDecoding,
    OrientedHead,
    OrientedHeadOutput,
    anchor_candidates,
    best_objects,
    centerness,
    decode_deltas,
    decode_regions,
    encode_points,
    flat_maps,
    level_shapes,
    locations,
    matched_objects,
    valid_anchors,
)

__all__ = ["RotatedATSSConfig", "RotatedATSSHead"]

# Side of an anchor, in strides.
ANCHOR_SCALE = 4
# Anchors of each level, those nearest to an object's centre, that its threshold is made from.
NEAREST = 9
# An anchor's centre lies at least this far within the object, in pixels.
MARGIN = 0.01


@strict_frozen
@dataclass(frozen=True)
class RotatedATSSConfig(CenternessConfig):
    """Settings of the rotated ATSS head: those that it has in common with others.

    The loss of the boxes weighs 2, as in the release.
    """

    box_weight: float | int = 2.0


class RotatedATSSHead(OrientedHead):
    """Deltas to a square anchor at each location, scored by class and centre-ness."""

    config_class = RotatedATSSConfig
    presets = {
        "tiny": {"channels": 64, "num_convs": 2, "num_groups": 16},
        "small": {"channels": 128, "num_convs": 3},
        "base": {},
    }
    display_name = "Rotated ATSS"
    paper = "Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection, CVPR 2020"
    settings: RotatedATSSConfig

    def __init__(self, settings: RotatedATSSConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes, InputFeaturePyramid, settings.num_groups)
        self.centerness = nn.Conv2d(settings.channels, 1, 3, padding=1)
        # Levels see boxes of different sizes through the same layer.
        self.box_scales = nn.Parameter(torch.ones(len(STRIDES)))

    def init_weights(self) -> None:
        super().init_weights()
        init.ones_(self.box_scales)

    def predict(self, levels: Sequence[torch.Tensor]) -> OrientedHeadOutput:
        """Levels (B, channels, h_i, w_i) to maps."""
        boxes = [self.box_tower(level) for level in levels]
        deltas = [scale * self.box(level) for scale, level in zip(self.box_scales, boxes, strict=True)]
        return OrientedHeadOutput(
            class_logits=flat_maps([self.classifier(self.class_tower(level)) for level in levels], self.num_classes),
            box_predictions=flat_maps(deltas, 5),
            level_shapes=level_shapes(levels),
            centerness_logits=flat_maps([self.centerness(level) for level in boxes], 1)[..., 0],
        )

    def loss(self, maps: Any, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Focal loss over the anchors of each image; 1 - IoU weighted by centre-ness, and the latter's cross-entropy,
        over those that objects are assigned to."""
        anchors, sizes = square_anchors(maps["level_shapes"]), stacked(labels, "valid_size")
        assigned = torch.stack(
            [
                assign(anchors, valid_anchors(maps["level_shapes"], size, 1), boxes, maps["level_shapes"])
                for size, boxes in zip(sizes, split_by_image(labels, "boxes"), strict=True)
            ]
        )
        boxes, classes = matched_objects(assigned, labels)  # (M, 5) and (M,)
        positive = assigned >= 0
        own = anchors[torch.nonzero(positive)[:, 1]]
        central = hull_centerness(own[:, :2], boxes)
        predicted = decode_deltas(own, maps["box_predictions"][positive])
        overlap = rotated_iou(predicted, boxes).clamp(min=MIN_IOU)
        logits = maps["centerness_logits"][positive]
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, central, reduction="sum")
        num_positive, total = positive.sum(dim=1).clamp(min=1).sum(), central.sum().clamp(min=1)
        class_loss = self.class_loss(maps["class_logits"], assigned, classes)
        return {
            "loss_classification": self.settings.class_weight * class_loss / num_positive,
            "loss_box": self.settings.box_weight * (central * (1 - overlap)).sum() / total,
            "loss_centerness": self.settings.centerness_weight * cross_entropy / num_positive,
        }

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: OrientedDecoding) -> Regions:
        """Objects of each image, with their centres in it."""
        anchors = square_anchors(torch.as_tensor(maps["level_shapes"]))
        return decode_regions(maps, decoding, anchor_candidates(maps, valid_sizes, anchors))


def square_anchors(shapes: torch.Tensor) -> torch.Tensor:
    """Anchors (P, 5) of all levels (L, 2); squares have the angle -pi/2 in le90, which their deltas depend on."""
    corners, strides = locations(shapes, offset=0.0)
    sides = ANCHOR_SCALE * strides
    return torch.cat([corners, torch.stack([sides, sides, torch.full_like(sides, -math.pi / 2)], dim=1)], dim=1)


def assign(anchors: torch.Tensor, valid: torch.Tensor, boxes: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """The object (P,) that each anchor is to find, `BACKGROUND` for none, `NOT_COUNTED` beyond the image.

    Of the nearest anchors of each level, an object takes those whose IoU reaches mean + standard deviation of all of
    them and whose centre lies inside. The highest IoU decides among several objects.

    Args:
        anchors: (P, 5) of all levels.
        valid: (P,) bool, those within the image.
        boxes: (N, 5) objects.
        shapes: (L, 2) height and width of each level.
    """
    assigned = torch.where(valid, BACKGROUND, NOT_COUNTED)
    if not len(boxes):
        return assigned
    near = _nearest(anchors, valid, boxes, shapes)  # (N, C)
    objects = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(near)
    sides = boxes[:, 2:4].clamp(min=MIN_SIDE)
    solid = torch.cat([boxes[:, :2], sides, boxes[:, 4:]], dim=1)
    ious = rotated_iou(anchors[near.flatten()], solid[objects.flatten()]).view_as(near)
    counted = valid[near]
    number = counted.sum(dim=1, keepdim=True)
    mean = (ious * counted).sum(dim=1, keepdim=True) / number
    variance = ((ious - mean).square() * counted).sum(dim=1, keepdim=True) / (number - 1).clamp(min=1)
    inside = encode_points(anchors[near, :2], boxes[:, None]).amin(dim=-1) >= MARGIN
    found = counted & inside & (ious >= mean + variance.sqrt())
    _, chosen = best_objects(objects[found], near[found], ious[found], len(anchors))
    return torch.where(chosen >= 0, chosen, assigned)


def _nearest(anchors: torch.Tensor, valid: torch.Tensor, boxes: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """Of each level, the anchors (N, C) whose centres are nearest to that of each object, invalid ones last."""
    near, start = [], 0
    for size in shapes.prod(dim=1).tolist():
        level = slice(start, start + size)
        distances = torch.cdist(boxes[:, :2], anchors[level, :2], compute_mode="donot_use_mm_for_euclid_dist")
        distances = torch.where(valid[level], distances, torch.inf)
        near.append(start + distances.topk(min(NEAREST, size), dim=1, largest=False).indices)
        start += size
    return torch.cat(near, dim=1)


def hull_centerness(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Centre-ness (M,) of points (M, 2) in the axis-aligned hulls of objects (M, 5), not along their own axes."""
    cos, sin = boxes[:, 4].cos().abs(), boxes[:, 4].sin().abs()
    width, height = boxes[:, 2], boxes[:, 3]
    sides = torch.stack([width * cos + height * sin, width * sin + height * cos], dim=1)
    upright = torch.cat([boxes[:, :2], sides, torch.zeros_like(sides[:, :1])], dim=1)
    return centerness(encode_points(points, upright))
