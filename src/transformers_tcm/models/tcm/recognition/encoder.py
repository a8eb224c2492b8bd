"""Crops of words to what a decoder looks at: straightened words to sequences of states, or maps that keep their rows.

Reference: CRNN, Shi et al., TPAMI 2017, with a transformer in place of the recurrent layers.

Shapes: N words, T steps, D the hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional

from ..attention_tcm import TCMAttention
from ..heads.base import Regions, check_range
from ..layers_tcm import TCMConvNorm
from .base import Recognizer, RecognizerConfig
from .boundaries import REACH, TCMWordBoundaries, inside_words, mostly_within, moved_at_random, words_along
from .proposals import LabelledWords, regions_to_bezier
from .sampling import FeatureLevels, with_ends, word_heights, word_lengths

__all__ = ["SequenceConfig", "SequenceRecognizer", "TCMWordEncoder", "TCMWordEncoderLayer", "map_convs"]


# Times that the ends of each labelled word are moved at random to learn where they are.
_DRAWS = 2
# Looks for where a word ends, each reaching further than the one before.
_MOST_LOOKS = 3


@strict
@dataclass
class SequenceConfig(RecognizerConfig):
    """Settings of recognisers that read along the word; a step of theirs is two columns of the crop.

    Args:
        channels: width of the convolutions before each halving of the rows.
        num_blocks: residual blocks at each of these widths.
        num_layers: transformer layers along the word.
        num_heads: their attention heads.
        dropout: their dropout.
        word_boundaries: also tell where words begin and end along a region, so that what is cut off is read whole,
            what was found as one falls into its words, and pieces of a word are joined.
    """

    channels: list[int] | tuple[int, ...] = (64, 96, 160, 224)
    num_blocks: list[int] | tuple[int, ...] = (0, 1, 1, 1)
    num_layers: int = 2
    num_heads: int = 4
    dropout: float | int = 0.1
    word_boundaries: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.channels) < 2 or len(self.num_blocks) != len(self.channels):
            raise ValueError(
                "`channels` and `num_blocks` must be of one length, at least 2; "
                f"got {list(self.channels)} and {list(self.num_blocks)}"
            )
        unit = 2 ** (len(self.channels) - 1)
        if self.crop_size[0] % unit or self.crop_size[1] % 2:
            raise ValueError(
                f"`crop_size` must be rows, a multiple of {unit} for {len(self.channels)} widths, and an even number "
                f"of columns; got {list(self.crop_size)}"
            )
        check_range(self, num_layers=(1, None), num_heads=(1, None))
        if min(self.channels) < 1 or min(self.num_blocks) < 0:
            raise ValueError(
                "`channels` must be positive and `num_blocks` not negative; "
                f"got {list(self.channels)} and {list(self.num_blocks)}"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(f"`hidden_size` {self.hidden_size} is not a multiple of `num_heads` {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"expected 0 <= `dropout` < 1, got {self.dropout}")

    @property
    def num_steps(self) -> int:
        """Steps of the sequence encoder."""
        return self.crop_size[1] // 2


class TCMResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(TCMConvNorm(channels, channels, 3), TCMConvNorm(channels, channels, 3, relu=False))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(features + self.convs(features))


class TCMWordEncoderLayer(nn.Module):
    """A transformer layer with norms first, (N, T, D) to (N, T, D): attention along the word, then a wider MLP."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.word_attention = TCMAttention(None, hidden_size, num_heads, bias=True, dropout=dropout)
        self.linear1 = nn.Linear(hidden_size, 2 * hidden_size)
        self.linear2 = nn.Linear(2 * hidden_size, hidden_size)
        self.norm1, self.norm2 = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(states)  # (N, T, D)
        attended, _ = self.word_attention(normed, normed)
        states = states + self.dropout(attended)
        hidden = self.dropout(functional.gelu(self.linear1(self.norm2(states))))  # (N, T, 2 D)
        return states + self.dropout(self.linear2(hidden))


class TCMWordEncoder(nn.Module):
    """Crops (N, C, h, w) to sequences (N, w / 2, D): convolutions, then a transformer along the word."""

    def __init__(self, settings: SequenceConfig, in_channels: int):
        super().__init__()
        layers: list[nn.Module] = []
        for index, (channels, blocks) in enumerate(zip(settings.channels, settings.num_blocks, strict=True)):
            # The first halving of the rows also halves the columns.
            stride = [(1, 1), (2, 2)][index] if index < 2 else (2, 1)
            layers.append(TCMConvNorm(in_channels, channels, 3, stride=stride))
            layers.extend(TCMResidualBlock(channels) for _ in range(blocks))
            in_channels = channels
        self.convs = nn.Sequential(*layers)
        rows = settings.crop_size[0] // 2 ** (len(settings.channels) - 1)
        self.flatten = nn.Linear(rows * in_channels, settings.hidden_size)
        self.position_embedding = nn.Embedding(settings.num_steps, settings.hidden_size)
        self.layers = nn.ModuleList(
            TCMWordEncoderLayer(settings.hidden_size, settings.num_heads, float(settings.dropout))
            for _ in range(settings.num_layers)
        )
        self.norm = nn.LayerNorm(settings.hidden_size)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        columns = self.convs(crops).permute(0, 3, 1, 2).flatten(2)  # (N, C, rows, T) -> (N, T, C x rows)
        steps = torch.arange(columns.shape[1], device=columns.device)
        states = self.flatten(columns) + self.position_embedding(steps)
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


