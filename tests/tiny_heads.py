"""Settings of heads and recognisers as small as each allows."""

from typing import Any

from tiny_settings import RECOGNIZER

SEQUENCE = {**RECOGNIZER, "max_length": 5}
ABINET = {
    "attention_channels": 16,
    "attention_mlp_size": 16,
    "language_hidden_size": 16,
    "language_layers": 1,
    "language_heads": 2,
    "language_mlp_size": 16,
}
# As small as each recogniser allows.
RECOGNIZER_CONFIGS: dict[str, dict[str, Any]] = {
    "ctc": SEQUENCE,
    "attention": SEQUENCE,
    "abinet": {**SEQUENCE, **ABINET},
    "masked": {"crop_size": [8, 16], "channels": [8], "hidden_size": 16, "max_length": 5, "beam_width": 2},
}
# As small as each head allows.
QUERIES = {"hidden_size": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "num_queries": 6}
HEAD_CONFIGS: dict[str, dict[str, Any]] = {
    "dbnet": {"neck_channels": 16, "hidden_channels": 8},
    "pan": {},
    "fcenet": {},
    "abcnet": {"channels": 8, "num_convs": 1, "num_groups": 4},
    "spn": {"neck_channels": 16, "hidden_channels": 8},
    "testr": QUERIES,
    "deepsolo": QUERIES,
    "rotated_fcos": {"channels": 8, "num_convs": 1, "num_groups": 4},
    "rotated_atss": {"channels": 8, "num_convs": 1, "num_groups": 4},
    "rotated_retinanet": {"channels": 8, "num_convs": 1},
}
