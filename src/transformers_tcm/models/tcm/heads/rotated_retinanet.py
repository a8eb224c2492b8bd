"""Rotated RetinaNet: nine anchors at each location, assigned by their IoU with the objects.

References: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; its rotated form of MMRotate, Zhou et al.,
ACM MM 2022.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ....rotated_boxes import iou_limits, iou_of_pairs
from ..strict_tcm import strict_frozen
from .base import Regions, split_by_image, stacked
from .necks import InputFeaturePyramid
from .oriented import (
    BACKGROUND,
    MIN_SIDE,
    NOT_COUNTED,
    STRIDES,
    OrientedDecoding,
    OrientedHead,
    OrientedHeadConfig,
    OrientedHeadOutput,
    anchor_candidates,
    best_objects,
    decode_regions,
    encode_deltas,
    flat_maps,
    level_shapes,
    locations,
    matched_objects,
    near_locations,
    valid_anchors,
)

__all__ = ["RotatedRetinaNetConfig", "RotatedRetinaNetHead"]

# Square root of the area of an anchor, in strides; three sizes of each octave.
ANCHOR_SCALES = tuple(4 * 2 ** (octave / 3) for octave in range(3))
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4
# Anchors that contain a small object all have the same IoU with it, up to rounding.
TIE = 1e-6
# In strides; the sides of the largest anchors are as one to two.
LONGEST_DIAGONAL = ANCHOR_SCALES[-1] * math.sqrt(2.5)
# Objects whose overlaps are looked for together; a large one meets tens of thousands of anchors.
OBJECTS_AT_ONCE = 128


@strict_frozen
@dataclass(frozen=True)
class RotatedRetinaNetConfig(OrientedHeadConfig):
    """Settings of the rotated RetinaNet head: those that all heads of oriented objects have."""


class RotatedRetinaNetHead(OrientedHead):
    """Deltas to nine anchors at each location, scored by class alone."""

    config_class = RotatedRetinaNetConfig
    presets = {
        "tiny": {"channels": 64, "num_convs": 2},
        "small": {"channels": 128, "num_convs": 3},
        "base": {},
    }
    display_name = "Rotated RetinaNet"
    paper = "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017"
    anchors_per_location = 9

    def __init__(self, settings: RotatedRetinaNetConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes, InputFeaturePyramid, num_groups=None)

    def predict(self, levels: Sequence[torch.Tensor]) -> OrientedHeadOutput:
        """Levels (B, channels, h_i, w_i) to maps."""
        return OrientedHeadOutput(
            class_logits=flat_maps([self.classifier(self.class_tower(level)) for level in levels], self.num_classes),
            box_predictions=flat_maps([self.box(self.box_tower(level)) for level in levels], 5),
            level_shapes=level_shapes(levels),
        )

    def loss(self, maps: Any, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Focal loss over the anchors of each image that count, L1 of the deltas over those that have an object."""
        anchors, sizes = rotated_anchors(maps["level_shapes"]), stacked(labels, "valid_size")
        assigned = torch.stack(
            [
                assign(anchors, self._valid_anchors(maps, size), boxes, maps["level_shapes"])
                for size, boxes in zip(sizes, split_by_image(labels, "boxes"), strict=True)
            ]
        )
        return self.loss_of_assigned(maps, labels, anchors, assigned)

    def _valid_anchors(self, maps: Any, size: torch.Tensor) -> torch.Tensor:
        return valid_anchors(maps["level_shapes"], size, self.anchors_per_location)

    def loss_of_assigned(
        self, maps: Any, labels: Mapping[str, torch.Tensor], anchors: torch.Tensor, assigned: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The loss with given anchors (P, 5) and objects (B, P), as of `assign`."""
        boxes, classes = matched_objects(assigned, labels)  # (M, 5) and (M,)
        positive = assigned >= 0
        wanted = encode_deltas(anchors[torch.nonzero(positive)[:, 1]], boxes)
        distance = (maps["box_predictions"][positive] - wanted).abs().sum()
        num_positive = positive.sum(dim=1).clamp(min=1).sum()
        class_loss = self.class_loss(maps["class_logits"], assigned, classes)
        return {
            "loss_classification": self.settings.class_weight * class_loss / num_positive,
            "loss_box": self.settings.box_weight * distance / num_positive,
        }

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: OrientedDecoding) -> Regions:
        """Objects of each image, with their centres in it."""
        anchors = rotated_anchors(torch.as_tensor(maps["level_shapes"]))
        return decode_regions(maps, decoding, anchor_candidates(maps, valid_sizes, anchors))


def rotated_anchors(shapes: torch.Tensor) -> torch.Tensor:
    """Anchors (P x 9, 5) of all levels (L, 2), in le90 form.

    At each location there are squares, then wide rectangles, then tall ones, of three sizes each. Squares have the
    angle -pi/2, exactly: the release's rounding, which gives some of them 0, is left out.
    """
    corners, strides = locations(shapes, offset=0.0)
    forms = []
    for stretch, angle in ((1.0, -math.pi / 2), (math.sqrt(2), 0.0), (math.sqrt(2), -math.pi / 2)):
        forms += [(scale * stretch, scale / stretch, angle) for scale in ANCHOR_SCALES]
    sizes = torch.tensor(forms, device=corners.device)  # (9, 3)
    sides = strides[:, None, None] * sizes[:, :2]  # (P, 9, 2)
    angles = sizes[:, 2:].expand(len(corners), -1, -1)
    return torch.cat([corners[:, None].expand_as(sides), sides, angles], dim=-1).flatten(0, 1)


def assign(anchors: torch.Tensor, valid: torch.Tensor, boxes: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """The object (A,) that each anchor is to find, `BACKGROUND` for none, `NOT_COUNTED` for what is neither.

    An anchor takes the object with the highest IoU from 0.5 on and is background below 0.4. The best anchors of an
    object, all those with the same IoU, take it in any case; later objects win.

    Args:
        anchors: (A, 5) of all levels.
        valid: (A,) bool, those within the image.
        boxes: (N, 5) objects.
        shapes: (L, 2) height and width of each level.
    """
    objects, places, ious = _overlaps(anchors, valid, boxes, shapes)
    counted = ious > 0
    objects, places, ious = objects[counted], places[counted], ious[counted]
    best, chosen = best_objects(objects, places, ious, len(anchors))
    assigned = torch.where(best < NEGATIVE_IOU, BACKGROUND, NOT_COUNTED)
    assigned = torch.where(best >= POSITIVE_IOU, chosen, assigned)
    highest = ious.new_zeros(len(boxes)).scatter_reduce(0, objects, ious, "amax")
    tied = ious >= highest[objects] * (1 - TIE)
    claimed = torch.full_like(assigned, BACKGROUND).scatter_reduce(0, places[tied], objects[tied], "amax")
    assigned = torch.where(claimed >= 0, claimed, assigned)
    return torch.where(valid, assigned, NOT_COUNTED)


def _overlaps(
    anchors: torch.Tensor, valid: torch.Tensor, boxes: torch.Tensor, shapes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of an object (N, 5) and a valid anchor (A, 5): both indices (Q,) and the IoU (Q,).

    Those that decide nothing are left out: below `NEGATIVE_IOU` and worse than the object's best anchor.
    """
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:4].clamp(min=MIN_SIDE), boxes[:, 4:]], dim=1)
    strides, scales = (torch.tensor(values, device=boxes.device) for values in (STRIDES, ANCHOR_SCALES))
    areas, own = (strides[:, None] * scales).square(), boxes[:, 2:4].prod(dim=1)[:, None, None]
    # The ratio of the areas is a limit of the IoU: (N, L, 3) -> (N, L)
    limits = (torch.minimum(areas, own) / torch.maximum(areas, own)).amax(dim=-1)
    likely = limits >= limits.amax(dim=1, keepdim=True).clamp(max=NEGATIVE_IOU)
    best = limits.new_zeros(len(boxes))
    found = [_overlaps_on_levels(anchors, valid, boxes, shapes, likely, best)]
    # Thin objects, and those that keep away from all anchors of their size, may have their best one elsewhere.
    best = best.scatter_reduce(0, found[0][0], found[0][2], "amax")
    others = ~likely & (limits >= best[:, None] * (1 - 2 * TIE))
    found.append(_overlaps_on_levels(anchors, valid, boxes, shapes, others, best))
    objects, places, ious = (torch.cat(values) for values in zip(*found, strict=True))
    return objects, places, ious


