"""Settings of models as small as they can be, for tests that need one to save, load or publish."""

from typing import Any

SETTINGS: dict[str, Any] = {
    "vision_config": {"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "num_attention_heads": 4},
    "text_config": {"hidden_size": 16, "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "decoder_hidden_size": 16,
    "decoder_num_heads": 2,
    "decoder_num_layers": 1,
    "head_config": {"neck_channels": 16, "hidden_channels": 8},
}
