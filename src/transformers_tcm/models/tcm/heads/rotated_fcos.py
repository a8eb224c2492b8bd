"""Rotated FCOS: at each location, the distances to the four sides of a turned box and its angle, without anchors.

References: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, with the centre sampling and
normalised distances of its second edition; its rotated form of MMRotate, Zhou et al., ACM MM 2022.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init

from ....rotated_boxes import rotated_iou
from ..strict_tcm import strict_frozen
from .base import Regions, split_by_image
from .necks import FeaturePyramid
from .oriented import (
    MIN_IOU,
    STRIDES,
    CenternessConfig,
    OrientedDecoding,
    OrientedHead,
    OrientedHeadOutput,
    best_objects,
    centerness,
    decode_points,
    decode_regions,
    encode_points,
    flat_maps,
    level_shapes,
    locations,
    matched_objects,
    near_locations,
)

__all__ = ["RotatedFCOSConfig", "RotatedFCOSHead"]

# Locations learn to find an object up to this many strides from its centre, along its axes.
CENTER_RADIUS = 1.5
# A level finds objects whose farthest side is up to this many strides away.
REACH = 8


@strict_frozen
@dataclass(frozen=True)
class RotatedFCOSConfig(CenternessConfig):
    """Settings of the rotated FCOS head: those that it has in common with others."""


class RotatedFCOSHead(OrientedHead):
    """Distances and angle at each location, scored by class and centre-ness."""

    config_class = RotatedFCOSConfig
    presets = {
        "tiny": {"channels": 64, "num_convs": 2, "num_groups": 16},
        "small": {"channels": 128, "num_convs": 3},
        "base": {},
    }
    display_name = "Rotated FCOS"
    paper = "Tian et al., FCOS: Fully Convolutional One-Stage Object Detection, ICCV 2019"
    box_size = 4
    settings: RotatedFCOSConfig

    def __init__(self, settings: RotatedFCOSConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes, FeaturePyramid, settings.num_groups)
        self.angle = nn.Conv2d(settings.channels, 1, 3, padding=1)
        self.centerness = nn.Conv2d(settings.channels, 1, 3, padding=1)
        # Levels see boxes of different sizes through the same layer, but angles are the same on all of them.
        self.box_scales = nn.Parameter(torch.ones(len(STRIDES)))
        self.angle_scale = nn.Parameter(torch.ones(1))

    def init_weights(self) -> None:
        super().init_weights()
        init.ones_(self.box_scales)
        init.ones_(self.angle_scale)

    def predict(self, levels: Sequence[torch.Tensor]) -> OrientedHeadOutput:
        """Levels (B, channels, h_i, w_i) to maps; distances are in strides, angles linear and of any size."""
        boxes = [self.box_tower(level) for level in levels]
        distances = [scale * self.box(level) for scale, level in zip(self.box_scales, boxes, strict=True)]
        return OrientedHeadOutput(
            class_logits=flat_maps([self.classifier(self.class_tower(level)) for level in levels], self.num_classes),
            box_predictions=flat_maps(distances, 4).clamp(min=0),
            level_shapes=level_shapes(levels),
            centerness_logits=flat_maps([self.centerness(level) for level in boxes], 1)[..., 0],
            angles=flat_maps([self.angle_scale * self.angle(level) for level in boxes], 1)[..., 0],
        )

    def loss(self, maps: Any, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Focal loss over all locations; -ln IoU weighted by centre-ness, and the latter's cross-entropy, over those
        that objects are assigned to."""
        points, strides = locations(maps["level_shapes"], offset=0.5)
        assigned = torch.stack([assign(maps["level_shapes"], boxes) for boxes in split_by_image(labels, "boxes")])
        boxes, classes = matched_objects(assigned, labels)  # (M, 5) and (M,)
        positive = assigned >= 0
        places = torch.nonzero(positive)[:, 1]
        wanted = encode_points(points[places], boxes) / strides[places, None]
        central = centerness(wanted)
        # Both boxes lie around the same point, in strides: its own coordinates would only cost precision.
        origin = torch.zeros_like(points[places])
        predicted = decode_points(origin, maps["box_predictions"][positive], maps["angles"][positive])
        overlap = rotated_iou(predicted, decode_points(origin, wanted, boxes[:, 4])).clamp(min=MIN_IOU)
        logits = maps["centerness_logits"][positive]
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, central, reduction="sum")
        num_positive, total = positive.sum().clamp(min=1), central.sum().clamp(min=1e-6)
        class_loss = self.class_loss(maps["class_logits"], assigned, classes)
        return {
            "loss_classification": self.settings.class_weight * class_loss / num_positive,
            "loss_box": self.settings.box_weight * (central * -overlap.log()).sum() / total,
            "loss_centerness": self.settings.centerness_weight * cross_entropy / num_positive,
        }

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: OrientedDecoding) -> Regions:
        """Objects of each image; those whose centre lies beyond the image are kept, as in the release."""
        return decode_regions(maps, decoding, boxes_of(maps))


def boxes_of(maps: Mapping[str, Any]) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """`boxes_at` of `oriented.candidates`: boxes (N, 5) of an image at locations (N,)."""
    distances, angles = (torch.as_tensor(maps[name]).float() for name in ("box_predictions", "angles"))
    points, strides = locations(torch.as_tensor(maps["level_shapes"]), offset=0.5)

    def boxes_at(image: int, places: torch.Tensor) -> torch.Tensor:
        reach = distances[image, places] * strides[places, None]
        return decode_points(points[places], reach, angles[image, places])

    return boxes_at


def assign(shapes: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The object (P,) that each location is to find, `BACKGROUND` for none.

    A location finds an object when it lies inside, near the centre, and the farthest side is in the reach of its level.
    The smallest of several objects wins.

    Args:
        shapes: (L, 2) height and width of each level.
        boxes: (N, 5) in le90 form.
    """
    points, strides = locations(shapes, offset=0.5)
    # The square near the centre is turned with the object; this one holds it at any angle.
    reach = CENTER_RADIUS * math.sqrt(2) * torch.tensor(STRIDES, device=boxes.device)
    objects, places = near_locations(boxes, reach.expand(len(boxes), -1), shapes, offset=0.5)
    distances, stride = encode_points(points[places], boxes[objects]), strides[places]  # (Q, 4) and (Q,)
    offsets = (distances[:, :2] - distances[:, 2:]).abs() / 2
    reach = distances.amax(dim=1)
    found = (distances.amin(dim=1) > 0) & (offsets.amax(dim=1) < CENTER_RADIUS * stride)
    found &= (reach >= REACH * stride / 2) | (stride == STRIDES[0])
    found &= (reach <= REACH * stride) | (stride == STRIDES[-1])
    places, objects = places[found], objects[found]
    areas = (boxes[:, 2] * boxes[:, 3])[objects]
    return best_objects(objects, places, -areas, len(points))[1]
