"""Models of any head as small as it allows, and a batch to train them with."""

from typing import Any

import numpy as np
import torch
from tiny_heads import HEAD_CONFIGS, RECOGNIZER_CONFIGS
from tiny_settings import SETTINGS

from transformers_tcm import (
    OrientedInstances,
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    TextInstances,
)
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.models.tcm.heads import head_class
from transformers_tcm.models.tcm.modeling_tcm import TCMDetector

__all__ = ["batch", "made"]

WORD = np.float32([[8, 12], [56, 12], [56, 40], [8, 40]])


def made(head: str, prompting: str, fused: bool, decoder: str | None) -> TCMDetector:
    torch.manual_seed(0)
    settings = {**SETTINGS, "head_type": head, "head_config": HEAD_CONFIGS[head], "prompting": prompting}
    recognizer = None if decoder is None else {**RECOGNIZER_CONFIGS[decoder], "decoder": decoder}
    config = TCMConfig(**settings, fused=fused, recognizer=recognizer)
    if head_class(head).task == "oriented":
        return TCMForOrientedObjectDetection(config)
    return (TCMForTextSpotting if config.is_spotter else TCMForTextDetection)(config)


def batch(config: TCMConfig) -> dict[str, Any]:
    processor = TCMImageProcessor(do_resize=False)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if head_class(config.head_type).task == "oriented":
        words = [OrientedInstances([WORD], labels=[3]), OrientedInstances([], labels=[])]
    else:
        words = [TextInstances([WORD], texts=["ab"]), TextInstances([], texts=[])]
    return TextDetectionCollator(config)([process_for_model(processor, image, one) for one in words])
