"""What every detection head provides."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

from ....instances import TextInstances

__all__ = ["DecodingSettings", "DetectionHead", "HeadOutput", "stack_targets"]


@dataclass(frozen=True)
class DecodingSettings:
    """How text instances are read from a head's maps, the arguments of `HeadOutput.decode`.

    A checkpoint's settings are in its image processor; these are for models without one.
    """

    threshold: float = 0.3
    box_threshold: float = 0.6
    unclip_ratio: float = 1.5
    max_candidates: int = 1000
    min_size: float = 3
    polygon: bool = False


class HeadOutput(ModelOutput):
    """Raw maps of a head, which it knows how to turn into text instances.

    Class attributes:
        halves_are_sides: outlines of more than four points hold the upper side in their first half and the lower side
            in their second one, as `bezier.fit_bezier` takes them; otherwise they start anywhere and are split anew.
    """

    halves_are_sides: ClassVar[bool] = False

    def decode(
        self,
        valid_sizes: torch.Tensor,
        threshold: float,
        box_threshold: float,
        unclip_ratio: float,
        max_candidates: int,
        min_size: float,
        polygon: bool,
    ) -> list[TextInstances]:
        """Text instances with scores of each image, in pixels of the network's input.

        Args:
            valid_sizes: (B, 2) height and width of each image within the padded input.
            threshold: lowest value of a text pixel, in [0, 1].
            box_threshold: lowest mean value over a region, in [0, 1].
            unclip_ratio: how far regions are grown, as a multiple of area / perimeter.
            max_candidates: regions looked at in one image, the largest first.
            min_size: shortest side of a region before it is grown, in pixels of the input.
            polygon: outlines of any shape rather than quads.
        """
        raise NotImplementedError(f"{type(self).__name__} does not decode")


class DetectionHead(nn.Module, ABC):
    """A detection head owns its neck and knows its targets, its loss and its decoding.

    Class attributes:
        config_class: dataclass of its settings, `TCMConfig.head_config`.
        score_map_loss: form of the auxiliary loss that goes with this head, `"bce"` or `"dice"`.
    """

    config_class: ClassVar[type]
    score_map_loss: ClassVar[str]

    def init_weights(self) -> None:
        """Weights that start other than those of every convolution and norm; set with `transformers.initialization`."""
        return

    @abstractmethod
    def forward(self, pyramid: Sequence[torch.Tensor], with_training_maps: bool = True) -> HeadOutput:
        """Maps from C2 … C5 (strides 4 … 32), the score map concatenated to C5.

        Args:
            pyramid: four tensors (B, C_i, H / stride, W / stride).
            with_training_maps: also what only the loss needs.
        """

    @abstractmethod
    def loss(self, output: Any, labels: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Weighted scalar loss terms, whose sum is the head's loss, of an `output` with all training maps."""

    @staticmethod
    @abstractmethod
    def targets(instances: TextInstances, height: int, width: int, settings: Any) -> dict[str, np.ndarray]:
        """Target maps of one image of that size, made in the data workers. `settings` is a `config_class`."""

    @staticmethod
    @abstractmethod
    def score_map_targets(labels: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Binary text map and its training mask, both (B, 1, H, W) float, for the auxiliary loss on the score map."""


def stack_targets(labels: list[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    """One target map of all images as (B, 1, H, W) float.

    Raises:
        ValueError: if the labels were not made for this head, or differ in size.
    """
    if any(name not in label for label in labels):
        raise ValueError(
            f"`labels` lack the target map {name!r}; build them with the collator of transformers_tcm.data"
        )
    return torch.stack([label[name] for label in labels]).float()[:, None]  # (B, H, W) -> (B, 1, H, W)
