"""PAN: kernels of words, grown to whole words over pixels whose embedding is close to the kernel's.

References: Wang et al., "Efficient and Accurate Arbitrary-Shaped Text Detection with Pixel Aggregation Network",
ICCV 2019; hard negatives, Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining",
CVPR 2016. Losses and growth are those of the detectors that TCM's PAN was trained with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from .... import geometry
from ....instances import TextInstances
from ..losses_tcm import kth_largest
from ..strict_tcm import strict_frozen
from .base import (
    DecodingSettings,
    DetectionHead,
    HeadInputs,
    Regions,
    check_range,
    stacked,
    valid_parts,
)
from .necks import PixelAggregationPyramid

__all__ = ["PANConfig", "PANDecoding", "PANHead", "PANOutput"]

STRIDE = 4
DICE_EPSILON = 1e-3
# Smallest area of an outline, in square pixels of the network's input.
MIN_AREA = 1.0
# Vertices that a pixel contour has in excess are closer to their neighbours' chord than this part of its perimeter.
CONTOUR_TOLERANCE = 0.002


@strict_frozen
@dataclass(frozen=True)
class PANConfig:
    """Settings of the PAN head.

    Args:
        channels: width of each of the pyramid's four levels.
        num_repeats: feature pyramid enhancement modules in a row.
        embedding_size: values that tell the pixels of one word from those of another.
        kernel_ratio: r of the kernels, words moved in by area x (1 - r^2) / perimeter.
        max_shrink: farthest that a word is moved in, in pixels of the network's input.
        max_distance: what the `max_distance` of decoding starts with.
        min_cells: what the `min_cells` of decoding starts with.
        aggregation_margin: pixels may be this far from their kernel's mean embedding without a loss.
        discrimination_margin: mean embeddings of two kernels should be this far apart.
        negative_ratio: hard negatives for each positive pixel.
        kernel_weight: weight of the kernels' dice loss, relative to the text's.
        embedding_weight: weight of both terms on the embedding.
        max_instances: words of an image that these look at in training, drawn at random where there are more.
    """

    channels: int = 128
    num_repeats: int = 2
    embedding_size: int = 4
    kernel_ratio: float = 0.5
    max_shrink: float | int = 20
    max_distance: float | int = 3.0
    min_cells: int = 16
    aggregation_margin: float | int = 0.5
    discrimination_margin: float | int = 3.0
    negative_ratio: float | int = 3.0
    kernel_weight: float | int = 0.5
    embedding_weight: float | int = 0.25
    max_instances: int = 32

    def __post_init__(self) -> None:
        sizes = ("channels", "num_repeats", "embedding_size", "min_cells")
        amounts = ("max_shrink", "aggregation_margin", "discrimination_margin", "negative_ratio")
        check_range(self, **dict.fromkeys(sizes, (1, None)), **dict.fromkeys(amounts, (0, None)))
        check_range(self, kernel_weight=(0, None), embedding_weight=(0, None), max_instances=(2, None))
        check_range(self, max_distance=(0, None))
        if not 0 < self.kernel_ratio < 1:
            raise ValueError(f"`kernel_ratio` must lie between 0 and 1, got {self.kernel_ratio}")


@strict_frozen
@dataclass(frozen=True)
class PANDecoding(DecodingSettings):
    """How words are grown from their kernels; `box_threshold` bounds the mean probability of a word's pixels.

    `max_candidates` takes the words with the most pixels. With `polygon` outlines follow the pixels, otherwise they are
    the smallest rectangles around them.

    Args:
        threshold: a pixel of the text map, and of the kernel map within it, above this belongs to it, in [0, 1].
        max_distance: a pixel whose embedding is this far from a kernel's mean joins it no more.
        min_cells: words of fewer pixels at stride 4 are left out.
    """

    threshold: float | int = 0.5
    max_distance: float | int = 3.0
    min_cells: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, threshold=(0, 1), max_distance=(0, None), min_cells=(1, None))


@dataclass
class PANOutput(ModelOutput):
    """Maps of the PAN head at stride 4.

    Args:
        text_logits: (B, 1, h, w) text or not.
        kernel_logits: (B, 1, h, w) the words' kernels.
        embedding: (B, E, h, w) close to each other within a word, far apart between words.
    """

    text_logits: torch.Tensor
    # Always there: `ModelOutput` takes but one field without a default.
    kernel_logits: torch.Tensor = None  # type: ignore[assignment]
    embedding: torch.Tensor = None  # type: ignore[assignment]


class PANHead(DetectionHead):
    """Cascaded pyramid and one convolution for text, kernels and embedding."""

    config_class = PANConfig
    decoding_class = PANDecoding
    presets = {"tiny": {"channels": 48}, "small": {"channels": 96}, "base": {"channels": 128}}
    display_name = "PAN"
    paper = (
        "Wang et al., Efficient and Accurate Arbitrary-Shaped Text Detection with Pixel Aggregation Network, ICCV 2019"
    )
    score_map_loss = "dice"

    def __init__(self, settings: PANConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes)
        self.neck = PixelAggregationPyramid(in_channels, settings.channels, settings.num_repeats)
        self.output = nn.Conv2d(len(in_channels) * settings.channels, 2 + settings.embedding_size, 1)

    def init_weights(self) -> None:
        """Small maps at first, as in the released detectors."""
        for layer in self.neck.modules():
            if isinstance(layer, nn.Conv2d):
                init.xavier_uniform_(layer.weight)
                init.zeros_(layer.get_parameter("bias"))
        init.normal_(self.output.weight, std=0.01)
        init.zeros_(self.output.get_parameter("bias"))

    @classmethod
    def default_decoding(cls, settings: PANConfig) -> PANDecoding:
        """The distance belongs to the embedding that was learned."""
        return PANDecoding(max_distance=settings.max_distance, min_cells=settings.min_cells)

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> PANOutput:
        # In float32: sums over whole words and distances follow.
        maps = self.output(self.neck(inputs.pyramid)).float()
        return PANOutput(*maps.split([1, 1, self.settings.embedding_size], dim=1))

    def loss(self, maps: PANOutput, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Dice losses of text and kernels; what pulls pixels to their kernel and pushes kernels apart.

        All terms are means over the images.

        Raises:
            ValueError: if the labels were made for another head or other sizes.
        """
        names = ("text_ids", "kernel_ids", "text_mask")
        # (B, H, W) -> (B, h, w), nearest neighbour
        text_ids, kernel_ids, mask = (stacked(labels, name)[:, ::STRIDE, ::STRIDE] for name in names)
        text_logits, kernel_logits = maps.text_logits[:, 0].float(), maps.kernel_logits[:, 0].float()
        if text_ids.shape != text_logits.shape:
            raise ValueError(
                f"`labels` have maps of {tuple(text_ids.shape)} pixels at stride {STRIDE}, the head has "
                f"{tuple(text_logits.shape)}; build them with the collator for the padded size of the batch"
            )
        text, kernels, counts = text_ids > 0, kernel_ids > 0, mask > 0
        sampled = _ohem_mask(text_logits, text, counts, self.settings.negative_ratio)
        terms = [self._embedding_loss(*image) for image in zip(maps.embedding, text_ids, kernel_ids, strict=True)]
        aggregation, discrimination = (torch.stack(values).mean() for values in zip(*terms, strict=True))
        return {
            "loss_text": _squared_dice_loss(text_logits, text, sampled),
            "loss_kernel": self.settings.kernel_weight * _squared_dice_loss(kernel_logits, kernels, text & counts),
            "loss_aggregation": self.settings.embedding_weight * aggregation,
            "loss_discrimination": self.settings.embedding_weight * discrimination,
        }

    def _embedding_loss(
        self, embedding: torch.Tensor, text_ids: torch.Tensor, kernel_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both terms of one image with embedding (E, h, w) and numbers of words (h, w), over the N words in both."""
        size = int(torch.maximum(text_ids.max(), kernel_ids.max())) + 1
        pixels = embedding.float().flatten(1).T  # (E, h, w) -> (h x w, E)
        words, kernels = text_ids.flatten().long(), kernel_ids.flatten().long()
        text_areas, kernel_areas = (ids.bincount(minlength=size) for ids in (words, kernels))
        present = torch.nonzero((text_areas > 0) & (kernel_areas > 0))[:, 0]
        present = present[present > 0]  # 0 is the background
        if self.training and len(present) > self.settings.max_instances:
            chosen = torch.randperm(len(present), device=present.device)[: self.settings.max_instances]
            present = present[chosen]
        # Sums over kernels as a matrix product of one row per word would take h x w x N; these take h x w.
        sums = pixels.new_zeros(size, pixels.shape[1]).index_add(0, kernels, pixels)
        means = sums / kernel_areas.clamp(min=1)[:, None]
        distances = (torch.linalg.vector_norm(pixels - means[words], dim=1) - self.settings.aggregation_margin).relu()
        spread = pixels.new_zeros(size).index_add(0, words, (distances**2).log1p()) / text_areas.clamp(min=1)
        num_words = len(present)
        aggregation = spread[present].sum() / max(num_words, 1)
        first, second = torch.triu_indices(num_words, num_words, offset=1, device=present.device)
        apart = torch.linalg.vector_norm(means[present[first]] - means[present[second]], dim=1)
        closeness = ((self.settings.discrimination_margin - apart).relu() ** 2).log1p()
        return aggregation, closeness.sum() / max(num_words * (num_words - 1), 1)

    @staticmethod
    def targets(
        instances: TextInstances, size: tuple[int, int], valid_size: tuple[int, int], settings: PANConfig
    ) -> dict[str, np.ndarray]:
        """Target maps (height, width) of one image.

        `text_ids` and `kernel_ids` are int16, the number of the word, from 1 on, that a pixel belongs to or is in the
        kernel of, and 0 for the background; `text_mask` uint8, where they count. Later words lie on top of earlier
        ones. A word too small for a kernel is text without one; ignored words and the padding are masked out.
        """
        import cv2

        text_ids, kernel_ids = np.zeros(size, np.int16), np.zeros(size, np.int16)
        text_mask = np.ones(size, np.uint8)
        number = 0
        for polygon, ignore in zip(instances.polygons, instances.ignored, strict=True):
            outline = polygon.astype(np.int32)
            if ignore:
                cv2.fillPoly(text_mask, [outline], 0)
                continue
            number += 1
            cv2.fillPoly(text_ids, [outline], number)
            for kernel in _kernel(outline, settings):
                cv2.fillPoly(kernel_ids, [kernel.astype(np.int32)], number)
        text_mask[valid_size[0] :], text_mask[:, valid_size[1] :] = 0, 0
        return {"text_ids": text_ids, "kernel_ids": kernel_ids, "text_mask": text_mask}

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        text = (stacked(labels, "text_ids") > 0).float()
        return text[:, None], stacked(labels, "text_mask").float()[:, None]

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: PANDecoding) -> Regions:
        """Kernels grown over text pixels (pixel aggregation), in the order of the kernels' first rows."""
        valid_cells = -(-torch.as_tensor(valid_sizes) // STRIDE)  # rounded up
        names = ("text_logits", "kernel_logits", "embedding")
        parts = [valid_parts(maps[name], valid_cells, name) for name in names]
        found = [_find_words(text, kernels, codes, decoding) for text, kernels, codes in zip(*parts, strict=True)]
        return Regions.from_outlines([outlines for outlines, _ in found], [scores for _, scores in found])


def _ohem_mask(logits: torch.Tensor, text: torch.Tensor, mask: torch.Tensor, negative_ratio: float) -> torch.Tensor:
    """Which pixels (B, h, w) the loss looks at: text and each image's background most taken for it.

    As in the released losses, masked background may be among the hardest and is not replaced.
    """
    num_negatives = torch.minimum(((text & mask).sum(dim=(1, 2)) * negative_ratio).long(), (~text).sum(dim=(1, 2)))
    background = logits.detach().masked_fill(text, -torch.inf).flatten(1)
    hardest = kth_largest(background, num_negatives)[:, None, None]
    return ((logits >= hardest) | text | (num_negatives == 0)[:, None, None]) & mask


def _squared_dice_loss(logits: torch.Tensor, target: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """One minus the dice coefficient with squares below (V-Net), the mean over images of (B, h, w)."""
    weights, wanted = sampled.float(), target.float()
    probabilities = logits.sigmoid()
    shared, predicted, present = (
        (weights * values).sum(dim=(1, 2)) + DICE_EPSILON
        for values in (probabilities * wanted, probabilities**2, wanted**2)
    )
    return (1 - 2 * shared / (predicted + present)).mean()


def _kernel(outline: np.ndarray, settings: PANConfig) -> list[np.ndarray]:
    """A word (K, 2) on whole pixels moved in: nothing where it vanishes, the first piece where it falls apart."""
    distance = abs(geometry.signed_area(outline)) * (1 - settings.kernel_ratio**2)
    distance = min(int(distance / (geometry.perimeter(outline) + 1e-3) + 0.5), settings.max_shrink)
    return [outline] if distance == 0 else geometry.offset_polygon(outline, -distance, precision=1)[:1]


def _find_words(
    text_logits: np.ndarray, kernel_logits: np.ndarray, embedding: np.ndarray, decoding: PANDecoding
) -> tuple[list[np.ndarray], np.ndarray]:
    """Outlines in pixels of the network's input, scores (N,) of one image; logits (1, h, w), embedding (E, h, w)."""
    text_map, kernel_map = _sigmoid(text_logits[0]), _sigmoid(kernel_logits[0])
    text = text_map > decoding.threshold
    labels, count = _kernels(text & (kernel_map > decoding.threshold))
    labels = _pixel_aggregation(labels, count, text, embedding, decoding.max_distance)
    scores, areas = _scores_and_areas(labels, count, text_map)
    kept = np.flatnonzero((areas >= decoding.min_cells) & (scores >= decoding.box_threshold))
    if len(kept) > decoding.max_candidates:
        kept = np.sort(kept[np.argsort(-areas[kept], kind="stable")[: decoding.max_candidates]])
    draw = _simple_outline if decoding.polygon else geometry.min_area_quad
    outlines, found = [], []
    for label, contour in zip(kept, _contours(labels, kept), strict=True):
        outline = draw(STRIDE * contour.astype(np.float32))
        if _is_large(outline, decoding.min_size):
            outlines.append(outline)
            found.append(scores[label])
    return geometry.order_outlines_clockwise(outlines), np.array(found)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()


def _kernels(kernel: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected components (h, w) int32 of a bool map, numbered from 1 in the order of their first pixels; how many."""
    import cv2

    count, labels = cv2.connectedComponents(kernel.astype(np.uint8), connectivity=4)
    return labels, count - 1


def _pixel_aggregation(
    labels: np.ndarray, count: int, text: np.ndarray, embedding: np.ndarray, max_distance: float
) -> np.ndarray:
    """Kernels (h, w), numbered from 1, grown over bool `text` (h, w) breadth first, first come first served.

    One queue serves all kernels. Here it is worked off in generations: all neighbours of one generation, in the order
    of the queue and then left, right, up, down, of which the first claim on a pixel counts, are the next one. A pixel
    that is too far from one kernel, by its embedding (E, h, w), stays free for others.
    """
    width = labels.shape[1] + 2
    # A border saves the test whether a neighbour is on the map; all maps are flat from here on.
    grown = np.pad(labels, 1).ravel()
    free = np.pad(text, 1).ravel() & (grown == 0)
    values = np.pad(embedding, ((0, 0), (1, 1), (1, 1))).reshape(len(embedding), -1).T  # (h x w, E)
    sizes = np.maximum(np.bincount(grown, minlength=count + 1), 1)
    sums = [np.bincount(grown, weights=channel, minlength=count + 1) for channel in values.T]
    means = (np.stack(sums, axis=1) / sizes[:, None]).astype(np.float32)
    claims = np.empty(len(grown), np.int64)
    queue = np.flatnonzero(grown)
    while len(queue):
        pixels = (queue[:, None] + np.array([-1, 1, -width, width])).ravel()
        claimants = np.repeat(grown[queue], 4)
        open_ = free[pixels]
        pixels, claimants = pixels[open_], claimants[open_]
        close = ((values[pixels] - means[claimants]) ** 2).sum(axis=1) < max_distance**2
        pixels, claimants = pixels[close], claimants[close]
        # Of several values for one place the last one stays: written backwards, that is the first claim.
        order = np.arange(len(pixels))
        claims[pixels[::-1]] = order[::-1]
        first = claims[pixels] == order
        queue = pixels[first]
        grown[queue], free[queue] = claimants[first], False
    return grown.reshape(-1, width)[1:-1, 1:-1]


def _scores_and_areas(labels: np.ndarray, count: int, text_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability and number of pixels (count + 1,) of each word, zero for the background."""
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    scores = np.bincount(labels.ravel(), weights=text_map.ravel(), minlength=count + 1) / np.maximum(areas, 1)
    scores[0] = 0
    return scores, areas


def _contours(labels: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
    """Outer contours (K, 2) int32 of some of the words of a map (h, w), each looked for in its own box only."""
    import cv2

    y, x = np.nonzero(labels)
    boxes = np.tile(np.array([*labels.shape, 0, 0]), (labels.max(initial=0) + 1, 1))  # top, left, bottom, right
    for column, reduce, positions in ((0, np.minimum, y), (1, np.minimum, x), (2, np.maximum, y), (3, np.maximum, x)):
        reduce.at(boxes[:, column], labels[y, x], positions)
    contours = []
    for label in which:
        top, left, bottom, right = boxes[label]
        inside = (labels[top : bottom + 1, left : right + 1] == label).astype(np.uint8)
        found, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        contours.append(found[0][:, 0] + np.array([left, top], np.int32))
    return contours


def _simple_outline(contour: np.ndarray) -> np.ndarray:
    """A contour (K, 2) without the vertices that it has in excess."""
    import cv2

    return cv2.approxPolyDP(contour, CONTOUR_TOLERANCE * cv2.arcLength(contour, True), True)[:, 0]


def _is_large(outline: np.ndarray, min_size: float) -> bool:
    """Whether an outline (K, 2) has four points, an area, and no side too short."""
    import cv2

    sound = len(outline) >= 4 and cv2.contourArea(outline) >= MIN_AREA
    return sound and min(cv2.minAreaRect(outline)[1]) >= min_size
