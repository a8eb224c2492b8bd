"""Straightened words to sequences of states.

Reference: CRNN, Shi et al., TPAMI 2017, with a transformer in place of the recurrent layers.

Shapes: N words, T steps, D the hidden size.
"""

import torch
from torch import nn
from torch.nn import functional

from ..layers_tcm import TCMConvNorm, TCMMultiheadAttention
from .base import RecognizerConfig

__all__ = ["TCMWordEncoder"]


class TCMResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(TCMConvNorm(channels, channels, 3), TCMConvNorm(channels, channels, 3, relu=False))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(features + self.convs(features))


class TCMWordLayer(nn.TransformerEncoderLayer):
    """A pre-norm transformer layer whose weights can be offloaded."""

    def __init__(self, settings: RecognizerConfig):
        size, dropout = settings.hidden_size, float(settings.dropout)
        super().__init__(
            size, settings.num_heads, 2 * size, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.self_attn = TCMMultiheadAttention(size, settings.num_heads, dropout, batch_first=True)


class TCMWordEncoder(nn.Module):
    """Crops (N, C, h, w) to sequences (N, w / 2, D): convolutions, then a transformer along the word."""

    def __init__(self, settings: RecognizerConfig, in_channels: int):
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
        self.layers = nn.ModuleList(TCMWordLayer(settings) for _ in range(settings.num_layers))
        self.norm = nn.LayerNorm(settings.hidden_size)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        columns = self.convs(crops).permute(0, 3, 1, 2).flatten(2)  # (N, C, rows, T) -> (N, T, C x rows)
        steps = torch.arange(columns.shape[1], device=columns.device)
        states = self.flatten(columns) + self.position_embedding(steps)
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)
