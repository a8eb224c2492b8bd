"""A TCM small enough for tests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection


@pytest.fixture
def small_config() -> Callable[..., TCMConfig]:
    """Makes a configuration of about 0.1 M parameters, settings overridden by keyword."""

    def make(**overrides: Any) -> TCMConfig:
        settings: dict[str, Any] = {
            "vision_config": {
                "width": 4,
                "depths": [1, 1, 1, 1],
                "projection_dim": 16,
                "num_attention_heads": 4,
                "positional_grid": 3,
            },
            "text_config": {
                "vocab_size": 49408,
                "hidden_size": 8,
                "intermediate_size": 16,
                "projection_dim": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
            },
            "decoder_hidden_size": 16,
            "decoder_num_heads": 2,
            "decoder_num_layers": 1,
            "head_config": {"neck_channels": 16, "hidden_channels": 4, "min_short_side": 4},
            # Large enough for prompting to leave its mark on every output.
            "residual_scale": 1.0,
        }
        return TCMConfig(**{**settings, **overrides})

    return make


@pytest.fixture
def small_detector(small_config: Callable[..., TCMConfig]) -> Callable[..., TCMForTextDetection]:
    """Makes a detector with the same random weights each time, in evaluation mode."""

    def make(**overrides: Any) -> TCMForTextDetection:
        torch.manual_seed(0)
        return TCMForTextDetection(small_config(**overrides)).eval()

    return make
