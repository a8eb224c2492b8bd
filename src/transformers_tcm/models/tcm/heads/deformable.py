"""Deformable DETR in two stages: multi-scale deformable attention, encoder, proposals and decoder streams.

References: Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021; the
attention within and between queries that hold several points is that of Zhang et al., "Text Spotting Transformers"
(TESTR), CVPR 2022.
"""

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import initialization as init
from transformers.utils import is_scipy_available

from .... import geometry
from ....bezier import bernstein_basis, short_sides
from ....instances import TextInstances
from ..layers_tcm import TCMMultiheadAttention, sizes_tensor
from ..recognition.proposals import words_to_bezier
from ..recognition.reading import PRINTABLE_ASCII
from ..strict_tcm import strict_frozen
from .base import DecodingSettings, DetectionHead, HeadInputs, Labels, Maps, Regions, check_range, stacked
from .matching import Words, text_classes, words_of

__all__ = [
    "MLP",
    "DecoderStream",
    "DeformableConfig",
    "DeformableHead",
    "EncoderLayer",
    "LayerMLP",
    "LevelProjection",
    "MultiScaleDeformableAttention",
    "ProposalHead",
    "Proposals",
    "Tokens",
    "cell_centers",
    "chosen_coordinates",
    "inverse_sigmoid",
    "padding_masks",
    "position_encoding",
    "prior_logits",
    "sample_by_grid",
    "sample_by_rows",
    "sine_features",
    "topk_proposals",
]

FINEST_INPUT = 2  # the pyramid handed to a head starts with C2
NUM_GROUPS = 32  # of the projections' group norms
TEMPERATURE = 10000.0
EPSILON = 1e-6
# Coordinates closer to 0 and 1 than this have the same logit.
CLOSEST = 1e-5
MIN_AREA = 1.0
# Proposals end this far from the border of the image, as a fraction of its size.
BORDER = 0.01


@strict_frozen
@dataclass(frozen=True)
class DeformableConfig:
    """Settings that all heads on a two-stage deformable DETR share.

    Args:
        hidden_size: width of the transformer, a multiple of 32 and of `num_heads`.
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        num_heads: attention heads.
        mlp_size: hidden width of the MLPs.
        finest_level: 3 or 4, the finest stage of the image encoder that is looked at, at stride 8 or 16.
        num_levels: feature levels; those beyond the stages each halve the one before.
        encoder_points: points that each head of the encoder looks at on each level.
        decoder_points: the same of the decoder.
        num_queries: most words of an image.
        dropout: probability of dropping a value in training.
        charset: characters that are read.
        fold_case: whether texts are lower-cased; by default where the charset has no upper case.
        min_short_side: words with a shorter side (pixels of the network's input) are ignored in training.
        prior_probability: score that everything starts with.
    """

    hidden_size: int = 256
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    mlp_size: int = 1024
    finest_level: int = 3
    num_levels: int = 4
    encoder_points: int = 4
    decoder_points: int = 4
    num_queries: int = 100
    dropout: float | int = 0.0
    charset: str = PRINTABLE_ASCII
    fold_case: bool | None = None
    min_short_side: float | int = 4.0
    prior_probability: float = 0.01

    def __post_init__(self) -> None:
        size = self.hidden_size
        if size < NUM_GROUPS or size % NUM_GROUPS or self.num_heads < 1 or size % self.num_heads:
            raise ValueError(
                f"`hidden_size` must be a positive multiple of {NUM_GROUPS} and of `num_heads`, got {size} for "
                f"{self.num_heads} heads"
            )
        if self.finest_level not in (3, 4) or self.num_levels < 4:
            raise ValueError(
                "`finest_level` must be 3 or 4 and `num_levels` at least 4, got "
                f"{self.finest_level} and {self.num_levels}"
            )
        counts = ("num_encoder_layers", "num_decoder_layers", "mlp_size", "encoder_points", "decoder_points")
        check_range(self, **dict.fromkeys((*counts, "num_queries"), (1, None)))
        check_range(self, min_short_side=(0, None), dropout=(0, 1), prior_probability=(1e-6, 1 - 1e-6))
        weights = [name for name in vars(self) if name.endswith("_weight")]
        check_range(self, **dict.fromkeys(weights, (0, None)))
        if not self.charset or len(set(self.charset)) < len(self.charset):
            raise ValueError(f"`charset` must hold each of its characters once, got {self.charset!r}")

    @property
    def folds_case(self) -> bool:
        """Whether texts are lower-cased: `fold_case`, by default where the charset has no upper case."""
        return self.charset == self.charset.lower() if self.fold_case is None else self.fold_case

    @property
    def num_classes(self) -> int:
        """Classes of a character: the charset, unknown, and last blank or padding."""
        return len(self.charset) + 2


