"""The option `--decoding NAME=VALUE`: any setting by which the model's head decodes."""

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["parse_decoding"]


def parse_decoding(entries: Sequence[str]) -> dict[str, Any]:
    """Settings from `NAME=VALUE`; values are numbers, `true` and `false`, everything else is text.

    Raises:
        ValueError: for an entry that is not of this form.
    """
    settings: dict[str, Any] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not sign or not name.strip():
            raise ValueError(f"--decoding is {entry!r}; expected NAME=VALUE, such as unclip_ratio=1.6")
        try:
            settings[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            settings[name.strip()] = value
    return settings
