"""Settings of models as small as they can be; tests change single ones of them."""

from typing import Any

# For tests that need a model to save, load or publish.
SETTINGS: dict[str, Any] = {
    "vision_config": {"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "num_attention_heads": 4},
    "text_config": {"hidden_size": 16, "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "decoder_hidden_size": 16,
    "decoder_num_heads": 2,
    "decoder_num_layers": 1,
    "head_config": {"neck_channels": 16, "hidden_channels": 8},
}

# The smallest ones, of about 0.1 M parameters with few words of text.
SMALLEST: dict[str, Any] = {
    "vision_config": {"width": 4, "depths": [1, 1, 1, 1], "projection_dim": 16, "num_attention_heads": 4},
    "text_config": {
        "hidden_size": 8,
        "intermediate_size": 16,
        "projection_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    "decoder_hidden_size": 16,
    "decoder_num_heads": 2,
    "decoder_num_layers": 1,
    "head_config": {"neck_channels": 16, "hidden_channels": 4, "min_short_side": 4},
}

# Those that learn something in a few steps.
LEARNING: dict[str, Any] = {
    "vision_config": {"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "num_attention_heads": 4},
    "text_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "projection_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    "decoder_hidden_size": 32,
    "decoder_num_layers": 1,
    "decoder_dropout": 0.0,
    "head_config": {"neck_channels": 32, "hidden_channels": 8},
}

RECOGNIZER: dict[str, Any] = {
    "crop_size": [8, 32],
    "channels": [8, 12, 16],
    "num_blocks": [0, 0, 0],
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
}

# With a residual block and few steps to read in.
READER: dict[str, Any] = {**RECOGNIZER, "num_blocks": [0, 1, 0], "max_length": 7}
