"""A head that no file of the package knows: two classes, maps by level, targets of a quarter of the size, a setting.

Each level says for every cell how much of each class is there; a region is a cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional
from transformers.utils import ModelOutput

from transformers_tcm.models.tcm.heads.base import (
    DecodingSettings,
    DetectionHead,
    HeadInputs,
    Regions,
    check_range,
    level_maps,
    stacked,
)

# Pixels of the network's input for a cell of each level.
STRIDES = (4, 8)


@strict
@dataclass(frozen=True)
class ToyConfig:
    """Settings of the head."""

    hidden_channels: int = 8


@strict
@dataclass(frozen=True)
class ToyDecoding(DecodingSettings):
    """`stretch`, which no other head has: how much wider than a cell an outline is."""

    stretch: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, stretch=(0, 8))


@dataclass
class ToyOutput(ModelOutput):
    """`cells`: for each level (B, 2, H / stride, W / stride), in [0, 1]."""

    cells: tuple[torch.Tensor, ...] | None = None


class ToyHead(DetectionHead):
    """One convolution for each level."""

    config_class = ToyConfig
    decoding_class = ToyDecoding
    presets = {"tiny": {"hidden_channels": 4}}
    display_name = "ToyNet"
    paper = "none"
    score_map_loss = "bce"

    def __init__(self, settings: ToyConfig, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__(settings, in_channels, num_classes)
        self.levels = nn.ModuleList(nn.Conv2d(size, 2, 1) for size in in_channels[: len(STRIDES)])

    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> ToyOutput:
        maps = zip(self.levels, inputs.pyramid[: len(STRIDES)], strict=True)
        return ToyOutput(cells=tuple(level(features).float().sigmoid() for level, features in maps))

    def loss(self, maps: ToyOutput, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        finest = functional.binary_cross_entropy(maps.cells[0], stacked(labels, "toy_cells"))
        coarser = functional.binary_cross_entropy(maps.cells[1], stacked(labels, "toy_coarser"))
        return {"loss_toy": finest + coarser}

    @staticmethod
    def targets(
        instances: Any, size: tuple[int, int], valid_size: tuple[int, int], settings: ToyConfig
    ) -> dict[str, np.ndarray]:
        import cv2

        kinds = [0] * len(instances) if instances.labels is None else instances.labels.tolist()
        cells = np.zeros((2, size[0], size[1]), np.float32)
        for kind, polygon in zip(kinds, instances.polygons, strict=True):
            cv2.fillPoly(cells[kind], [polygon.astype(np.int32)], 1)
        return {"toy_cells": cells[:, ::4, ::4].copy(), "toy_coarser": cells[:, ::8, ::8].copy()}

    @staticmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        text = stacked(labels, "toy_cells").amax(dim=1, keepdim=True)
        return text, torch.ones_like(text)

    @staticmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: ToyDecoding) -> Regions:
        finest = level_maps(maps, "cells")[0].detach().cpu().numpy()
        outlines, scores, labels = [], [], []
        for cells, (height, width) in zip(finest, valid_sizes.tolist(), strict=True):
            kind, row, column = np.nonzero(cells[:, : height // 4, : width // 4] >= decoding.box_threshold)
            kind, row, column = (values[: decoding.max_candidates] for values in (kind, row, column))
            unit = np.float32([[0, 0], [4 * decoding.stretch, 0], [4 * decoding.stretch, 4], [0, 4]])
            outlines.append([unit + np.float32([4 * x, 4 * y]) for x, y in zip(column, row, strict=True)])
            scores.append(cells[kind, row, column])
            labels.append(kind)
        return Regions.from_outlines(outlines, scores, labels)
