"""TESTR: queries that are words, each with a stream of outline points and a stream of characters.

Reference: Zhang et al., "Text Spotting Transformers", CVPR 2022.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from ....bezier import bezier_points
from ....instances import TextInstances
from ..recognition.language_model import CharacterLanguageModel
from ..recognition.reading import UNKNOWN_CHARACTER, WordReading
from ..strict_tcm import strict_frozen
from .base import DecodingSettings, HeadInputs, Maps, Regions, check_range
from .boxes import generalized_box_iou
from .deformable import (
    MLP,
    TEMPERATURE,
    DecoderStream,
    DeformableConfig,
    DeformableHead,
    chosen_coordinates,
    inverse_sigmoid,
    kept_queries,
    last_layer,
    query_regions,
    sine_features,
    spotting_targets,
    topk_proposals,
)
from .matching import Words, focal_cost, hungarian_matching, only, set_focal_loss, slot_text_loss

__all__ = ["TESTRConfig", "TESTRDecoding", "TESTRHead", "TESTROutput"]

NUM_POINTS = {"polygon": 16, "bezier": 8}
# Side of the box that a token of the finest level at stride 8 proposes to begin with; twice that at every further one.
BASE_SIZE = 0.05
CURVE_ENDS = [0, 3, 4, 7]
CURVE_POINTS = 20  # on each side of the outline of a word with Bézier curves


def _check_curve(curve: str) -> None:
    if curve not in NUM_POINTS:
        raise ValueError(f"`curve` must be one of {', '.join(NUM_POINTS)}, got {curve!r}")


@strict_frozen
@dataclass(frozen=True)
class TESTRConfig(DeformableConfig):
    """Settings of the TESTR head, those of `DeformableConfig` and more; the defaults are the paper's.

    Args:
        curve: `"polygon"`, 16 points of the outline, or `"bezier"`, the 8 control points of two curves.
        max_length: most characters of a word.
        class_weight: weight of the focal loss.
        point_weight: weight of the points' L1 loss.
        text_weight: weight of the characters' cross-entropy; the paper has 2 for Bézier curves.
        proposal_class_weight: weight of the proposals' focal loss.
        proposal_box_weight: weight of the proposals' L1 loss.
        proposal_giou_weight: weight of the proposals' generalised-IoU loss.
    """

    dropout: float | int = 0.1
    curve: str = "polygon"
    max_length: int = 25
    class_weight: float | int = 2.0
    point_weight: float | int = 5.0
    text_weight: float | int = 4.0
    proposal_class_weight: float | int = 2.0
    proposal_box_weight: float | int = 5.0
    proposal_giou_weight: float | int = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_curve(self.curve)
        check_range(self, max_length=(1, None))

    @property
    def num_points(self) -> int:
        """Points of a word."""
        return NUM_POINTS[self.curve]


@strict_frozen
@dataclass(frozen=True)
class TESTRDecoding(DecodingSettings):
    """How words are read from TESTR's queries.

    Args:
        box_threshold: lowest score of a query, in [0, 1].
        max_candidates: queries looked at in one image, the best ones.
        min_size: shortest side of a word, in pixels of the network's input.
        polygon: outlines of 16 points, 40 with Bézier curves, instead of quads.
        curve: what the head predicts, see `TESTRConfig`.
    """

    box_threshold: float | int = 0.45
    curve: str = "polygon"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_curve(self.curve)


@dataclass
class TESTROutput(ModelOutput):
    """What TESTR's Q queries are after each of K decoder layers; coordinates are in [0, 1] of each image.

    Args:
        class_logits: (K, B, Q, N) whether there is a word, for each of its N points.
        points: (K, B, Q, N, 2) its outline, or its control points.
        text_logits: (K, B, Q, T, C) its characters: the charset, unknown, padding.
        proposal_logits: (B, S) whether there is a word, for each token; only in training or where asked for.
        proposal_boxes: (B, S, 4) its box as cxcywh; only in training or where asked for.
    """

    class_logits: torch.Tensor
    # Always there: `ModelOutput` takes but one field without a default.
    points: torch.Tensor = None  # type: ignore[assignment]
    text_logits: torch.Tensor = None  # type: ignore[assignment]
    proposal_logits: torch.Tensor | None = None
    proposal_boxes: torch.Tensor | None = None


class BoxPosition(nn.Module):
    """Encodes boxes as positions of queries: sines of their four numbers, projected."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.projection, self.norm = nn.Linear(hidden_size, hidden_size), nn.LayerNorm(hidden_size)

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes (…, 4) cxcywh in [0, 1] to (…, D)."""
        size = self.projection.in_features
        features = sine_features(boxes * 2 * math.pi, size // 4).flatten(-2)  # (…, 4, D / 4) -> (…, D)
        return self.norm(self.projection(features.to(self.projection.weight.dtype)))


class TESTRHead(DeformableHead):
    """Encoder that proposes boxes, decoder of two streams without refinement of the boxes."""

    config_class = TESTRConfig
    rate_scales = {"sampling_offsets": 0.1}
    decoding_class = TESTRDecoding
    display_name = "TESTR"
    paper = "Zhang et al., Text Spotting Transformers, CVPR 2022"
    settings: TESTRConfig

    def __init__(self, settings: TESTRConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_coordinates=4)
        size = settings.hidden_size
        self.query_position = BoxPosition(size)
        self.point_embedding = nn.Parameter(torch.zeros(settings.num_points, size))
        self.slot_embedding = nn.Parameter(torch.zeros(settings.max_length, size))
        self.decoder = nn.ModuleList(
            nn.ModuleDict({name: DecoderStream(settings) for name in ("points", "text")})
            for _ in range(settings.num_decoder_layers)
        )
        self.class_head, self.point_head = nn.Linear(size, 1), MLP(size, size, 2, 3)
        self.text_head = nn.Linear(size, settings.num_classes)

    @property
    def word_targets(self) -> tuple[str, ...]:
        return ("word_points", "word_boxes")

    def init_weights(self) -> None:
        """Points start at the centre of their box, everything with a low score."""
        super().init_weights()
        init.normal_(self.point_embedding)
        init.normal_(self.slot_embedding)
        init.xavier_uniform_(self.query_position.projection.weight)
        self.init_prior(self.class_head)
        init.zeros_(self.point_head.last.weight)
        init.zeros_(self.point_head.last.bias)
        # Boxes start with about the size of their prior.
        last = self.proposals.coordinates.last
        bias = torch.empty(4).uniform_(-1, 1) * last.in_features**-0.5
        bias[2:] = 0
        init.copy_(last.bias, bias)

    @classmethod
    def default_decoding(cls, settings: TESTRConfig) -> TESTRDecoding:
        return TESTRDecoding(curve=settings.curve)

    def priors(self, centers: torch.Tensor, shapes: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Squares (B, S, 4) around the centres (B, S, 2), larger on coarser levels."""
        sizes = [
            centers.new_full((height * width, 2), BASE_SIZE * self.strides[0] / 8 * 2**level)
            for level, (height, width) in enumerate(shapes)
        ]
        return torch.cat([centers, torch.cat(sizes).expand_as(centers)], dim=-1)

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> TESTROutput:
        tokens, proposals = self.encode(inputs)
        chosen = topk_proposals(proposals.logits, self.settings.num_queries)
        boxes = chosen_coordinates(proposals.coordinates, chosen)  # (B, Q, 4)
        positions = {"points": self.query_position(boxes)[:, :, None], "text": self._slot_positions(boxes.device)}
        # Every layer looks around the same boxes, (B, Q, 1, L, 4) in [0, 1] of the padded levels.
        references = (boxes[:, :, None] * tokens.valid_ratios.repeat(1, 1, 2)[:, None])[:, :, None]
        streams = {
            "points": self.point_embedding.expand(*boxes.shape[:2], -1, -1),
            "text": self.slot_embedding.expand(*boxes.shape[:2], -1, -1),
        }
        layers: list[dict[str, torch.Tensor]] = []
        for layer in self.decoder:
            streams = {
                name: layer.get_submodule(name)(states, positions[name].to(states.dtype), references, tokens)
                for name, states in streams.items()
            }
            layers.append(streams)
        layers = layers if with_training_maps else layers[-1:]
        points = torch.stack([states["points"] for states in layers])  # (K, B, Q, N, D)
        return TESTROutput(
            class_logits=self.class_head(points)[..., 0].float(),
            points=self._points(points, boxes),
            text_logits=self.text_head(torch.stack([states["text"] for states in layers])).float(),
            proposal_logits=proposals.logits if with_training_maps else None,
            proposal_boxes=proposals.coordinates if with_training_maps else None,
        )

    def _slot_positions(self, device: torch.device) -> torch.Tensor:
        """Which slot of a word a character is in, (T, D): sines, then cosines, the first slot at 1."""
        length, size = self.settings.max_length, self.settings.hidden_size
        slots = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        frequencies = TEMPERATURE ** (-torch.arange(0, size, 2, device=device) / size)
        angles = slots[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _points(self, states: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Points (K, B, Q, N, 2) from states (K, B, Q, N, D) and the boxes (B, Q, 4) around whose centre they lie."""
        offsets, centers = self.point_head(states).float(), boxes[:, :, None, :2]
        if self.settings.curve == "polygon":
            return (offsets + inverse_sigmoid(centers)).sigmoid()
        # Control points may lie outside of the image: [-0.5, 1.5].
        return 2 * (offsets + inverse_sigmoid((centers + 0.5) / 2)).sigmoid() - 0.5

    @torch.no_grad()
    def layer_costs(self, maps: TESTROutput, layer: int, words: Words) -> list[torch.Tensor]:
        """Cost (Q, G) of the queries for the words of each image: class and points, not the characters."""
        class_costs = self.settings.class_weight * focal_cost(maps.class_logits[layer]).mean(dim=-1)  # (B, Q)
        points = maps.points[layer].flatten(2)  # (B, Q, 2 N)
        return [
            class_costs[image][:, None] + self.settings.point_weight * torch.cdist(points[image], targets, p=1)
            for image, targets in enumerate(words.geometry["word_points"].flatten(1).split(words.counts))
        ]

    def layer_losses(self, maps: TESTROutput, layer: int, words: Words) -> dict[str, torch.Tensor]:
        matching = hungarian_matching(self.layer_costs(maps, layer, words))
        learned, legible = only(matching, words.usable), only(matching, words.legible)
        errors = maps.points[layer][learned[:2]] - words.geometry["word_points"][learned.words]
        text = slot_text_loss(maps.text_logits[layer][legible[:2]], words.classes[legible.words])
        class_loss = set_focal_loss(maps.class_logits[layer], matching, words)
        return {
            "loss_class": self.settings.class_weight * class_loss,
            "loss_points": self.settings.point_weight * errors.abs().sum() / words.total,
            "loss_text": self.settings.text_weight * text,
        }

    @torch.no_grad()
    def proposal_costs(self, maps: TESTROutput, words: Words) -> list[torch.Tensor]:
        """Cost (S, G) of the proposals for the words of each image."""
        settings = self.settings
        assert maps.proposal_logits is not None  # `forward` makes both where there are labels
        assert maps.proposal_boxes is not None
        class_costs = settings.proposal_class_weight * focal_cost(maps.proposal_logits)
        costs = []
        for image, targets in enumerate(words.geometry["word_boxes"].split(words.counts)):
            boxes = maps.proposal_boxes[image]
            distance = settings.proposal_box_weight * torch.cdist(boxes, targets, p=1)
            overlap = generalized_box_iou(_corners(boxes)[:, None], _corners(targets))
            costs.append(class_costs[image][:, None] + distance - settings.proposal_giou_weight * overlap)
        return costs

    def proposal_losses(self, maps: TESTROutput, words: Words) -> dict[str, torch.Tensor]:
        settings = self.settings
        matching = hungarian_matching(self.proposal_costs(maps, words))
        assert maps.proposal_logits is not None  # `proposal_costs` took them
        assert maps.proposal_boxes is not None
        learned = only(matching, words.usable)
        boxes, targets = maps.proposal_boxes[learned[:2]], words.geometry["word_boxes"][learned.words]
        overlap = generalized_box_iou(_corners(boxes), _corners(targets))
        class_loss = set_focal_loss(maps.proposal_logits, matching, words)
        return {
            "loss_proposal_class": settings.proposal_class_weight * class_loss,
            "loss_proposal_box": settings.proposal_box_weight * (boxes - targets).abs().sum() / words.total,
            "loss_proposal_giou": settings.proposal_giou_weight * (1 - overlap).sum() / words.total,
        }

    @staticmethod
    def targets(
        instances: TextInstances,
        size: tuple[int, int],
        valid_size: tuple[int, int],
        settings: TESTRConfig | None = None,
    ) -> dict[str, np.ndarray]:
        """See `deformable.spotting_targets`, with `word_points` (N, 16 or 8, 2) and `word_boxes` (N, 4) cxcywh."""
        settings = settings or TESTRConfig()
        targets, curves = spotting_targets(instances, size, valid_size, settings, settings.max_length)
        return targets | word_geometry(curves, valid_size, settings.curve)

    @staticmethod
    def decode(maps: Maps, valid_sizes: torch.Tensor, decoding: TESTRDecoding) -> Regions:
        """Words of the queries: the score is the sigmoid of the mean over the points' logits. There is no NMS."""
        kept = kept_queries(maps, decoding)
        sizes = torch.as_tensor(valid_sizes).cpu().numpy()[kept.images, ::-1].astype(np.float32)  # (M, 2) width, height
        sides = word_sides(last_layer(maps, "points", kept) * sizes[:, None], sizes, decoding.curve)
        return query_regions(kept, sides, last_layer(maps, "text_logits", kept), len(valid_sizes), decoding)

    @staticmethod
    def read(
        char_logits: torch.Tensor,
        settings: TESTRConfig,
        language_model: CharacterLanguageModel | None = None,
        text_threshold: float | torch.Tensor = 0.0,
    ) -> list[WordReading]:
        """Words of logits (N, T, C): what each slot says that is not padding, wherever padding stands.

        Slots are no CTC, so there is nothing for a language model to search.
        """
        probabilities = char_logits.detach().float().softmax(dim=-1).cpu().numpy()
        characters, readings = settings.charset + UNKNOWN_CHARACTER, []
        for slots in probabilities:
            seen = slots[slots.argmax(axis=1) < len(characters)]
            score = float(np.exp(np.log(seen.max(axis=1)).mean())) if len(seen) else 0.0
            text = "".join(characters[index] for index in seen.argmax(axis=1))
            readings.append(WordReading(text, score, seen[:, : len(settings.charset)]))
        return readings


def word_geometry(curves: np.ndarray, valid_size: tuple[int, int], curve: str) -> dict[str, np.ndarray]:
    """Targets of words with control points (N, 8, 2) in pixels: see `TESTRHead.targets`, in [0, 1] of the image."""
    normalized = np.asarray(curves, np.float64) / np.array(valid_size[::-1])
    points_per_side = NUM_POINTS["polygon"] // 2 if curve == "polygon" else CURVE_POINTS
    sides = bezier_points(normalized.reshape(-1, 2, 4, 2), np.linspace(0, 1, points_per_side))
    outlines = sides.reshape(-1, 2 * points_per_side, 2)
    low, high = outlines.min(axis=1).clip(0, 1), outlines.max(axis=1).clip(0, 1)
    points = outlines if curve == "polygon" else normalized
    return {
        "word_points": points.astype(np.float32),
        "word_boxes": np.concatenate([(low + high) / 2, high - low], axis=1).astype(np.float32),
    }


def word_sides(points: np.ndarray, sizes: np.ndarray, curve: str) -> np.ndarray:
    """Upper and lower side (M, 2, P, 2) of words (M, N, 2) in pixels of images of width and height `sizes` (M, 2)."""
    if curve == "polygon":
        return points.reshape(-1, 2, NUM_POINTS[curve] // 2, 2)
    points = points.copy()
    points[:, CURVE_ENDS] = points[:, CURVE_ENDS].clip(0, sizes[:, None])
    return bezier_points(points.reshape(-1, 2, 4, 2), np.linspace(0, 1, CURVE_POINTS)).astype(np.float32)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (…, 4) cxcywh as xyxy."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)
