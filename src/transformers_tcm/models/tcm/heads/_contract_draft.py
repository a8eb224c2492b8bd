"""The contract of a detection head, as heads of this branch need it until `base.py` has it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

__all__ = ["DetectionHead", "HeadInputs", "Regions", "level_maps", "split_by_image", "stacked"]


@dataclass(frozen=True)
class HeadInputs:
    """What a head is given."""

    pyramid: tuple[torch.Tensor, ...]
    stem: torch.Tensor
    valid_sizes: torch.Tensor
    pixel_mask: torch.Tensor | None = None
    score_map: torch.Tensor | None = None


@dataclass
class Regions:
    """N regions of all images of a batch, one after the other."""

    points: torch.Tensor
    counts: torch.Tensor
    batch_indices: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    control_points: torch.Tensor | None = None
    char_logits: torch.Tensor | None = None


class DetectionHead(nn.Module, ABC):
    """A detection head owns its neck and knows its targets, its loss and its decoding."""

    config_class: ClassVar[type]
    decoding_class: ClassVar[type]
    presets: ClassVar[dict[str, dict[str, Any]]]
    display_name: ClassVar[str]
    paper: ClassVar[str]
    task: ClassVar[str] = "text"
    reads: ClassVar[bool] = False
    score_map_loss: ClassVar[str]

    def init_weights(self) -> None:
        """Weights that start other than those of every convolution and norm."""
        return

    @abstractmethod
    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> ModelOutput: ...

    @abstractmethod
    def loss(self, maps: Any, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]: ...

    @staticmethod
    @abstractmethod
    def targets(
        instances: Any, size: tuple[int, int], valid_size: tuple[int, int], settings: Any
    ) -> dict[str, np.ndarray]: ...

    @staticmethod
    @abstractmethod
    def score_map_targets(labels: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]: ...

    @staticmethod
    @abstractmethod
    def decode(maps: Mapping[str, Any], valid_sizes: torch.Tensor, decoding: Any) -> Regions: ...


def level_maps(maps: Mapping[str, Any], name: str) -> tuple[torch.Tensor, ...]:
    """The levels of a map, a tuple under its name or one tensor under `name.0`, `name.1`, …"""
    if name in maps:
        return tuple(torch.as_tensor(level) for level in maps[name])
    names = sorted((key for key in maps if key.startswith(f"{name}.")), key=lambda key: int(key.rpartition(".")[2]))
    return tuple(torch.as_tensor(maps[key]) for key in names)


def stacked(labels: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """One target of all images as (B, ...)."""
    if name not in labels:
        raise ValueError(f"`labels` lack {name!r}; build them with the collator of transformers_tcm.data")
    return labels[name]


def split_by_image(labels: Mapping[str, torch.Tensor], name: str) -> Sequence[torch.Tensor]:
    """The rows of a target that belong to each image, whether stacked or concatenated with counts."""
    values = stacked(labels, name)
    counts = labels.get(f"{name}_counts")
    return list(values) if counts is None else list(values.split(counts.tolist()))
