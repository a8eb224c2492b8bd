"""DeepSolo: queries that are points along the centre line of a word, each with its place, its edges and its character.

Reference: Ye et al., "DeepSolo: Let Transformer Decoder with Explicit Points Solo for Text Spotting", CVPR 2023.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from ....bezier import bernstein_basis, bezier_points
from ....instances import TextInstances
from ..recognition.language_model import CharacterLanguageModel, LanguageModelConfig
from ..recognition.reading import WordReading, ctc_steps, read_words
from ..strict_tcm import strict_frozen
from .base import DecodingSettings, HeadInputs, Maps, Regions, check_range
from .deformable import (
    MLP,
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
from .matching import Words, ctc_text_costs, ctc_text_loss, focal_cost, hungarian_matching, only, set_focal_loss

__all__ = ["DeepSoloConfig", "DeepSoloDecoding", "DeepSoloHead", "DeepSoloOutput"]


@strict_frozen
@dataclass(frozen=True)
class DeepSoloConfig(DeformableConfig):
    """Settings of the DeepSolo head, those of `DeformableConfig` and more; the defaults are the paper's, except for the
    charset. Characters start with the `prior_probability` too.

    Args:
        num_points: points of a word, and the steps of its CTC.
        boundary: whether the edges of words are predicted, which outlines need; `False` is for labels of centre lines.
        class_weight: weight of the focal loss.
        point_weight: weight of the centre points' L1 loss.
        boundary_weight: weight of the edges' L1 loss.
        text_weight: weight of the characters' CTC loss.
        proposal_class_weight: weight of the proposals' focal loss.
        proposal_curve_weight: weight of the proposed centre curves' L1 loss.
        language_model: settings of a language model that weighs how likely words are spelled, see
            `LanguageModelConfig`; `None` for none.
    """

    num_points: int = 25
    boundary: bool = True
    class_weight: float | int = 1.0
    point_weight: float | int = 1.0
    boundary_weight: float | int = 0.5
    text_weight: float | int = 0.5
    proposal_class_weight: float | int = 1.0
    proposal_curve_weight: float | int = 1.0
    language_model: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language_model is not None:
            object.__setattr__(self, "language_model", asdict(LanguageModelConfig(**self.language_model)))
        check_range(self, num_points=(4, None))


@strict_frozen
@dataclass(frozen=True)
class DeepSoloDecoding(DecodingSettings):
    """How words are read from DeepSolo's queries.

    Args:
        box_threshold: lowest score of a query, in [0, 1].
        max_candidates: queries looked at in one image, the best ones.
        min_size: shortest side of a word, in pixels of the network's input.
        polygon: outlines of two points for each point of the centre line instead of quads.
    """

    box_threshold: float | int = 0.4


@dataclass
class DeepSoloOutput(ModelOutput):
    """What DeepSolo's Q queries are after each of K decoder layers; coordinates are in [0, 1] of each image.

    Args:
        class_logits: (K, B, Q, N) whether there is a word, for each of its N points.
        points: (K, B, Q, N, 2) points of the centre line, in reading direction.
        text_logits: (K, B, Q, N, C) characters: the charset, unknown, blank.
        boundary: (K, B, Q, N, 4) x, y of the upper and of the lower edge at each point, unless the settings have none.
        proposal_logits: (B, S) whether there is a word, for each token; only in training or where asked for.
        proposal_curves: (B, S, 4, 2) control points of its centre curve; only in training or where asked for.
    """

    class_logits: torch.Tensor
    # Always there: `ModelOutput` takes but one field without a default.
    points: torch.Tensor = None  # type: ignore[assignment]
    text_logits: torch.Tensor = None  # type: ignore[assignment]
    boundary: torch.Tensor | None = None
    proposal_logits: torch.Tensor | None = None
    proposal_curves: torch.Tensor | None = None


class DeepSoloHead(DeformableHead):
    """Encoder that proposes centre curves, decoder that refines the points on them layer by layer."""

    config_class = DeepSoloConfig
    decoding_class = DeepSoloDecoding
    display_name = "DeepSolo"
    paper = "Ye et al., DeepSolo: Let Transformer Decoder with Explicit Points Solo for Text Spotting, CVPR 2023"
    settings: DeepSoloConfig

    def __init__(self, settings: DeepSoloConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_coordinates=8)
        size = settings.hidden_size
        self.query_position = MLP(size, size, size, 2)
        self.point_embedding = nn.Parameter(torch.zeros(settings.num_queries, settings.num_points, size))
        self.decoder = nn.ModuleList(
            nn.ModuleDict({"points": DecoderStream(settings)}) for _ in range(settings.num_decoder_layers)
        )
        self.class_head, self.point_head = nn.Linear(size, 1), MLP(size, size, 2, 3)
        self.boundary_head = MLP(size, size, 4, 3) if settings.boundary else None
        self.text_head = nn.Linear(size, settings.num_classes)
        if settings.language_model is not None:
            language = LanguageModelConfig(**settings.language_model)
            self.language_model = CharacterLanguageModel(language, settings.charset)

    @property
    def word_targets(self) -> tuple[str, ...]:
        return ("word_points", "word_curves", "word_boundary")[: 3 if self.settings.boundary else 2]

    def init_weights(self) -> None:
        """Nothing moves away from its reference, everything has a low score, characters too."""
        super().init_weights()
        init.normal_(self.point_embedding)
        for weight in (layer.get_parameter("weight") for layer in self.query_position.layers):
            init.xavier_uniform_(weight)
        self.init_prior(self.class_head)
        self.init_prior(self.text_head)
        for mlp in (self.proposals.coordinates, self.point_head, self.boundary_head):
            if mlp is not None:
                init.zeros_(mlp.last.weight)
                init.zeros_(mlp.last.bias)

    def priors(self, centers: torch.Tensor, shapes: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Curves (B, S, 8) that are but a point, the centre (B, S, 2)."""
        return centers.repeat(1, 1, 4)

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> DeepSoloOutput:
        tokens, proposals = self.encode(inputs)
        chosen = topk_proposals(proposals.logits, self.settings.num_queries)
        curves = chosen_coordinates(proposals.coordinates, chosen).unflatten(-1, (4, 2))
        states = self.point_embedding[: chosen.shape[1]].expand(curves.shape[0], -1, -1, -1)  # (B, Q, N, D)
        references = self.sampled(curves)  # (B, Q, N, 2)
        layers, points, given = [], [], []
        for layer in self.decoder:
            ratios = tokens.valid_ratios[:, None, None]  # (B, 1, 1, L, 2)
            positions = self._positions(references * ratios[..., 0, :])
            states = layer.get_submodule("points")(
                states, positions.to(states.dtype), references[..., None, :] * ratios, tokens
            )
            layers.append(states)
            given.append(inverse_sigmoid(references))
            points.append((self.point_head(states).float() + given[-1]).sigmoid())
            references = points[-1].detach()
        used = slice(None) if with_training_maps else slice(-1, None)
        hidden, start = torch.stack(layers[used]), torch.stack(given[used])  # (K, B, Q, N, D or 2)
        boundary = None
        if self.boundary_head is not None:
            boundary = (self.boundary_head(hidden).float() + start.repeat(1, 1, 1, 1, 2)).sigmoid()
        return DeepSoloOutput(
            class_logits=self.class_head(hidden)[..., 0].float(),
            points=torch.stack(points[used]),
            text_logits=self.text_head(hidden).float(),
            boundary=boundary,
            proposal_logits=proposals.logits if with_training_maps else None,
            proposal_curves=proposals.coordinates.unflatten(-1, (4, 2)) if with_training_maps else None,
        )

    def sampled(self, curves: torch.Tensor) -> torch.Tensor:
        """The N points (…, N, 2) of curves (…, 4, 2)."""
        basis = torch.from_numpy(bernstein_basis(np.linspace(0, 1, self.settings.num_points))).to(curves)
        # No matrix product: autocast would do it in half precision.
        return (basis[..., None] * curves[..., None, :, :]).sum(dim=-2)  # (…, N, 4, 2) -> (…, N, 2)

    def _positions(self, points: torch.Tensor) -> torch.Tensor:
        """Positions (B, Q, N, D) of points (B, Q, N, 2) in [0, 1] of the finest padded level, x first."""
        features = sine_features(points * 2 * math.pi, self.settings.hidden_size // 2).flatten(-2)
        return self.query_position(features.to(self.point_embedding.dtype))

    @torch.no_grad()
    def layer_costs(self, maps: DeepSoloOutput, layer: int, words: Words) -> list[torch.Tensor]:
        """Cost (Q, G) of the queries for the words of each image: class, points and characters, not the edges."""
        settings = self.settings
        class_costs = settings.class_weight * focal_cost(maps.class_logits[layer]).mean(dim=-1)  # (B, Q)
        points, text_logits = maps.points[layer].flatten(2), maps.text_logits[layer]  # (B, Q, 2 N) and (B, Q, N, C)
        parts = (words.geometry["word_points"].flatten(1), words.classes, words.legible)
        images = zip(*(part.split(words.counts) for part in parts), strict=True)
        costs = []
        for image, (targets, classes, legible) in enumerate(images):
            distance = settings.point_weight * torch.cdist(points[image], targets, p=1)
            text = ctc_text_costs(text_logits[image], classes) * legible
            costs.append(class_costs[image][:, None] + distance + settings.text_weight * text)
        return costs

    def layer_losses(self, maps: DeepSoloOutput, layer: int, words: Words) -> dict[str, torch.Tensor]:
        settings = self.settings
        matching = hungarian_matching(self.layer_costs(maps, layer, words))
        learned, legible = only(matching, words.usable), only(matching, words.legible)
        errors = maps.points[layer][learned[:2]] - words.geometry["word_points"][learned.words]
        text = ctc_text_loss(maps.text_logits[layer][legible[:2]], words.classes[legible.words])
        class_loss = set_focal_loss(maps.class_logits[layer], matching, words)
        terms = {
            "loss_class": settings.class_weight * class_loss,
            "loss_points": settings.point_weight * errors.abs().sum() / words.total,
            "loss_text": settings.text_weight * text,
        }
        if maps.boundary is not None:
            edges = maps.boundary[layer][learned[:2]] - words.geometry["word_boundary"][learned.words]
            terms["loss_boundary"] = settings.boundary_weight * edges.abs().sum() / words.total
        return terms

    @torch.no_grad()
    def proposal_costs(self, maps: DeepSoloOutput, words: Words) -> list[torch.Tensor]:
        """Cost (S, G) of the proposals for the words of each image, between points sampled on the curves."""
        settings = self.settings
        assert maps.proposal_logits is not None  # `forward` makes both where there are labels
        assert maps.proposal_curves is not None
        class_costs = settings.proposal_class_weight * focal_cost(maps.proposal_logits)
        points = self.sampled(maps.proposal_curves).flatten(2)  # (B, S, 2 N)
        targets = self.sampled(words.geometry["word_curves"]).flatten(1).split(words.counts)
        return [
            class_costs[image][:, None] + settings.proposal_curve_weight * torch.cdist(points[image], curves, p=1)
            for image, curves in enumerate(targets)
        ]

    def proposal_losses(self, maps: DeepSoloOutput, words: Words) -> dict[str, torch.Tensor]:
        matching = hungarian_matching(self.proposal_costs(maps, words))
        assert maps.proposal_logits is not None  # `proposal_costs` took them
        assert maps.proposal_curves is not None
        learned = only(matching, words.usable)
        errors = self.sampled(maps.proposal_curves[learned[:2]] - words.geometry["word_curves"][learned.words])
        class_loss = set_focal_loss(maps.proposal_logits, matching, words)
        return {
            "loss_proposal_class": self.settings.proposal_class_weight * class_loss,
            "loss_proposal_curve": self.settings.proposal_curve_weight * errors.abs().sum() / words.total,
        }

    @staticmethod
    def targets(
        instances: TextInstances,
        size: tuple[int, int],
        valid_size: tuple[int, int],
        settings: DeepSoloConfig | None = None,
    ) -> dict[str, np.ndarray]:
        """See `deformable.spotting_targets`, and of the N words in [0, 1] of the image the P points of the centre line,
        `word_points` (N, P, 2), its control points, `word_curves` (N, 4, 2), and `word_boundary` (N, P, 4), x, y of
        the upper and of the lower edge."""
        settings = settings or DeepSoloConfig()
        targets, curves = spotting_targets(instances, size, valid_size, settings, settings.num_points)
        return targets | word_geometry(curves, valid_size, settings.num_points)

    @staticmethod
    def decode(maps: Maps, valid_sizes: torch.Tensor, decoding: DeepSoloDecoding) -> Regions:
        """Words of the queries: the score is the sigmoid of the mean over the points' logits. There is no NMS.

        Raises:
            ValueError: for a head without `boundary`, whose centre lines are no outlines.
        """
        if maps.get("boundary") is None:
            raise ValueError("a DeepSolo head with `boundary=False` finds centre lines, which are no outlines")
        kept = kept_queries(maps, decoding)
        sizes = torch.as_tensor(valid_sizes).cpu().numpy()[kept.images, ::-1].astype(np.float32)  # (M, 2) width, height
        sides = word_sides(last_layer(maps, "boundary", kept), sizes)
        return query_regions(kept, sides, last_layer(maps, "text_logits", kept), len(valid_sizes), decoding)

    @staticmethod
    def read(
        char_logits: torch.Tensor,
        settings: DeepSoloConfig,
        language_model: CharacterLanguageModel | None = None,
        text_threshold: float | torch.Tensor = 0.0,
    ) -> list[WordReading]:
        """Words of logits (N, T, C): a character is what a run of equal points says, and blanks separate them."""
        return read_words(char_logits[:, None], settings.charset, ctc_steps, language_model, text_threshold)


def word_geometry(curves: np.ndarray, valid_size: tuple[int, int], num_points: int) -> dict[str, np.ndarray]:
    """Targets of words with control points (N, 8, 2) in pixels, see `DeepSoloHead.targets`."""
    normalized = np.asarray(curves, np.float64) / np.array(valid_size[::-1])
    # The lower side runs backwards.
    sides = np.stack([normalized[:, :4], normalized[:, :3:-1]], axis=1)  # (N, 2, 4, 2)
    edges = bezier_points(sides, np.linspace(0, 1, num_points))  # (N, 2, P, 2)
    return {
        "word_points": edges.mean(axis=1).astype(np.float32),
        "word_curves": sides.mean(axis=1).astype(np.float32),
        "word_boundary": np.concatenate([edges[:, 0], edges[:, 1]], axis=-1).astype(np.float32),
    }


def word_sides(boundary: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Upper side and lower side backwards (M, 2, P, 2) in pixels, for images of width and height `sizes` (M, 2)."""
    edges = boundary.reshape(*boundary.shape[:2], 2, 2) * sizes[:, None, None]  # (M, P, 2, 2)
    return np.stack([edges[:, :, 0], edges[:, ::-1, 1]], axis=1)