def inverse_sigmoid(values: torch.Tensor) -> torch.Tensor:
    """Logits (…, C) of values (…, C) that are cut to [0, 1]."""
    values = values.clamp(0, 1)
    return (values.clamp(min=CLOSEST) / (1 - values).clamp(min=CLOSEST)).log()


def sine_features(values: torch.Tensor, size: int) -> torch.Tensor:
    """Sines at even and cosines at odd places (…, size) of values (…) at falling frequencies, float32."""
    pairs = torch.arange(size, device=values.device).div(2, rounding_mode="floor")
    angles = values.float()[..., None] / TEMPERATURE ** (2 * pairs / size)
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)


def position_encoding(padding: torch.Tensor, size: int) -> torch.Tensor:
    """Where in its image a cell is, (B, h, w, size) float32, y first, for the padding mask (B, h, w) of a level."""
    encoded = []
    for axis in (1, 2):
        counts = (~padding).cumsum(dim=axis, dtype=torch.float32)
        total = counts.narrow(axis, -1, 1)
        encoded.append(sine_features((counts - 0.5) / (total + EPSILON) * 2 * math.pi, size // 2))
    return torch.cat(encoded, dim=-1)


def padding_masks(valid_sizes: torch.Tensor, shapes: Sequence[tuple[int, int]], strides: Sequence[int]) -> list[Any]:
    """Where the levels are padding, a bool mask (B, h, w) each.

    The first levels have `strides` and begin a new cell wherever the image goes on. The masks of further ones are that
    of the first level, resized to the nearest cells.

    Args:
        valid_sizes: (B, 2) height and width of each image within the padded input.
        shapes: height and width of each level.
        strides: of the first levels.
    """
    finest = None
    masks = []
    for level, shape in enumerate(shapes):
        if level < len(strides):
            cells = [torch.arange(size, device=valid_sizes.device) * strides[level] for size in shape]
            inside = [cell < valid_sizes[:, axis, None] for axis, cell in enumerate(cells)]  # (B, h) and (B, w)
            finest = inside if finest is None else finest
        else:
            assert finest is not None  # there is a first level
            nearest = [
                torch.arange(size, device=valid_sizes.device) * mask.shape[1] // size
                for size, mask in zip(shape, finest, strict=True)
            ]
            inside = [mask[:, index] for mask, index in zip(finest, nearest, strict=True)]
        masks.append(~(inside[0][:, :, None] & inside[1][:, None, :]))
    return masks


class Tokens(NamedTuple):
    """The S cells of all levels, from the finest to the coarsest and row by row within a level.

    Args:
        states: (B, S, D).
        padding: (B, S) bool, what is no part of an image.
        valid_ratios: (B, L, 2) the part of each level's width and height that is not padding.
        shapes: height and width of the L levels.
    """

    states: torch.Tensor
    padding: torch.Tensor
    valid_ratios: torch.Tensor
    shapes: list[tuple[int, int]]


def valid_ratios(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """The part of each level's width and height that is not padding, (B, L, 2) float32, for masks (B, h, w)."""
    return torch.stack(
        [torch.stack([(~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)], dim=-1) for mask in masks],
        dim=1,
    )


def cell_centers(shapes: Sequence[tuple[int, int]], ratios: torch.Tensor) -> torch.Tensor:
    """Centres (B, S, 2) of the cells of all levels as x, y in [0, 1] of the image, beyond 1 in the padding.

    Args:
        shapes: height and width of the L levels.
        ratios: (B, L, 2) `valid_ratios`.
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        y, x = (torch.arange(size, device=ratios.device, dtype=torch.float32) + 0.5 for size in (height, width))
        cells = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
        size = sizes_tensor([(width, height)], ratios)[0]
        valid = ratios[:, None, None, level] * size  # columns and rows, (B, 1, 1, 2)
        levels.append((cells / valid).flatten(1, 2))
    return torch.cat(levels, dim=1)


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        in_size: channels of the input.
        hidden_size: channels between the layers.
        out_size: channels of the output.
        num_layers: at least 1.
    """

    def __init__(self, in_size: int, hidden_size: int, out_size: int, num_layers: int):
        super().__init__()
        sizes = [in_size, *[hidden_size] * (num_layers - 1), out_size]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the output."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)  # all are
        return layer

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(…, in_size) to (…, out_size)."""
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states).relu()
        return self.last(hidden_states)


class MultiScaleDeformableAttention(nn.Module):
    """Attention of each query to a few points around its reference on every level (Deformable DETR, section 4.1).

    Args:
        hidden_size: D.
        num_heads: attention heads.
        num_levels: L.
        num_points: points that a head looks at on each level.
    """

    def __init__(self, hidden_size: int, num_heads: int, num_levels: int, num_points: int):
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(hidden_size, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(hidden_size, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(hidden_size, hidden_size)
        self.output_proj = nn.Linear(hidden_size, hidden_size)

    def init_weights(self) -> None:
        """Each head starts to look in its own direction, one point further than the other."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)  # (h, 2), onto a square
        steps = torch.arange(1, self.num_points + 1)[:, None]
        offsets = (directions[:, None, None] * steps).expand(-1, self.num_levels, -1, -1)  # (h, L, M, 2)
        init.zeros_(self.sampling_offsets.weight)
        init.copy_(self.sampling_offsets.bias, offsets.flatten())
        init.zeros_(self.attention_weights.weight)
        init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            init.xavier_uniform_(layer.weight)
            init.zeros_(layer.bias)

    def forward(self, queries: torch.Tensor, references: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """What the queries see, (B, Lq, D).

        Args:
            queries: (B, Lq, D), positions added.
            references: (B, Lq, L, 2) points x, y or (B, Lq, L, 4) boxes cxcywh, in [0, 1] of the padded levels.
            tokens: the S cells that are looked at.
        """
        values = self.value_proj(tokens.states).masked_fill(tokens.padding[..., None], 0)
        values = values.unflatten(-1, (self.num_heads, -1))  # (B, S, D) -> (B, S, h, D / h)
        grid = (self.num_heads, self.num_levels, self.num_points)
        # In half precision sampling points would be off by several pixels.
        offsets = self.sampling_offsets(queries).float().unflatten(-1, (*grid, 2))
        weights = self.attention_weights(queries).float().unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)
        places = references.float()[:, :, None, :, None]  # (B, Lq, 1, L, 1, 2 or 4)
        if references.shape[-1] == 2:
            sizes = sizes_tensor([(width, height) for height, width in tokens.shapes], offsets)
            locations = places + offsets / sizes[:, None]
        else:
            locations = places[..., :2] + offsets / self.num_points * places[..., 2:] * 0.5
        # Tracing needs the one that every backend knows.
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
        fast = values.is_cpu and not traced and (is_scipy_available() or not torch.is_grad_enabled())
        sample = sample_by_rows if fast else sample_by_grid
        seen = sample(values.float(), locations, weights.unflatten(-1, grid[1:]), tokens.shapes)
        return self.output_proj(seen.to(values.dtype))


def sample_by_grid(
    values: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor, shapes: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Weighted sums (B, Lq, D) of bilinear samples of all levels, zeros beyond them.

    Takes values (B, S, h, D / h), locations (B, Lq, h, L, M, 2) in [0, 1] and weights (B, Lq, h, L, M).
    """
    batch_size, num_queries, num_heads = locations.shape[:3]
    maps = values.permute(0, 2, 3, 1).flatten(0, 1)  # (B, S, h, D / h) -> (B h, D / h, S)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B h, Lq, L, M, 2)
    shares = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (B h, 1, Lq, L, M)
    total = maps.new_zeros(*maps.shape[:2], num_queries)
    for level, part in enumerate(maps.split([height * width for height, width in shapes], dim=-1)):
        sampled = functional.grid_sample(part.unflatten(-1, shapes[level]), grids[:, :, level], align_corners=False)
        total = total + (sampled * shares[:, :, :, level]).sum(dim=-1)  # (B h, D / h, Lq, M) -> (B h, D / h, Lq)
    # (B h, D / h, Lq) -> (B, Lq, D)
    return total.unflatten(0, (batch_size, num_heads)).permute(0, 3, 1, 2).flatten(2)


def sample_by_rows(
    values: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor, shapes: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """`sample_by_grid`, also (B, Lq, D), in a third of its time on a CPU; gradients need SciPy.

    The channels of a cell lie side by side in memory: the weighted cells around all samples of a query and head are
    summed at once.
    """
    batch_size, num_tokens, num_heads, _ = values.shape
    width, height = locations.new_tensor([shape[::-1] for shape in shapes]).T[..., None]  # (L, 1) each
    first = (width * height).cumsum(dim=0) - width * height
    # NaN, from an overflow, is no place in memory.
    x, y = locations.nan_to_num(0).unbind(dim=-1)  # (B, Lq, h, L, M)
    x, y = x * width - 0.5, y * height - 0.5
    left, top = x.floor(), y.floor()
    cells, shares = [], []
    for row, vertical in ((top, 1 + top - y), (top + 1, y - top)):
        vertical = vertical * weights * ((row >= 0) & (row < height))
        start = first + torch.minimum(row.clamp(min=0), height - 1) * width
        for column, horizontal in ((left, 1 + left - x), (left + 1, x - left)):
            shares.append(vertical * horizontal * ((column >= 0) & (column < width)))
            cells.append((start + torch.minimum(column.clamp(min=0), width - 1)).int())
    images = torch.arange(batch_size, dtype=torch.int32).view(-1, 1, 1, 1)
    heads = torch.arange(num_heads, dtype=torch.int32)[:, None]
    rows = (images * num_tokens + torch.stack(cells, dim=3).flatten(3)) * num_heads + heads  # (B, Lq, h, 4 L M)
    shares_of_rows = torch.stack(shares, dim=3).flatten(3)
    sums = _SumOfRows.apply(values.flatten(0, 2), rows.flatten(0, 2), shares_of_rows.flatten(0, 2))
    return sums.view(batch_size, locations.shape[1], -1)  # (B Lq h, D / h) -> (B, Lq, D)


class _SumOfRows(torch.autograd.Function):
    """Sums (N, C) of K rows each of a matrix (R, C), given which rows (N, K) and the share (N, K) of each.

    This is the product of a sparse matrix (N, R) of the shares with the rows; so are its gradients, in a fifth of the
    time of those of `embedding_bag`.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, rows: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values, rows, shares)
        return functional.embedding_bag(rows, values, mode="sum", per_sample_weights=shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
        from scipy.sparse import csc_matrix

        values, rows, shares = ctx.saved_tensors
        grad, size = grad.contiguous(), (len(rows), len(values))
        starts = torch.arange(0, rows.numel() + 1, rows.shape[1], dtype=torch.int32)
        transposed = csc_matrix((shares.flatten().numpy(), rows.flatten().numpy(), starts.numpy()), size[::-1])
        # The inner products of grad and values only where the matrix has entries.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls sparse matrices beta
            entries = torch.sparse_csr_tensor(starts, rows.flatten(), shares.flatten(), size, check_invariants=False)
        products = torch.sparse.sampled_addmm(entries, grad, values.T, beta=0.0).values()
        return torch.from_numpy(transposed @ grad.numpy()), None, products.view_as(shares)


class TCMGroupNorm(nn.GroupNorm):
    """Also for levels of one cell where every group has but one channel, which the layer of torch refuses."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class LevelProjection(nn.Module):
    """A stage of the image encoder, or the level before, as a level of D channels.

    Args:
        in_channels: channels of the input.
        hidden_size: D.
        halve: with half the input's height and width, rounded up.
        num_scores: how many of the input's last channels are a score map.
    """

    def __init__(self, in_channels: int, hidden_size: int, halve: bool = False, num_scores: int = 0):
        super().__init__()
        self.num_scores = num_scores
        kernel, stride = (3, 2) if halve else (1, 1)
        self.conv = nn.Conv2d(in_channels, hidden_size, kernel, stride=stride, padding=kernel // 2)
        self.norm = TCMGroupNorm(NUM_GROUPS, hidden_size)

    def init_weights(self) -> None:
        """Xavier, with zeros for a score map, whose use is to be learned."""
        weight = torch.empty(self.conv.weight.shape)
        nn.init.xavier_uniform_(weight)
        weight[:, weight.shape[1] - self.num_scores :] = 0
        init.copy_(self.conv.weight, weight)
        init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) to (B, D, h', w')."""
        return self.norm(self.conv(features))


class LayerMLP(nn.Module):
    """The MLP with residual that ends both kinds of layers."""

    def __init__(self, settings: DeformableConfig):
        super().__init__()
        size = settings.hidden_size
        self.up, self.down = nn.Linear(size, settings.mlp_size), nn.Linear(settings.mlp_size, size)
        self.mlp_norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(settings.dropout)

    def init_weights(self) -> None:
        """Xavier."""
        init.xavier_uniform_(self.up.weight)
        init.xavier_uniform_(self.down.weight)

    def _mlp(self, states: torch.Tensor) -> torch.Tensor:
        changed = self.down(self.dropout(self.up(states).relu()))
        return self.mlp_norm(states + self.dropout(changed))


class EncoderLayer(LayerMLP):
    """Deformable attention of all tokens to the tokens, then an MLP."""

    def __init__(self, settings: DeformableConfig):
        super().__init__(settings)
        size, points = settings.hidden_size, settings.encoder_points
        self.attention = MultiScaleDeformableAttention(size, settings.num_heads, settings.num_levels, points)
        self.attention_norm = nn.LayerNorm(size)

    def forward(self, tokens: Tokens, positions: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """States (B, S, D) of the tokens, given positions (B, S, D) and references (B, S, L, 2)."""
        seen = self.attention(tokens.states + positions, references, tokens)
        return self._mlp(self.attention_norm(tokens.states + self.dropout(seen)))


class DecoderStream(LayerMLP):
    """Attention within each query and between queries, deformable attention to the tokens, then an MLP."""

    def __init__(self, settings: DeformableConfig):
        super().__init__(settings)
        size, heads, points = settings.hidden_size, settings.num_heads, settings.decoder_points
        self.within = TCMMultiheadAttention(size, heads, settings.dropout, batch_first=True)
        self.between = TCMMultiheadAttention(size, heads, settings.dropout, batch_first=True)
        self.across = MultiScaleDeformableAttention(size, heads, settings.num_levels, points)
        self.within_norm, self.between_norm, self.across_norm = (nn.LayerNorm(size) for _ in range(3))

    def forward(
        self, states: torch.Tensor, positions: torch.Tensor, references: torch.Tensor, tokens: Tokens
    ) -> torch.Tensor:
        """States of the N members of all Q queries, (B, Q, N, D).

        Args:
            states: (B, Q, N, D).
            positions: of a shape that broadcasts to that of the states.
            references: (B, Q, N or 1, L, 2 or 4), see `MultiScaleDeformableAttention`.
            tokens: what the encoder made of the image.
        """
        batch_size, num_queries, num_members, _ = states.shape
        members = states.flatten(0, 1)  # (B, Q, N, D) -> (B Q, N, D)
        placed = (states + positions).flatten(0, 1)
        seen = self.within(placed, placed, members)[0]
        states = self.within_norm(members + self.dropout(seen)).unflatten(0, (batch_size, num_queries))
        # Queries see each other without positions (the members of one place in all queries).
        queries = states.transpose(1, 2).flatten(0, 1)  # (B, Q, N, D) -> (B N, Q, D)
        seen = self.between(queries, queries, queries)[0]
        queries = self.between_norm(queries + self.dropout(seen))
        states = queries.unflatten(0, (batch_size, num_members)).transpose(1, 2)
        places = references.expand(-1, -1, num_members, -1, -1).flatten(1, 2)  # (B, Q N, L, 2 or 4)
        seen = self.across((states + positions).flatten(1, 2), places, tokens)
        states = self.across_norm(states + self.dropout(seen.view_as(states)))
        return self._mlp(states)


class Proposals(NamedTuple):
    """What every token proposes.

    Args:
        logits: (B, S) float32 whether there is a word.
        coordinates: (B, S, P) float32 in [0, 1], 1 for tokens that can propose nothing.
    """

    logits: torch.Tensor
    coordinates: torch.Tensor


def prior_logits(priors: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """Logits of what tokens propose to begin with, infinite for those close to the border or in the padding.

    Args:
        priors: (B, S, P) coordinates in [0, 1].
        padding: (B, S) bool.
    """
    valid = ((priors > BORDER) & (priors < 1 - BORDER)).all(dim=-1, keepdim=True) & ~padding[..., None]
    return (priors / (1 - priors)).log().masked_fill(~valid, math.inf)


class ProposalHead(nn.Module):
    """The first stage: every token says whether there is a word, and where.

    Args:
        hidden_size: D.
        num_coordinates: P, what describes a place.
    """

    def __init__(self, hidden_size: int, num_coordinates: int):
        super().__init__()
        self.projection, self.norm = nn.Linear(hidden_size, hidden_size), nn.LayerNorm(hidden_size)
        self.classifier = nn.Linear(hidden_size, 1)
        self.coordinates = MLP(hidden_size, hidden_size, num_coordinates, 3)

    def forward(self, memory: torch.Tensor, priors: torch.Tensor) -> Proposals:
        """Proposals of tokens (B, S, D), given their `prior_logits` (B, S, P)."""
        memory = memory.masked_fill(priors.isinf().any(dim=-1, keepdim=True), 0)
        memory = self.norm(self.projection(memory))
        coordinates = (self.coordinates(memory).float() + priors).sigmoid()
        return Proposals(self.classifier(memory)[..., 0].float(), coordinates)


def topk_proposals(logits: torch.Tensor, num_queries: int) -> torch.Tensor:
    """The tokens (B, Q) with the highest logits (B, S), the best first; invalid ones are not left out."""
    return logits.topk(torch.sym_min(num_queries, logits.shape[1])).indices


def chosen_coordinates(coordinates: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Coordinates (B, Q, P) of the chosen tokens (B, Q) from those (B, S, P) of all, without gradients."""
    # Not `take_along_dim`, which makes constants of sizes that are free in an exported graph.
    return coordinates.detach().gather(1, chosen[..., None].expand(-1, -1, coordinates.shape[-1]))


class DeformableHead(DetectionHead):
    """What all heads on a two-stage deformable DETR share: levels, encoder, proposals, starting weights.

    Args:
        settings: its settings.
        in_channels: of C2 … C5, the score map in the last of them.
        num_coordinates: P, what describes a proposal.
    """

    reads = True
    score_map_loss = "dice"
    presets = {
        "tiny": {
            "hidden_size": 128,
            "num_encoder_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "mlp_size": 256,
            "num_queries": 40,
            "encoder_points": 2,
            "decoder_points": 2,
            "dropout": 0.0,
        },
        "small": {"num_encoder_layers": 3, "num_decoder_layers": 4, "mlp_size": 512},
        "base": {},
    }
    settings: DeformableConfig

    def __init__(self, settings: DeformableConfig, in_channels: Sequence[int], num_coordinates: int):
        super().__init__(settings, in_channels)
        size, used = settings.hidden_size, in_channels[settings.finest_level - FINEST_INPUT :]
        # The stages of CLIP's ResNet double their channels: what C5 has beyond that is the score map.
        num_scores = max(in_channels[-1] - 2 * in_channels[-2], 0)
        levels = [LevelProjection(channels, size) for channels in used[:-1]]
        levels.append(LevelProjection(in_channels[-1], size, num_scores=num_scores))
        levels.append(LevelProjection(in_channels[-1], size, halve=True, num_scores=num_scores))
        levels += [LevelProjection(size, size, halve=True) for _ in range(settings.num_levels - len(levels))]
        self.levels = nn.ModuleList(levels)
        self.level_embedding = nn.Parameter(torch.zeros(settings.num_levels, size))
        self.encoder = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.num_encoder_layers))
        self.proposals = ProposalHead(size, num_coordinates)

    @property
    @abstractmethod
    def word_targets(self) -> tuple[str, ...]:
        """The names of what the targets say of words besides their characters."""

    @property
    def strides(self) -> list[int]:
        """Of the levels that are stages of the image encoder."""
        return [2**level for level in range(self.settings.finest_level, 6)]

    @abstractmethod
    def priors(self, centers: torch.Tensor, shapes: Sequence[tuple[int, int]]) -> torch.Tensor:
        """What tokens propose to begin with, (B, S, P) in [0, 1], from their `cell_centers` (B, S, 2)."""

    def encode(self, inputs: HeadInputs) -> tuple[Tokens, Proposals]:
        """The encoded tokens of all levels, and what they propose."""
        levels = self._project(inputs.pyramid[self.settings.finest_level - FINEST_INPUT :])
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        masks = padding_masks(inputs.valid_sizes.to(levels[0].device), shapes, self.strides)
        ratios = valid_ratios(masks)
        padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)
        states = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # (B, S, D)
        positions = torch.cat(
            [
                position_encoding(mask, self.settings.hidden_size).flatten(1, 2) + embedding
                for mask, embedding in zip(masks, self.level_embedding.float(), strict=True)
            ],
            dim=1,
        ).to(states.dtype)
        centers = cell_centers(shapes, ratios)
        references = centers[:, :, None] * ratios[:, None]  # (B, S, L, 2)
        tokens = Tokens(states, padding, ratios, shapes)
        for layer in self.encoder:
            tokens = tokens._replace(states=layer(tokens, positions, references))
        return tokens, self.proposals(tokens.states, prior_logits(self.priors(centers, shapes), padding))

    def loss(self, maps: Any, labels: Labels) -> dict[str, torch.Tensor]:
        """Terms of the proposals and of every decoder layer, those of the earlier ones with their number at the end."""
        words = words_of(labels, self.word_targets)
        terms = self.proposal_losses(maps, words)
        last = len(maps["class_logits"]) - 1
        for layer in range(last + 1):
            suffix = "" if layer == last else f"_{layer}"
            terms |= {name + suffix: term for name, term in self.layer_losses(maps, layer, words).items()}
        return terms

    @abstractmethod
    def proposal_losses(self, maps: Any, words: Words) -> dict[str, torch.Tensor]:
        """Weighted loss terms of the proposals."""

    @abstractmethod
    def layer_losses(self, maps: Any, layer: int, words: Words) -> dict[str, torch.Tensor]:
        """Weighted loss terms of what one decoder layer predicts."""

    @staticmethod
    def score_map_targets(labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        text_map, text_mask = (stacked(labels, name)[:, None].float() for name in ("text_map", "text_mask"))
        return text_map, text_mask

    def _project(self, stages: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """All levels (B, D, h, w), from the finest to the coarsest."""
        levels = [layer(stage) for layer, stage in zip(self.levels, stages, strict=False)]
        # The first level beyond the stages is made from C5 as it is, the others each from the one before.
        source = stages[-1]
        for layer in self.levels[len(stages) :]:
            source = layer(source)
            levels.append(source)
        return levels

    def init_weights(self) -> None:
        """Xavier within the transformer, a low score everywhere, levels told apart from the first."""
        init.normal_(self.level_embedding)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # The heads keep this, what torch starts with; the others follow.
                bound = module.in_features**-0.5
                init.uniform_(module.weight, -bound, bound)
                init.uniform_(module.bias, -bound, bound)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                for weight in (module.in_proj_weight, module.out_proj.weight):
                    init.xavier_uniform_(weight)
                for bias in (module.in_proj_bias, module.out_proj.bias):
                    init.zeros_(bias)
            elif isinstance(module, (LevelProjection, LayerMLP, MultiScaleDeformableAttention)):
                module.init_weights()
        init.xavier_uniform_(self.proposals.projection.weight)
        self.init_prior(self.proposals.classifier)

    def init_prior(self, layer: nn.Linear) -> None:
        """Let all scores start at `prior_probability`."""
        prior = self.settings.prior_probability
        init.constant_(layer.bias, math.log(prior / (1 - prior)))


def spotting_targets(
    instances: TextInstances,
    size: tuple[int, int],
    valid_size: tuple[int, int],
    settings: DeformableConfig,
    length: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What all spotters learn of an image, and the curves (N, 8, 2) of its words in pixels.

    `text_map` and `text_mask` (H, W) are uint8, the text and where it counts, the padding left out. Words that no two
    curves describe are masked; of the N others there are `word_classes` (N, length) int64, see `text_classes`,
    `word_usable` (N,) bool, whether they are neither ignored nor tiny, and `word_legible` (N,) bool, whether they have
    a text.

    Args:
        instances: the image's text, in pixels of the network's input.
        size: height and width of the padded input.
        valid_size: of the image in it.
        settings: of the head.
        length: most characters of a word.
    """
    import cv2

    texts = instances.texts or [None] * len(instances)
    curves, fitted = words_to_bezier(instances.polygons, texts)
    usable = fitted & ~instances.ignored & (short_sides(curves) >= settings.min_short_side)
    text_map, text_mask = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    text_mask[: valid_size[0], : valid_size[1]] = 1
    for polygon, used in zip(instances.polygons, usable, strict=True):
        cv2.fillPoly(text_map if used else text_mask, [polygon.astype(np.int32)], int(used))
    kept = [text for text, has_curves in zip(texts, fitted, strict=True) if has_curves]
    targets = {
        "text_map": text_map,
        "text_mask": text_mask,
        "word_classes": text_classes(kept, settings.charset, length, settings.folds_case),
        "word_usable": usable[fitted],
        "word_legible": np.array([bool(text) for text in kept], dtype=bool),
    }
    return targets, curves[fitted]


class Kept(NamedTuple):
    """The M queries of a batch that are words.

    Args:
        images: (M,) int64, in ascending order.
        queries: (M,) int64, in ascending order within an image.
        scores: (M,) float32.
    """

    images: np.ndarray
    queries: np.ndarray
    scores: np.ndarray


def kept_queries(maps: Maps, decoding: DecodingSettings) -> Kept:
    """The queries of the last decoder layer whose score, the mean over points, reaches the threshold.

    Raises:
        ValueError: if a score is not a number.
    """
    logits = torch.as_tensor(maps["class_logits"])[-1].detach().float()  # (B, Q, N)
    scores = logits.mean(dim=-1).sigmoid().cpu().numpy()
    if not np.isfinite(scores).all():
        raise ValueError("`class_logits` has values that are NaN; run the model in float32 or bfloat16")
    best = np.argsort(-scores, axis=1, kind="stable")[:, : decoding.max_candidates]
    ranked = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(ranked, best, True, axis=1)
    images, queries = np.nonzero(ranked & (scores >= decoding.box_threshold))
    return Kept(images, queries, scores[images, queries])


def last_layer(maps: Maps, name: str, kept: Kept) -> np.ndarray:
    """What the last decoder layer predicts for kept queries, (M, …) float32 of a map (K, B, Q, …)."""
    values = torch.as_tensor(maps[name])[-1].detach().float().cpu().numpy()
    return values[kept.images, kept.queries]


def query_regions(
    kept: Kept, sides: np.ndarray, char_logits: np.ndarray, num_images: int, decoding: DecodingSettings
) -> Regions:
    """Regions of the words among the kept queries that have a size.

    Args:
        kept: the queries, M of them.
        sides: (M, 2, P, 2) upper side in reading direction and lower side backwards, in pixels of the network's input.
        char_logits: (M, T, C).
        num_images: B.
        decoding: how to.
    """
    control_points = fit_sides(sides)
    finite = np.isfinite(sides).all(axis=(1, 2, 3))
    large = finite & (short_sides(np.where(finite[:, None, None], control_points, 0)) >= decoding.min_size)
    outlines, kept_words = [], []
    for word in np.flatnonzero(large):
        outline = sides[word].reshape(-1, 2) if decoding.polygon else sides[word][:, [0, -1]].reshape(4, 2)
        outline = geometry.sound_outline(outline)
        if geometry.signed_area(outline) >= MIN_AREA:
            outlines.append(outline)
            kept_words.append(word)
    words = np.array(kept_words, dtype=np.int64)
    splits = np.searchsorted(kept.images[words], np.arange(1, num_images))
    per_image = np.split(np.arange(len(words)), splits)
    regions = Regions.from_outlines(
        [[outlines[index] for index in indices] for indices in per_image],
        np.split(kept.scores[words], splits),
        control_points=np.split(control_points[words], splits),
    )
    regions.char_logits = torch.from_numpy(char_logits[words])
    return regions


def fit_sides(sides: np.ndarray) -> np.ndarray:
    """Control points (M, 8, 2) of the curves through the ends of sides (M, 2, P, 2), sampled at equal steps."""
    basis = bernstein_basis(np.linspace(0, 1, sides.shape[2]))  # (P, 4)
    ends = sides[:, :, [0, -1]].astype(np.float64)
    inner = np.linalg.pinv(basis[:, 1:3]) @ (sides - basis[:, [0, 3]] @ ends)
    return np.concatenate([ends[:, :, :1], inner, ends[:, :, 1:]], axis=2).reshape(-1, 8, 2).astype(np.float32)
