"""A tiny detector without training that takes bright pixels for text, and pictures for it."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForTextDetection
from transformers_tcm.models.tcm.heads.dbnet import DBNetOutput
from transformers_tcm.models.tcm.modeling_tcm import TCMTextDetectionOutput

CONFIG = TCMConfig(**SETTINGS, fused=True)


class BrightPixels(TCMForTextDetection):
    """White is text with probability 0.9, grey with 0.5; remembers the shapes it was given.

    Its score map has a cosine of 0.07, the temperature, for white and of -0.07 for black.
    """

    def __init__(self, config: TCMConfig = CONFIG, with_score_map: bool = True):
        super().__init__(config)
        self.shapes: list[tuple[int, ...]] = []
        self.with_score_map = with_score_map

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, **kwargs: Any) -> TCMTextDetectionOutput:
        self.shapes.append(tuple(pixel_values.shape))
        brightness = pixel_values.float().mean(dim=1, keepdim=True)  # normalised: black is -1.7, white is 2
        prob_map = 0.9 * (brightness > 1.5) + 0.5 * ((brightness > 0.05) & (brightness <= 1.5))
        sizes = torch.stack([pixel_mask.amax(dim=2).sum(dim=1), pixel_mask.amax(dim=1).sum(dim=1)], dim=1)
        white = torch.nn.functional.avg_pool2d((brightness > 1.5).float(), 32)
        return TCMTextDetectionOutput(
            head_output=DBNetOutput(prob_map=prob_map),
            score_map=0.07 * (2 * white - 1) if self.with_score_map else None,
            valid_sizes=sizes,
        )


def photo(width: int, height: int, *words: tuple[int, int, int, int], level: int = 255) -> Image.Image:
    """Black with filled rectangles (x_min, y_min, x_max, y_max)."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for x_min, y_min, x_max, y_max in words:
        pixels[y_min:y_max, x_min:x_max] = level
    return Image.fromarray(pixels)


def box_of(detection: dict[str, Any]) -> list[float]:
    return [detection["box"][name] for name in ("xmin", "ymin", "xmax", "ymax")]
