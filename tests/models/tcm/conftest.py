"""A TCM small enough for tests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_settings import SMALLEST

from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection


@pytest.fixture
def small_config() -> Callable[..., TCMConfig]:
    """Makes a configuration of about 0.1 M parameters, settings overridden by keyword."""

    def make(**overrides: Any) -> TCMConfig:
        settings: dict[str, Any] = {
            **SMALLEST,
            "vision_config": {**SMALLEST["vision_config"], "positional_grid": 3},
            "text_config": {**SMALLEST["text_config"], "num_hidden_layers": 2},
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
