"""What the heads of oriented objects share: settings, towers, coders, anchors, assignment, decoding.

Boxes are those of `transformers_tcm.rotated_boxes`, between head and decoder only: outside, an object is a polygon.

References: Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), ICCV 2017; Tian et al., FCOS, ICCV 2019;
Zhang et al., ATSS, CVPR 2020; their rotated forms of MMRotate, Zhou et al., ACM MM 2022, with angles in le90; DOTA, Xia
et al., CVPR 2018; the auxiliary masks of TCM, Yu et al., CVPR 2023.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils import ModelOutput

from ....dota import DOTA_V1_CLASSES
from ....rotated_boxes import (
    boxes_to_quads,
    quads_to_boxes,
    regularize_boxes,
    rotated_nms,
    wrap_angle,
)
from ..layers_tcm import sizes_tensor
from ..strict_tcm import strict_frozen
from .base import DetectionHead, HeadInputs, Regions, split_by_image, stacked
from .boxes import focal_loss
from .necks import FeaturePyramid

__all__ = [
    "BACKGROUND",
    "MIN_IOU",
    "NOT_COUNTED",
    "STRIDES",
    "CenternessConfig",
    "OrientedDecoding",
    "OrientedHead",
    "OrientedHeadConfig",
    "OrientedHeadOutput",
    "anchor_candidates",
    "best_objects",
    "candidates",
    "centerness",
    "decode_deltas",
    "decode_points",
    "decode_regions",
    "encode_deltas",
    "encode_points",
    "flat_maps",
    "level_shapes",
    "locations",
    "matched_objects",
    "near_locations",
    "tower",
    "valid_anchors",
]

# Pixels between two locations of the levels P3 … P7.
STRIDES = (8, 16, 32, 64, 128)
FINEST_INPUT = 1  # C3, of the pyramid C2 … C5 that is handed to a head
# Widths and heights change by at most this factor's logarithm, lest an early mistake overflow.
MAX_LOG_RATIO = abs(math.log(16 / 1000))
# Shorter sides are taken for this long in assignment, and objects with such a side are no targets.
MIN_SIDE = 1e-3
# The auxiliary loss looks at masks of a quarter of the input's size.
MASK_STRIDE = 4
# Images of a batch are padded to a multiple of this before they are padded to one size.
PAD_MULTIPLE = 32
# An IoU below this is taken for it in the losses: its logarithm stays finite, its gradient is zero.
MIN_IOU = 1e-6
# What is assigned to a place without an object.
BACKGROUND, NOT_COUNTED = -1, -2


@strict_frozen
@dataclass(frozen=True)
class OrientedHeadConfig:
    """Settings that all heads of oriented objects have.

    Args:
        num_classes: classes of the labels, `num_labels` of the model.
        channels: width of pyramid and towers.
        num_convs: convolutions of each of the two towers.
        prior_probability: score that every location starts with.
        class_weight: weight of the focal loss.
        box_weight: weight of the loss of the boxes.
    """

    num_classes: int = 15
    channels: int = 256
    num_convs: int = 4
    prior_probability: float = 0.01
    class_weight: float | int = 1.0
    box_weight: float | int = 1.0

    def __post_init__(self) -> None:
        for name in ("num_classes", "channels", "num_convs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if not 0 < self.prior_probability < 1:
            raise ValueError(f"`prior_probability` must lie between 0 and 1, got {self.prior_probability}")
        weights = {name: value for name, value in vars(self).items() if name.endswith("_weight")}
        if min(weights.values()) < 0:
            raise ValueError(f"weights of losses must not be negative, got {weights}")


@strict_frozen
@dataclass(frozen=True)
class CenternessConfig(OrientedHeadConfig):
    """Settings of the heads that predict centre-ness.

    Args:
        num_groups: groups of the towers' group norms.
        centerness_weight: weight of the centre-ness' cross-entropy.
    """

    num_groups: int = 32
    centerness_weight: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_groups < 1 or self.channels % self.num_groups:
            raise ValueError(
                f"`channels` must be a multiple of `num_groups`, got {self.channels} channels in {self.num_groups} "
                "groups"
            )


@strict_frozen
@dataclass(frozen=True)
class OrientedDecoding:
    """How objects are read from the maps.

    Args:
        threshold: lowest score of a class at a location, before it is multiplied with the centre-ness.
        nms_threshold: largest IoU of two objects of a class that are both kept.
        max_candidates: pairs of location and class looked at on each level, the best first.
        max_detections: objects kept in an image, the best first.
    """

    threshold: float | int = 0.05
    nms_threshold: float | int = 0.1
    max_candidates: int = 2000
    max_detections: int = 2000

    def __post_init__(self) -> None:
        for name in ("threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1, got {getattr(self, name)}")
        for name in ("max_candidates", "max_detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")


@dataclass
class OrientedHeadOutput(ModelOutput):
    """What a head sees at each of P places: locations, or anchors at locations, from the finest level to the coarsest,
    row by row, the anchors of a location one after the other.

    Args:
        class_logits: (B, P, K).
        box_predictions: (B, P, 4) distances to the sides in strides (FCOS), or (B, P, 5) deltas to the anchors.
        level_shapes: (L, 2) height and width of each level.
        centerness_logits: (B, P) how central in its object the place is; not of RetinaNet.
        angles: (B, P) radians, FCOS only.
    """

    class_logits: torch.Tensor
    box_predictions: torch.Tensor = None  # type: ignore[assignment]
    level_shapes: torch.Tensor = None  # type: ignore[assignment]
    centerness_logits: torch.Tensor | None = None
    angles: torch.Tensor | None = None


class OrientedHead(DetectionHead):
    """Pyramid P3 … P7 whose levels share two towers, one for the class and one for the box.

    Class attributes:
        score_map_input: what is concatenated to C5, the score map's logits rather than its cosines.
        anchors_per_location: boxes predicted at each location.
        box_size: numbers that describe a box.
    """

    decoding_class = OrientedDecoding
    task = "oriented"
    default_labels = DOTA_V1_CLASSES
    score_map_loss = "masked_bce"
    score_map_input: ClassVar[str] = "logits"
    anchors_per_location: ClassVar[int] = 1
    box_size: ClassVar[int] = 5
    settings: OrientedHeadConfig

    def __init__(
        self,
        settings: OrientedHeadConfig,
        in_channels: Sequence[int],
        num_classes: int,
        neck: type[FeaturePyramid],
        num_groups: int | None,
    ):
        super().__init__(settings, in_channels, num_classes)
        channels = settings.channels
        self.num_classes = num_classes
        self.neck = neck(in_channels[FINEST_INPUT:], channels, len(STRIDES))
        self.class_tower, self.box_tower = (tower(channels, settings.num_convs, num_groups) for _ in range(2))
        self.classifier = nn.Conv2d(channels, self.anchors_per_location * num_classes, 3, padding=1)
        self.box = nn.Conv2d(channels, self.anchors_per_location * self.box_size, 3, padding=1)

    def init_weights(self) -> None:
        """Small predictions and a low score everywhere, lest the background outweigh the objects at first."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                if name.startswith("neck."):
                    init.xavier_uniform_(layer.weight)
                else:
                    init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    init.zeros_(layer.bias)
        prior = self.settings.prior_probability
        init.constant_(self.classifier.get_parameter("bias"), math.log(prior / (1 - prior)))

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> OrientedHeadOutput:
        """The same maps in training and inference."""
        return self.predict(self.neck(inputs.pyramid[FINEST_INPUT:]))

    @abstractmethod
    def predict(self, levels: Sequence[torch.Tensor]) -> OrientedHeadOutput:
        """Maps from the levels (B, channels, h_i, w_i) of the neck."""

    @staticmethod
    def targets(
        instances: Any, size: tuple[int, int], valid_size: tuple[int, int], settings: Any = None
    ) -> dict[str, np.ndarray]:
        """Targets of one image with N objects and K classes.

        Points and anchors are assigned to objects in `loss`, on the device. Ignored objects (difficult ones) are
        learnt like all others, as in the release; objects without an area are left out.

        Returns:
            `boxes` (N, 5) float32 in le90 form, `box_labels` (N,) int64, `valid_size` (2,) int64 height and width,
            and the masks of the auxiliary loss at a quarter of the size: `class_masks` (K, H/4, W/4) uint8, the objects
            of each class, `object_mask` (H/4, W/4) uint8, those of any class.

        Raises:
            ValueError: if the instances have no labels, or labels that are not below `num_classes`.
        """
        num_classes = (settings or OrientedHeadConfig()).num_classes
        labels = _checked_labels(instances.labels, len(instances.polygons), num_classes)
        boxes = _fitted_boxes(instances.polygons)
        sound = boxes[:, 3] > MIN_SIDE
        boxes, labels = boxes[sound], labels[sound]
        masks = np.zeros((num_classes, size[0] // MASK_STRIDE, size[1] // MASK_STRIDE), np.uint8)
        for box, label in zip(boxes, labels, strict=True):
            _fill_box(masks[label], box / [MASK_STRIDE, MASK_STRIDE, MASK_STRIDE, MASK_STRIDE, 1])
        rows, columns = (math.ceil(side / MASK_STRIDE) for side in valid_size)
        masks[:, rows:], masks[:, :, columns:] = 0, 0
        return {
            "boxes": boxes,
            "box_labels": labels,
            "valid_size": np.array(valid_size, np.int64),
            "class_masks": masks,
            "object_mask": masks.max(axis=0),
        }

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Class masks (B, K, H/4, W/4), and where any object is (B, 1, H/4, W/4): the background does not count."""
        return stacked(labels, "class_masks").float(), stacked(labels, "object_mask").float()[:, None]

    def class_loss(self, logits: torch.Tensor, assigned: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Sum of the focal loss over the places that count.

        Args:
            logits: (B, P, K).
            assigned: (B, P) the object of each place, `BACKGROUND` or `NOT_COUNTED`.
            classes: (M,) class of the object at each of the M places that have one.
        """
        wanted = torch.zeros_like(logits, dtype=torch.float32)
        wanted[assigned >= 0] = functional.one_hot(classes, logits.shape[-1]).to(wanted.dtype)
        return (focal_loss(logits.float(), wanted) * (assigned != NOT_COUNTED)[..., None]).sum()


def _checked_labels(labels: Any, count: int, num_classes: int) -> np.ndarray:
    if labels is None:
        raise ValueError("the instances have no `labels`; give each object the number of its class")
    labels = np.asarray(labels, dtype=np.int64).reshape(count)
    if count and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"`labels` must lie in 0 … {num_classes - 1}, got {labels.min()} … {labels.max()}; `num_classes` of the "
            "head's settings is the model's number of labels"
        )
    return labels


def _fitted_boxes(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Minimum-area rectangles (N, 5) float32 of polygons (K_i, 2)."""
    boxes = np.zeros((len(polygons), 5), np.float32)
    sizes = np.array([len(polygon) for polygon in polygons], np.int64)
    # All polygons of as many points at once: nearly always there are four.
    for size in np.unique(sizes):
        same = np.flatnonzero(sizes == size)
        boxes[same] = quads_to_boxes(np.array([polygons[index] for index in same.tolist()], np.float32))
    return boxes


def _fill_box(mask: np.ndarray, box: np.ndarray) -> None:
    """Set the pixels of a mask (h, w) whose centre lies in a box (5,) to one."""
    center_x, center_y, width, height, angle = box.tolist()
    radius = math.hypot(width, height) / 2
    left, top = (max(0, math.floor(center - radius)) for center in (center_x, center_y))
    window = mask[top : max(0, math.ceil(center_y + radius)), left : max(0, math.ceil(center_x + radius))]
    y, x = np.ogrid[: window.shape[0], : window.shape[1]]
    x, y = x + left + 0.5 - center_x, y + top + 0.5 - center_y
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    window[(np.abs(along) <= width / 2) & (np.abs(across) <= height / 2)] = 1


def tower(channels: int, num_convs: int, num_groups: int | None) -> nn.Sequential:
    """Convolutions that all levels share, (B, C, h, w) to the same, with group norms unless `num_groups` is `None`."""
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=num_groups is None))
        if num_groups is not None:
            layers.append(nn.GroupNorm(num_groups, channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def flat_maps(levels: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    """Maps (B, A x size, h_i, w_i) of all levels, with A anchors at a location, to (B, P, size) float32."""
    # (B, A * size, h, w) -> (B, h * w, A * size) -> (B, h * w * A, size)
    parts = [level.flatten(2).transpose(1, 2).reshape(level.shape[0], -1, size) for level in levels]
    return torch.cat(parts, dim=1).float()


def level_shapes(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """(L, 2) height and width of maps (B, C, h_i, w_i)."""
    return sizes_tensor([(level.shape[2], level.shape[3]) for level in levels], levels[0], torch.int64)


def locations(shapes: torch.Tensor, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (P, 2) of all levels as x, y in pixels, row by row, and the stride (P,) of each.

    Args:
        shapes: (L, 2) height and width of each level.
        offset: where in its cell a point lies, in strides: the middle 0.5, the top-left corner 0.
    """
    points, strides = [], []
    for (height, width), stride in zip(shapes.tolist(), STRIDES, strict=True):
        y, x = ((torch.arange(size, device=shapes.device) + offset) * stride for size in (height, width))
        points.append(torch.cartesian_prod(y, x).flip(-1).float())
        strides.append(torch.full((height * width,), float(stride), device=shapes.device))
    return torch.cat(points), torch.cat(strides)


def near_locations(
    boxes: torch.Tensor, radii: torch.Tensor, shapes: torch.Tensor, offset: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of an object and a location in a square around its centre: both indices (Q,).

    Found by counting cells, not by looking at all locations: there may be a thousand objects in an image.

    Args:
        boxes: (N, 5).
        radii: (N, L) half the side of the square in pixels, for each level.
        shapes: (L, 2) height and width of each level.
        offset: as of `locations`.
    """
    objects, places, start = [], [], 0
    for radius, size, stride in zip(radii.T, shapes, STRIDES, strict=True):
        height_width = size.tolist()
        limit = torch.tensor(height_width[::-1], device=boxes.device) - 1
        # (N, 2) first and last column and row
        first = ((boxes[:, :2] - radius[:, None]) / stride - offset).ceil().long().clamp(min=0)
        last = torch.minimum(((boxes[:, :2] + radius[:, None]) / stride - offset).floor().long(), limit)
        columns, rows = (last - first + 1).clamp(min=0).unbind(dim=1)
        counts = columns * rows
        own = torch.arange(len(boxes), device=boxes.device).repeat_interleave(counts)
        number = torch.arange(len(own), device=boxes.device) - (counts.cumsum(dim=0) - counts)[own]
        row, column = first[own, 1] + number // columns[own], first[own, 0] + number % columns[own]
        objects.append(own)
        places.append(start + row * height_width[1] + column)
        start += math.prod(height_width)
    return torch.cat(objects), torch.cat(places)


def valid_anchors(shapes: torch.Tensor, valid_size: torch.Tensor, anchors_per_location: int) -> torch.Tensor:
    """(P,) bool, the anchors within an image padded to a multiple of 32, before it was padded to the batch's size."""
    height, width = (PAD_MULTIPLE * math.ceil(side / PAD_MULTIPLE) for side in valid_size.tolist())
    corners, _ = locations(shapes, 0.0)
    inside = (corners[:, 0] < width) & (corners[:, 1] < height)
    return inside.repeat_interleave(anchors_per_location)


def encode_points(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Distances (…, 4) from points (…, 2) to the left, upper, right and lower side of boxes (…, 5)."""
    across = _in_frame(points - boxes[..., :2], boxes[..., 4])
    half = boxes[..., 2:4] / 2
    return torch.cat([half + across, half - across], dim=-1)


def decode_points(points: torch.Tensor, distances: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Boxes (…, 5) around points (…, 2) from `encode_points` (…, 4) and angles (…), which are wrapped to le90's range;
    w may be less than h."""
    near, far = distances[..., :2], distances[..., 2:]
    centers = points + _in_frame((far - near) / 2, -angles)
    return torch.cat([centers, near + far, wrap_angle(angles)[..., None]], dim=-1)


def centerness(distances: torch.Tensor) -> torch.Tensor:
    """1 in the middle of a box, 0 at its border, (…), from distances (…, 4) to its sides as of `encode_points`."""
    near, far = distances[..., :2], distances[..., 2:]
    return (torch.minimum(near, far) / torch.maximum(near, far)).prod(dim=-1).sqrt()


def encode_deltas(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """What turns anchors (…, 5) into boxes (…, 5): dx, dy, dw, dh, da, (…, 5).

    Shifts are measured along the anchor's axes, in its sides. The box is taken in that one of its two notations which
    is turned less against the anchor, so that |da| <= pi/4.
    """
    boxes = regularize_boxes(boxes)
    shift = _in_frame(boxes[..., :2] - anchors[..., :2], anchors[..., 4]) / anchors[..., 2:4]
    straight = wrap_angle(boxes[..., 4] - anchors[..., 4])
    crossed = wrap_angle(boxes[..., 4] - anchors[..., 4] + math.pi / 2)
    is_straight = straight.abs() < crossed.abs()
    sides = torch.where(is_straight[..., None], boxes[..., 2:4], boxes[..., 2:4].flip(-1))
    turn = torch.where(is_straight, straight, crossed)
    return torch.cat([shift, (sides / anchors[..., 2:4]).log(), turn[..., None]], dim=-1)


def decode_deltas(anchors: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """Boxes (…, 5) in le90 form, from anchors (…, 5) and `encode_deltas` (…, 5)."""
    sides = anchors[..., 2:4] * deltas[..., 2:4].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    centers = anchors[..., :2] + _in_frame(deltas[..., :2] * anchors[..., 2:4], -anchors[..., 4])
    angles = wrap_angle(anchors[..., 4] + deltas[..., 4])
    return regularize_boxes(torch.cat([centers, sides, angles[..., None]], dim=-1))


def _in_frame(vectors: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Vectors (…, 2) as seen from axes turned by angles (…)."""
    cos, sin = angles.cos(), angles.sin()
    x, y = vectors.unbind(dim=-1)
    return torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)


def best_objects(
    objects: torch.Tensor, places: torch.Tensor, values: torch.Tensor, num_places: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest value (P,) at each place and the object (P,) that attains it, the first of several.

    Where there is no object they are -inf and `BACKGROUND`.

    Args:
        objects, places, values: (Q,) pairs of both and their value, such as their IoU.
        num_places: P.
    """
    best = torch.full((num_places,), -torch.inf, dtype=values.dtype, device=values.device)
    best = best.scatter_reduce(0, places, values, "amax")
    attained = values >= best[places]
    none = torch.iinfo(torch.int64).max
    first = torch.full((num_places,), none, device=values.device)
    first = first.scatter_reduce(0, places[attained], objects[attained], "amin")
    return best, torch.where(first == none, BACKGROUND, first)


def matched_objects(assigned: torch.Tensor, labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (M, 5) and classes (M,) of the objects at those M of all places (B, P) that have one."""
    boxes = split_by_image(labels, "boxes")
    numbers = [assigned[image][assigned[image] >= 0] for image in range(len(assigned))]
    classes = split_by_image(labels, "box_labels")
    return (
        torch.cat([one[found] for one, found in zip(boxes, numbers, strict=True)]),
        torch.cat([one[found] for one, found in zip(classes, numbers, strict=True)]).long(),
    )


def candidates(
    maps: Mapping[str, Any],
    image: int,
    decoding: OrientedDecoding,
    boxes_at: Callable[[int, torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes (N, 5), scores (N,) and classes (N,) of one image before suppression.

    Args:
        maps: an `OrientedHeadOutput`, or its tensors by name.
        image: its number in the batch.
        decoding: settings.
        boxes_at: boxes (N, 5) of an image at places (N,).
    """
    scores = torch.as_tensor(maps["class_logits"])[image].float().sigmoid()  # (P, K)
    num_locations = torch.as_tensor(maps["level_shapes"]).prod(dim=1)
    places, classes, start = [], [], 0
    for size in (num_locations * (len(scores) // int(num_locations.sum()))).tolist():
        pairs = scores[start : start + size].flatten()
        found = torch.nonzero(pairs > decoding.threshold)[:, 0]
        # A stable order: equal scores keep that of their places.
        found = found[pairs[found].argsort(descending=True, stable=True)[: decoding.max_candidates]]
        places.append(start + found // scores.shape[1])
        classes.append(found % scores.shape[1])
        start += size
    place, label = torch.cat(places), torch.cat(classes)
    score = scores[place, label]
    if maps.get("centerness_logits") is not None:
        score = score * torch.as_tensor(maps["centerness_logits"])[image, place].float().sigmoid()
    boxes = boxes_at(image, place)
    sound = (boxes[:, 2:4] > 0).all(dim=1) & boxes.isfinite().all(dim=1)
    return boxes[sound], score[sound], label[sound]


def decode_regions(
    maps: Mapping[str, Any],
    decoding: OrientedDecoding,
    boxes_at: Callable[[int, torch.Tensor], torch.Tensor],
) -> Regions:
    """Objects of all images as quads (4, 2) in pixels of the input, which may leave the image; see `candidates`."""
    quads, scores, labels, images = [], [], [], []
    for image in range(len(maps["class_logits"])):
        box, score, label = candidates(maps, image, decoding, boxes_at)
        kept = rotated_nms(box, score, label, decoding.nms_threshold)[: decoding.max_detections]
        quads.append(boxes_to_quads(box[kept]))
        scores.append(score[kept])
        labels.append(label[kept])
        images.append(torch.full_like(kept, image))
    outlines = torch.cat(quads)  # (N, 4, 2)
    return Regions(
        points=outlines.reshape(-1, 2),
        counts=torch.full((len(outlines),), 4, dtype=torch.int64, device=outlines.device),
        batch_indices=torch.cat(images),
        scores=torch.cat(scores),
        labels=torch.cat(labels),
    )


def anchor_candidates(
    maps: Mapping[str, Any], valid_sizes: torch.Tensor, anchors: torch.Tensor
) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """`boxes_at` of a head with anchors (P, 5): centres are moved into the image, as in the release."""
    deltas = torch.as_tensor(maps["box_predictions"]).float()

    def boxes_at(image: int, places: torch.Tensor) -> torch.Tensor:
        boxes = decode_deltas(anchors[places], deltas[image, places])
        limits = valid_sizes[image].flip(0).to(boxes) - 1
        centers = torch.minimum(boxes[:, :2].clamp(min=0), limits)
        return torch.cat([centers, boxes[:, 2:]], dim=1)

    return boxes_at