def _overlaps_on_levels(
    anchors: torch.Tensor,
    valid: torch.Tensor,
    boxes: torch.Tensor,
    shapes: torch.Tensor,
    levels: torch.Tensor,
    best: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`_overlaps` on some levels (N, L) for each object, whose best IoU (N,) elsewhere is known."""
    per_location = RotatedRetinaNetHead.anchors_per_location
    forms = torch.arange(per_location, device=boxes.device)
    # How far the corners of an object and of the largest anchor are from their centres, at most: (N, L)
    radii = torch.linalg.vector_norm(boxes[:, 2:4], dim=1, keepdim=True) / 2
    radii = radii + LONGEST_DIAGONAL / 2 * torch.tensor(STRIDES, device=boxes.device)
    radii = torch.where(levels, radii, -1.0)
    parts = []
    for some in torch.arange(len(boxes), device=boxes.device).split(OBJECTS_AT_ONCE):
        objects, cells = near_locations(boxes[some], radii[some], shapes, offset=0.0)
        places = (cells[:, None] * per_location + forms).flatten()
        objects = some[objects.repeat_interleave(per_location)]
        counted = valid[places]
        parts.append(_decisive(boxes, anchors, objects[counted], places[counted], best))
    found, where, ious = (torch.cat(values) for values in zip(*parts, strict=True))
    return found, where, ious


def _decisive(
    boxes: torch.Tensor, anchors: torch.Tensor, objects: torch.Tensor, places: torch.Tensor, best: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of pairs (Q,) those that can be the object's best, or reach `NEGATIVE_IOU`, with their IoU."""
    limits = iou_limits(boxes, anchors, objects, places)
    highest = torch.zeros_like(best).scatter_reduce(0, objects, limits, "amax")
    chosen = limits >= (highest * (1 - TIE)).clamp(max=NEGATIVE_IOU)[objects]
    chosen &= limits > 0
    ious = iou_of_pairs(boxes, anchors, objects[chosen], places[chosen])
    best = best.scatter_reduce(0, objects[chosen], ious, "amax")
    more = ~chosen & (limits > 0) & (limits >= best[objects] * (1 - 2 * TIE))
    ious = torch.cat([ious, iou_of_pairs(boxes, anchors, objects[more], places[more])])
    return torch.cat([objects[chosen], objects[more]]), torch.cat([places[chosen], places[more]]), ious