class SequenceRecognizer(Recognizer):
    """A recogniser of states along the straightened word."""

    config_class = SequenceConfig

    def make_encoder(self, settings: Any, in_channels: int) -> nn.Module:
        return TCMWordEncoder(settings, in_channels)

    def make_boundaries(self, settings: Any) -> nn.Module | None:
        return TCMWordBoundaries(settings.hidden_size) if settings.word_boundaries else None

    @torch.no_grad()
    def find_words(
        self, features: torch.Tensor | FeatureLevels, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> list[list[tuple[float, float]]]:
        if self.boundaries is None:
            return super().find_words(features, control_points, batch_indices)
        return self._find_words(features, control_points, batch_indices, _MOST_LOOKS)

    def _find_words(
        self,
        features: torch.Tensor | FeatureLevels,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        looks: int,
    ) -> list[list[tuple[float, float]]]:
        """See `find_words`; where words go on beyond what a crop reaches, further looks reach further on that end."""
        parts = self._look(features, self._wider(control_points), batch_indices, self._boundary_logits)
        logits = [word for part in parts for word in part.float().cpu().numpy()]
        reaches = (REACH * word_heights(control_points) / word_lengths(control_points).clamp(min=1e-3)).tolist()
        found = [words_along(word, reach) for word, reach in zip(logits, reaches, strict=True)]
        # (N, 2), whether words go on before the region and after it.
        going_on = np.array([(w[0][0] <= -r, w[-1][1] >= 1 + r) for w, r in zip(found, reaches, strict=True)])
        cut_off = np.flatnonzero(going_on.reshape(-1, 2).any(axis=1))
        if looks > 1 and len(cut_off):
            steps = control_points.new_tensor(REACH * going_on[cut_off])  # (n, 2)
            further = with_ends(control_points[cut_off], steps[:, 0], steps[:, 1])
            again = self._find_words(features, further, batch_indices[cut_off], looks - 1)
            for index, words in zip(cut_off.tolist(), again, strict=True):
                before, after = reaches[index] * going_on[index]
                # From shares of the longer region to shares of the region.
                words = [tuple(share * (1 + before + after) - before for share in word) for word in words]
                found[index] = [(begin, end) for begin, end in words if mostly_within(begin, end)] or found[index]
        return found

    def boundary_loss(
        self, features: torch.Tensor, words: LabelledWords, ignored: torch.Tensor, regions: Regions | None
    ) -> dict[str, torch.Tensor]:
        """See `Recognizer.boundary_loss`: of telling which of the T steps along labelled words, whose ends are moved at
        random, and along the regions that the detector found lie in a word, logits (N, T). The encoder learns nothing
        by it."""
        if self.boundaries is None:
            return super().boundary_loss(features, words, ignored, regions)
        known = ~ignored
        crops = words.control_points[known].repeat(_DRAWS, 1, 1)
        crops = moved_at_random(crops) if self.training else crops
        images = words.batch_indices[known].repeat(_DRAWS)
        if regions is not None:
            crops = torch.cat([crops, regions_to_bezier(regions).to(crops)])
            images = torch.cat([images, regions.batch_indices.to(images)])
        if not len(crops):
            # Every process of a distributed training needs gradients.
            nothing = features.new_zeros(1, self.num_steps, self.settings.hidden_size)
            return {"loss_boundaries": self._boundary_logits(nothing).sum() * 0}
        crops = self._wider(crops)
        training = self.encoder.training
        try:
            self.encoder.eval()  # its batch norms must not learn what such crops look like
            with torch.no_grad():
                states = self.encoder(self.sampler(features, crops, images))
        finally:
            self.encoder.train(training)
        logits = self._boundary_logits(states)
        inside, counted = inside_words(
            crops, images, words.control_points, words.batch_indices, ignored, logits.shape[1]
        )
        losses = functional.binary_cross_entropy_with_logits(logits.float(), inside, reduction="none")
        return {"loss_boundaries": (losses * counted).sum() / counted.sum().clamp(min=1)}

    def _boundary_logits(self, states: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, T) of states (N, T, D)."""
        assert self.boundaries is not None  # otherwise nobody asks
        logits: torch.Tensor = self.boundaries(states)
        return logits[..., 0]

    def _wider(self, control_points: torch.Tensor) -> torch.Tensor:
        """Regions (N, 8, 2) that reach further on both ends."""
        reach = control_points.new_tensor(REACH).expand(len(control_points))
        return with_ends(control_points, reach, reach)


def map_convs(in_channels: int, channels: Sequence[int], norm: bool) -> nn.Sequential:
    """Plain 3x3 convolutions with biases, each with a batch norm where asked for, and ReLU: (N, C, h, w) to the same
    rows and columns."""
    layers: list[nn.Module] = []
    for size in channels:
        convolution = nn.Conv2d(in_channels, size, 3, padding=1)
        layers.append(nn.Sequential(convolution, *([nn.BatchNorm2d(size)] if norm else []), nn.ReLU(inplace=True)))
        in_channels = size
    return nn.Sequential(*layers)
