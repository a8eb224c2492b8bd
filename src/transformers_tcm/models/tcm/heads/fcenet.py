"""FCENet: outlines as short Fourier series, predicted by every cell of a word on three levels of a pyramid.

References: Zhu et al., "Fourier Contour Embedding for Arbitrary-Shaped Text Detection", CVPR 2021; centre regions, Long
et al., "TextSnake: A Flexible Representation for Detecting Text of Arbitrary Shapes", ECCV 2018; hard negatives,
Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils import ModelOutput

from .... import geometry
from ....instances import TextInstances
from ..losses_tcm import sum_of_largest
from ..strict_tcm import strict_frozen
from .base import (
    DecodingSettings,
    DetectionHead,
    HeadInputs,
    Regions,
    check_range,
    level_maps,
    split_by_image,
    stacked,
    valid_parts,
)
from .necks import FeaturePyramid

__all__ = ["FCENetConfig", "FCENetDecoding", "FCENetHead", "FCENetOutput"]

FINEST_LEVEL = 3
STRIDES = (8, 16, 32)
# Points that an outline is resampled to before its Fourier transform, about; more for one of many vertices.
RESAMPLED_POINTS = 400
POINTS_PER_EDGE = 10
# So many of them are the closest to the vertical line through the centre; the highest is the first.
START_CANDIDATES = 8
# Cells learned from on a level without words.
NEGATIVES_WITHOUT_TEXT = 100
MIN_CENTER_POINTS = 3
# What the cells outside of the text weigh in the loss of the centres.
OUTSIDE_WEIGHT = 0.5
# Smallest area of a word, in square pixels of the network's input.
MIN_AREA = 1.0


@strict_frozen
@dataclass(frozen=True)
class FCENetConfig:
    """Settings of the FCENet head.

    Args:
        channels: width of the pyramid.
        degree: K of the Fourier series, whose coefficients run from -K to K.
        num_samples: points of an outline that the loss compares.
        num_points: what the `num_points` of decoding starts with.
        ranges: for each of the levels at strides 8, 16 and 32 the sizes of its words, the longer side of a word's box
            over the height of the network's input. The last one also takes all larger words.
        center_ratio: height of a word's centre region over that of the word.
        center_step: cells between two points of its centre line.
        text_exponent: what the `text_exponent` of decoding starts with.
        center_exponent: what the `center_exponent` of decoding starts with.
        max_overlap: what the `max_overlap` of decoding starts with.
        negative_ratio: hard negatives for each positive cell.
        text_weight: weight of the text regions' cross-entropy.
        center_weight: weight of the centre regions' cross-entropy.
        contour_weight: weight of the outlines' smooth L1 loss.
    """

    channels: int = 256
    degree: int = 5
    num_samples: int = 50
    num_points: int = 50
    ranges: list[list[float | int]] = field(default_factory=lambda: [[0.0, 0.25], [0.2, 0.65], [0.55, 1.0]])
    center_ratio: float = 0.3
    center_step: float | int = 4.0
    text_exponent: float | int = 1.0
    center_exponent: float | int = 2.0
    max_overlap: float = 0.1
    negative_ratio: float | int = 3.0
    text_weight: float | int = 1.0
    center_weight: float | int = 1.0
    contour_weight: float | int = 1.0

    def __post_init__(self) -> None:
        amounts = ("negative_ratio", "text_weight", "center_weight", "contour_weight")
        check_range(self, channels=(1, None), degree=(1, None), **dict.fromkeys(amounts, (0, None)))
        check_range(self, num_samples=(4, None), num_points=(4, None), center_ratio=(0, 1), max_overlap=(0, 1))
        check_range(self, text_exponent=(0, None), center_exponent=(0, None))
        if self.center_step <= 0:
            raise ValueError(f"`center_step` must be positive, got {self.center_step}")
        pairs = len(self.ranges) == len(STRIDES) and all(len(pair) == 2 for pair in self.ranges)
        if not pairs or not all(0 <= low < high for low, high in self.ranges):
            raise ValueError(
                f"`ranges` must hold a pair 0 <= lowest < highest for each of the {len(STRIDES)} levels, "
                f"got {self.ranges}"
            )


@strict_frozen
@dataclass(frozen=True)
class FCENetDecoding(DecodingSettings):
    """How outlines are read from the cells; `box_threshold` bounds the scores of outlines from below.

    `max_candidates` takes the best cells of each level. With `polygon` outlines have `num_points` points, otherwise
    they are the smallest rectangles around these.

    Args:
        box_threshold: lowest score of an outline, in [0, 1].
        threshold: cells with a score above this, and all that they enclose, predict outlines, in [0, 1].
        text_exponent: alpha of the score, p_text^alpha x p_center^beta.
        center_exponent: beta of the score.
        num_points: points of an outline.
        max_overlap: outlines with a larger IoU with a better one are left out.
    """

    box_threshold: float | int = 0.3
    threshold: float | int = 0.3
    text_exponent: float | int = 1.0
    center_exponent: float | int = 2.0
    num_points: int = 50
    max_overlap: float | int = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, threshold=(0, 1), text_exponent=(0, None), center_exponent=(0, None))
        check_range(self, num_points=(4, None), max_overlap=(0, 1))


@dataclass
class FCENetOutput(ModelOutput):
    """Maps of the FCENet head on its three levels, at strides 8, 16 and 32.

    Args:
        class_logits: (B, 4, h, w) each: no text region, text region, no centre region, centre region.
        coefficients: (B, 2, 2K + 1, h, w) each: real and imaginary parts, in cells of the level, from k = -K to K; that
            of k = 0, the middle of the outline, is relative to the cell.
    """

    class_logits: tuple[torch.Tensor, ...]
    # Always there: `ModelOutput` takes but one field without a default.
    coefficients: tuple[torch.Tensor, ...] = None  # type: ignore[assignment]


class FCENetHead(DetectionHead):
    """Pyramid with its levels sharing two convolutions: one for the regions, one for the outlines."""

    config_class = FCENetConfig
    decoding_class = FCENetDecoding
    presets = {"tiny": {"channels": 64}, "small": {"channels": 128}, "base": {"channels": 256}}
    display_name = "FCENet"
    paper = "Zhu et al., Fourier Contour Embedding for Arbitrary-Shaped Text Detection, CVPR 2021"
    score_map_loss = "bce"

    def __init__(self, settings: FCENetConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes)
        self.neck = FeaturePyramid(in_channels[1:], settings.channels, len(STRIDES))
        self.classifier = nn.Conv2d(settings.channels, 4, 3, padding=1)
        self.contour = nn.Conv2d(settings.channels, 2 * (2 * settings.degree + 1), 3, padding=1)

    def init_weights(self) -> None:
        """Small predictions at first, as in the released detectors."""
        for layer in self.neck.modules():
            if isinstance(layer, nn.Conv2d):
                init.xavier_uniform_(layer.weight)
                init.zeros_(layer.get_parameter("bias"))
        for layer in (self.classifier, self.contour):
            init.normal_(layer.weight, std=0.01)
            init.zeros_(layer.get_parameter("bias"))

    @classmethod
    def default_decoding(cls, settings: FCENetConfig) -> FCENetDecoding:
        """Exponents belong to the probabilities that were learned, the points to the degree of the series."""
        names = ("text_exponent", "center_exponent", "num_points", "max_overlap")
        return FCENetDecoding(**{name: getattr(settings, name) for name in names})

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> FCENetOutput:
        levels = self.neck(inputs.pyramid[1:])
        return FCENetOutput(
            # In float32: cells are added to the coefficients, and strides multiply them.
            class_logits=tuple(self.classifier(level).float() for level in levels),
            # (B, 2 (2K + 1), h, w) -> (B, 2, 2K + 1, h, w)
            coefficients=tuple(self.contour(level).float().unflatten(1, (2, -1)) for level in levels),
        )

    def loss(self, maps: FCENetOutput, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Cross-entropies of text and centre regions, smooth L1 of the outlines' points; sums over the levels.

        Raises:
            ValueError: if the labels were made for another head or other sizes.
        """
        words = split_by_image(labels, "word_coefficients")
        first = torch.tensor([0, *(len(one) for one in words[:-1])]).cumsum(0)  # (B,) each image's among those of all
        every_word = torch.cat(words)  # (N, 2, 2K + 1)
        terms = []
        for level, (logits, coefficients) in enumerate(zip(maps.class_logits, maps.coefficients, strict=True)):
            ids, center, used = _level_labels(labels, level, logits)
            text, counts = ids > 0, used > 0
            wanted = _wanted_coefficients(every_word, first.to(ids.device), ids, text & counts, STRIDES[level])
            regions = _text_loss(logits[:, :2], text, counts, self.settings.negative_ratio)
            weights = (1.0 + (center > 0).float()[text & counts]) / 2
            predicted = coefficients.permute(0, 3, 4, 1, 2)[text & counts]  # (B, h, w, 2, 2K + 1) -> (P, 2, 2K + 1)
            contour = _contour_loss(predicted, wanted, weights, self.settings.num_samples)
            terms.append((regions, _center_loss(logits[:, 2:], center > 0, text & counts), *contour))
        text_loss, center_loss, x_loss, y_loss = (torch.stack(values).sum() for values in zip(*terms, strict=True))
        return {
            "loss_text": self.settings.text_weight * text_loss,
            "loss_center": self.settings.center_weight * center_loss,
            "loss_contour_x": self.settings.contour_weight * x_loss,
            "loss_contour_y": self.settings.contour_weight * y_loss,
        }

    @staticmethod
    def targets(
        instances: TextInstances, size: tuple[int, int], valid_size: tuple[int, int], settings: FCENetConfig
    ) -> dict[str, np.ndarray]:
        """Targets of one image with N words.

        `text_map` and `text_mask` (height, width) are uint8, the text and where it counts; `word_coefficients`
        (N, 2, 2K + 1) float32, the words' Fourier series in pixels, zero for ignored ones. For each level k of 3, 4 and
        5, at stride 2^k: `levelk_words` (h, w) int32, the word that a cell is to find, counted from 1, 0 for none;
        `levelk_center` uint8, the words' centre regions; `levelk_used` uint8, zero in ignored words. Words without area
        are ignored; cells in the padding learn that there is no text.
        """
        import cv2

        usable = ~instances.ignored & np.array([_is_sound(polygon) for polygon in instances.polygons], dtype=bool)
        text_map, text_mask = np.zeros(size, np.uint8), np.ones(size, np.uint8)
        coefficients = np.zeros((len(instances), 2, 2 * settings.degree + 1), np.float32)
        for index, polygon in enumerate(instances.polygons):
            cv2.fillPoly(text_map if usable[index] else text_mask, [polygon.astype(np.int32)], int(usable[index]))
            if usable[index]:
                coefficients[index] = _fourier_coefficients(polygon, settings.degree)
        text_mask[valid_size[0] :], text_mask[:, valid_size[1] :] = 0, 0
        targets: dict[str, np.ndarray] = {
            "text_map": text_map,
            "text_mask": text_mask,
            "word_coefficients": coefficients,
        }
        on_levels = _on_levels(instances.polygons, size[0], settings)
        for level, stride in enumerate(STRIDES):
            maps = _level_targets(instances.polygons, usable, on_levels[level], stride, size, settings)
            targets |= {f"level{FINEST_LEVEL + level}_{name}": values for name, values in maps.items()}
        return targets

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return stacked(labels, "text_map").float()[:, None], stacked(labels, "text_mask").float()[:, None]

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: FCENetDecoding) -> Regions:
        """The outlines that the cells of text vote for, without those that overlap better ones, the best first."""
        # Each level as one entry for each image.
        logits: list[list[np.ndarray]] = []
        coefficients: list[list[np.ndarray]] = []
        pairs = zip(level_maps(maps, "class_logits"), level_maps(maps, "coefficients"), strict=True)
        for stride, (class_logits, series) in zip(STRIDES, pairs, strict=True):
            valid_cells = -(-torch.as_tensor(valid_sizes) // stride)  # rounded up
            logits.append(valid_parts(class_logits, valid_cells, "class_logits"))
            coefficients.append(valid_parts(series.flatten(1, 2), valid_cells, "coefficients"))
        outlines, scores = [], []
        for image in range(len(valid_sizes)):
            levels = [(logits[level][image], coefficients[level][image]) for level in range(len(STRIDES))]
            found = _find_outlines(levels, decoding)
            drawn = [_drawn(points, decoding.polygon) for points in found.points]
            kept = [_is_large(outline, decoding.min_size) for outline in drawn]
            outlines.append([outline for outline, large in zip(drawn, kept, strict=True) if large])
            scores.append(found.scores[np.array(kept, dtype=bool)])
        return Regions.from_outlines(outlines, scores)


def _fourier_basis(degree: int, num_points: int) -> np.ndarray:
    """cos and sin (2, 2K + 1, N) of 2 pi k n / N for k = -K … K."""
    angles = 2 * np.pi * np.arange(-degree, degree + 1)[:, None] * np.arange(num_points) / num_points
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def _contour_points(coefficients: np.ndarray, num_points: int) -> np.ndarray:
    """Points (M, N, 2) of the outlines with Fourier coefficients (M, 2, 2K + 1)."""
    basis = torch.from_numpy(_fourier_basis(coefficients.shape[2] // 2, num_points))
    return torch.stack(_contour_coordinates(torch.from_numpy(coefficients), basis), dim=-1).numpy()


def _contour_coordinates(coefficients: torch.Tensor, basis: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y (M, N) each of outlines with coefficients (M, 2, 2K + 1); basis (2, 2K + 1, N)."""
    (real, imaginary), (cosine, sine) = coefficients.unbind(dim=1), basis
    return real @ cosine - imaginary @ sine, real @ sine + imaginary @ cosine


def _fourier_coefficients(polygon: np.ndarray, degree: int) -> np.ndarray:
    """Real and imaginary parts (2, 2K + 1) of an outline's Fourier coefficients, k = -K … K, positive k clockwise."""
    points = _starting_at_the_top(_resampled(polygon))
    series = np.fft.fft(points[:, 0] + 1j * points[:, 1]) / len(points)
    kept = series[np.arange(-degree, degree + 1)]
    size = np.abs(kept)
    # The larger of both circles tells which way the outline runs; the other way round is the same start.
    for k in range(1, min(degree, 2) + 1):
        if size[degree + k] != size[degree - k]:
            kept = kept if size[degree + k] > size[degree - k] else kept[::-1]
            break
    return np.stack([kept.real, kept.imag])


def _resampled(polygon: np.ndarray) -> np.ndarray:
    """About 400 points (M, 2) along an outline (K, 2), evenly spaced within each of its edges, none on the shortest."""
    start = np.asarray(polygon, dtype=np.float64)
    edges = np.roll(start, -1, axis=0) - start
    lengths = np.linalg.norm(edges, axis=1)
    total = max(RESAMPLED_POINTS, POINTS_PER_EDGE * len(start))
    counts = (total * lengths / (lengths.sum() + 1e-8)).astype(np.int64)
    parts = [
        begin + np.arange(count)[:, None] * edge / count
        for begin, edge, count in zip(start, edges, counts, strict=True)
        if count
    ]
    return np.concatenate(parts)


def _starting_at_the_top(points: np.ndarray) -> np.ndarray:
    """An outline (M, 2) that starts where the vertical line through its centre meets its upper side."""
    closest = np.argsort(np.abs(points[:, 0] - points[:, 0].mean()), kind="stable")[:START_CANDIDATES]
    return np.roll(points, -closest[np.argmin(points[closest, 1])], axis=0)


def _is_sound(polygon: np.ndarray) -> bool:
    return len(polygon) >= 4 and abs(geometry.signed_area(polygon)) >= MIN_AREA


def _on_levels(polygons: list[np.ndarray], height: int, settings: FCENetConfig) -> np.ndarray:
    """Whether each level is to find each word, bool (3, N); the ranges overlap, so that two levels may share one."""
    corners = np.array([geometry.bounding_box(polygon.astype(np.int32)) for polygon in polygons]).reshape(-1, 4)
    sizes = (corners[:, 2:] - corners[:, :2] + 1).max(axis=1, initial=0) / height
    low, high = np.array(settings.ranges, dtype=np.float64).T
    high[-1] = np.inf  # wide images hold words longer than their height
    return (low[:, None] < sizes) & (sizes < high[:, None])


def _level_targets(
    polygons: list[np.ndarray],
    usable: np.ndarray,
    on_level: np.ndarray,
    stride: int,
    size: tuple[int, int],
    settings: FCENetConfig,
) -> dict[str, np.ndarray]:
    """Maps (height / stride, width / stride) of the words of one level: `words`, `center` and `used`."""
    import cv2

    shape = size[0] // stride, size[1] // stride
    words, center, used = np.zeros(shape, np.int32), np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    boxes: list[np.ndarray] = []
    for index in np.flatnonzero(on_level):
        outline = polygons[index] / stride
        if usable[index]:
            cv2.fillPoly(words, [outline.astype(np.int32)], int(index) + 1)
            boxes += _center_boxes(outline, settings)
        else:
            cv2.fillPoly(used, [outline.astype(np.int32)], 0)
    if boxes:
        cv2.fillPoly(center, boxes, 1)
    return {"words": words, "center": center, "used": used}


def _center_boxes(outline: np.ndarray, settings: FCENetConfig) -> list[np.ndarray]:
    """Quads (4, 2) int32 along the centre line of a word (K, 2) in cells, its ends left out (TextSnake)."""
    first, second = _sidelines(outline)
    length = (_length(first) + _length(second)) / 2
    count = max(int(length // settings.center_step) + 1, MIN_CENTER_POINTS)
    upper, lower = _along(first, count), _along(second[::-1], count)
    ends = np.linalg.norm(upper[[0, -1]] - lower[[0, -1]], axis=1)
    skipped, dropped = (ends / 4 // settings.center_step).astype(int)
    if count > skipped + dropped + 2:
        upper, lower = upper[skipped : count - dropped], lower[skipped : count - dropped]
    middle = (upper + lower) / 2
    upper, lower = (middle + settings.center_ratio * (side - middle) for side in (upper, lower))
    corners = np.stack([upper[:-1], upper[1:], lower[1:], lower[:-1]], axis=1)  # (count - 1, 4, 2)
    return list(corners.astype(np.int32))


def _length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _along(line: np.ndarray, count: int) -> np.ndarray:
    """Points (count, 2) evenly spaced along a line (K, 2), its ends among them."""
    line = np.asarray(line, dtype=np.float64)
    travelled = np.concatenate([[0], np.linalg.norm(np.diff(line, axis=0), axis=1).cumsum()])
    places = np.linspace(0, travelled[-1], count)
    return np.stack([np.interp(places, travelled, line[:, axis]) for axis in (0, 1)], axis=1)


def _sidelines(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both long sides of a word (K, 2), one after the other as the outline runs."""
    head, tail = _quad_ends(outline) if len(outline) == 4 else _ends(outline)
    length = len(outline)
    stop = (tail + 1) % length or length
    begin = (head + 1) % length
    return outline[np.arange(begin, stop) % length], outline[np.arange(stop, begin + length) % length]


def _quad_ends(quad: np.ndarray) -> tuple[int, int]:
    """The edges (i to i + 1) of a quad (4, 2) where its word begins and ends: the upright ones, unless it is tall."""
    edges = np.roll(quad, -1, axis=0) - quad
    slopes, lengths = np.abs(edges[:, 1] / (edges[:, 0] + 1e-8)), np.linalg.norm(edges, axis=1)
    upright = (3, 1) if slopes[0] + slopes[2] < slopes[1] + slopes[3] else (0, 2)
    level = (0, 2) if upright == (3, 1) else (3, 1)
    return level if lengths[list(upright)].sum() > 2 * lengths[list(level)].sum() else upright


def _ends(outline: np.ndarray) -> tuple[int, int]:
    """The two edges (i to i + 1) of an outline (K, 2), K > 4, where its word begins and ends.

    They stand at right angles to their neighbours, which run against each other, are far from the centre and, in even
    outlines, where annotators put them; and the two are half an outline apart.
    """
    length = len(outline)
    edges = np.roll(outline, -1, axis=0) - outline
    before, after = np.roll(edges, 1, axis=0), np.roll(edges, -1, axis=0)
    far = np.linalg.norm(outline - outline.mean(axis=0), axis=1)
    far = np.maximum(far, np.roll(far, -1))
    scores = 0.5 * (_angles(edges, before) + _angles(edges, after)) / np.pi + 0.15 * _angles(before, after) / np.pi
    scores += 0.35 * far / far.max()
    if length % 2 == 0:
        scores[[length // 2 - 1, length - 1]] += 0.1
    gaps = np.arange(length - 3)
    closeness = np.exp(-0.5 * ((gaps / (length - 4) - 0.5) / 0.5) ** 2)
    others = (np.arange(length)[:, None] + 2 + gaps) % length  # (K, K - 3)
    pairs = scores[:, None] + 0.3 * scores[others] * closeness / closeness.max()
    head, gap = np.unravel_index(int(np.argmax(pairs)), pairs.shape)
    tail = int(others[head, gap])
    # The edge whose second vertex comes first in the outline is the head.
    return (tail, int(head)) if (head + 1) % length > (tail + 1) % length else (int(head), tail)


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles (K,) between vectors (K, 2), in [0, pi]."""
    units = (vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-8) for vectors in (first, second))
    return np.arccos(np.clip(np.multiply(*units).sum(axis=1), -1, 1))


def _level_labels(
    labels: Mapping[str, torch.Tensor], level: int, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words, centres and used cells (B, h, w) of a level with logits (B, 4, h, w)."""
    names = (f"level{FINEST_LEVEL + level}_{name}" for name in ("words", "center", "used"))
    words, center, used = (stacked(labels, name) for name in names)
    if words.shape != logits[:, 0].shape:
        raise ValueError(
            f"`labels` have {tuple(words.shape)} cells at stride {STRIDES[level]}, the head has "
            f"{tuple(logits[:, 0].shape)}; build them with the collator for the padded size of the batch"
        )
    return words, center, used


def _wanted_coefficients(
    words: torch.Tensor, first: torch.Tensor, ids: torch.Tensor, positive: torch.Tensor, stride: int
) -> torch.Tensor:
    """Coefficients (P, 2, 2K + 1), in cells and relative to their cell, that the positive cells are to predict.

    Takes the words of all images (N, 2, 2K + 1) in pixels, the first (B,) of each image among them, and for each cell
    (B, h, w) the number of its word in the image and whether it is positive.
    """
    image, row, column = torch.nonzero(positive, as_tuple=True)
    wanted = words[first[image] + ids[positive].long() - 1].float() / stride
    degree = wanted.shape[2] // 2
    wanted[:, :, degree] -= torch.stack([column, row], dim=1)
    return wanted


def _text_loss(logits: torch.Tensor, text: torch.Tensor, counts: torch.Tensor, negative_ratio: float) -> torch.Tensor:
    """Cross-entropy over the text cells and the hardest others; logits (B, 2, h, w), the rest (B, h, w).

    Without text it is the mean over the hardest cells; the released code divides their sum by 100 even where there are
    fewer.
    """
    losses = functional.cross_entropy(logits, text.long(), reduction="none")
    positive, negative = text & counts, ~text & counts
    num_positive = positive.sum()
    wanted = torch.where(num_positive > 0, (num_positive * negative_ratio).long(), NEGATIVES_WITHOUT_TEXT)
    num_negative = torch.minimum(wanted, negative.sum())
    # What does not count is smaller than any cross-entropy.
    hardest = sum_of_largest(torch.where(negative, losses, -1.0).reshape(1, -1), num_negative[None])[0]
    return ((losses * positive).sum() + hardest) / (num_positive + num_negative).clamp(min=1)


def _center_loss(logits: torch.Tensor, center: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Cross-entropy within the text and, at half its weight, outside, ignored words included; 0 without text."""
    losses = functional.cross_entropy(logits, center.long(), reduction="none")
    inside, outside = losses[positive], losses[~positive]
    if len(inside) == 0:
        return losses.sum() * 0
    return inside.mean() + OUTSIDE_WEIGHT * outside.sum() / max(len(outside), 1)


def _contour_loss(
    predicted: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, num_samples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth L1 of the x's and of the y's of points on P outlines with coefficients (P, 2, 2K + 1), weighted (P,)."""
    basis = torch.from_numpy(_fourier_basis(predicted.shape[2] // 2, num_samples)).to(predicted.device)
    # Products in half precision, as autocast makes them, would be off by parts of a cell.
    with torch.autocast(predicted.device.type, enabled=False):
        mine, theirs = (_contour_coordinates(series.float(), basis) for series in (predicted, wanted))
        x, y = (
            (weights[:, None] * functional.smooth_l1_loss(*pair, reduction="none")).sum() / max(pair[0].numel(), 1)
            for pair in zip(mine, theirs, strict=True)
        )
    return x, y


@dataclass(frozen=True)
class _Outlines:
    """P outlines of one image in pixels of the network's input.

    Args:
        points: (P, N, 2).
        scores: (P,).
        crossing: (P,) bool, whether it crosses itself.
        shapes: (P,) shapely geometries, mended where it does.
    """

    points: np.ndarray
    scores: np.ndarray
    crossing: np.ndarray
    shapes: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, scores: np.ndarray) -> "_Outlines":
        import shapely

        shapes = shapely.polygons(points)
        crossing = ~shapely.is_valid(shapes)
        shapes[crossing] = shapely.buffer(shapes[crossing], 0)
        return cls(points, scores, crossing, shapes)

    @classmethod
    def joined(cls, parts: "Sequence[_Outlines]") -> "_Outlines":
        return cls(*(np.concatenate(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))

    def select(self, which: np.ndarray) -> "_Outlines":
        return _Outlines(*(values[which] for values in vars(self).values()))


def _find_outlines(levels: Sequence[tuple[np.ndarray, np.ndarray]], decoding: FCENetDecoding) -> _Outlines:
    """The outlines of one image, the best first, from class logits (4, h, w) and coefficients (2 (2K + 1), h, w).

    Suppression goes first within each connected region of a level, then among the survivors of the level, then among
    those of all levels: what a better outline of its own region replaces does not suppress others.
    """
    found = []
    for stride, (logits, coefficients) in zip(STRIDES, levels, strict=True):
        score_map = _score_map(logits, decoding)
        y, x, regions = _candidates(score_map, decoding)
        points = stride * _outlines_at(coefficients, x, y, decoding.num_points)
        candidates = _Outlines.of(points, score_map[y, x])
        none = candidates.select(np.zeros(0, dtype=np.int64))
        by_region = (candidates.select(regions == region) for region in np.unique(regions))
        survivors = [_nms(outlines, decoding.max_overlap) for outlines in by_region]
        found.append(_nms(_Outlines.joined([none, *survivors]), decoding.max_overlap))
    return _nms(_Outlines.joined(found), decoding.max_overlap)


def _score_map(logits: np.ndarray, decoding: FCENetDecoding) -> np.ndarray:
    """p_text^alpha x p_center^beta (h, w) of class logits (4, h, w)."""
    probabilities = torch.from_numpy(logits).unflatten(0, (2, 2)).softmax(dim=1)[:, 1].numpy()
    return probabilities[0] ** decoding.text_exponent * probabilities[1] ** decoding.center_exponent


def _candidates(score_map: np.ndarray, decoding: FCENetDecoding) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and connected region (P,) of the cells that predict outlines; holes of regions are filled."""
    import cv2

    text = np.pad(score_map > decoding.threshold, 1).astype(np.uint8)
    around = text.copy()
    cv2.floodFill(around, None, (0, 0), 1)
    filled = (text | (1 - around))[1:-1, 1:-1]  # holes are what the flood from outside does not reach
    _, regions = cv2.connectedComponents(filled, connectivity=8)
    y, x = np.nonzero(filled.astype(bool) & (score_map >= decoding.box_threshold))
    if len(y) > decoding.max_candidates:
        best = np.sort(np.argsort(-score_map[y, x], kind="stable")[: decoding.max_candidates])
        y, x = y[best], x[best]
    return y, x, regions[y, x]


def _outlines_at(coefficients: np.ndarray, x: np.ndarray, y: np.ndarray, num_points: int) -> np.ndarray:
    """Outlines (P, N, 2) in cells that the cells at x, y (P,) predict; coefficients (2 (2K + 1), h, w)."""
    degree = (len(coefficients) // 2 - 1) // 2
    series = coefficients[:, y, x].T.reshape(len(y), 2, 2 * degree + 1)
    series[:, 0, degree] += x
    series[:, 1, degree] += y
    return _contour_points(series, num_points)


def _nms(outlines: _Outlines, max_overlap: float) -> _Outlines:
    """Non-maximum suppression by exact IoU: those that overlap no better one that is kept, the best first."""
    import shapely

    areas = shapely.area(outlines.shapes)
    order = np.argsort(outlines.scores, kind="stable")[::-1]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        # Most candidates are copies of the best one, which is told faster than by intersecting them.
        bound = _least_shared_area(outlines.points[best], outlines.points[order], areas[best], areas[order])
        copies = bound > max_overlap * (areas[best] + areas[order] - bound)
        order = order[~copies | outlines.crossing[best] | outlines.crossing[order]]
        shared = shapely.area(shapely.intersection(outlines.shapes[best], outlines.shapes[order]))
        order = order[shared <= max_overlap * (areas[best] + areas[order] - shared)]
    return outlines.select(np.array(kept, dtype=np.int64))


def _least_shared_area(outline: np.ndarray, others: np.ndarray, area: float, areas: np.ndarray) -> np.ndarray:
    """Lower bound (P,) of the area that an outline (N, 2) shares with others (P, N, 2), none of which cross themselves.

    Its vertices are moved to those of the other one by one. Each sweeps two triangles, with the neighbour that has been
    moved and the one that has not; what only one of both outlines holds lies within them.
    """
    moved = np.roll(others, 1, axis=1)
    moved[:, 0] = outline[-1]
    waiting = np.broadcast_to(np.roll(outline, -1, axis=0), others.shape).copy()
    waiting[:, -1] = others[:, 0]
    way_x, way_y = np.moveaxis(others - outline, -1, 0)
    swept = np.zeros(len(others))
    for neighbour in (moved, waiting):
        side_x, side_y = np.moveaxis(neighbour - outline, -1, 0)
        swept += np.abs(way_x * side_y - way_y * side_x).sum(axis=1) / 2
    return (area + areas - swept) / 2


def _drawn(points: np.ndarray, polygon: bool) -> np.ndarray:
    return geometry.order_clockwise(points) if polygon else geometry.min_area_quad(points)


def _is_large(outline: np.ndarray, min_size: float) -> bool:
    """Whether an outline (K, 2) has an area and no side too short."""
    import cv2

    return cv2.contourArea(outline) >= MIN_AREA and min(cv2.minAreaRect(outline)[1]) >= min_size
