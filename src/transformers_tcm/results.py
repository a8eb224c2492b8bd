"""What is written of the results of an image, by the commands and by the service."""

import json
from typing import Any

__all__ = ["rounded_to_thousandths"]


def rounded_to_thousandths(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with all numbers rounded; thousandths are finer than any pixel or score.

    Args:
        detections: as `pipeline("text-detection")` or `pipeline("text-spotting")` gives them.
    """
    rounded: list[dict[str, Any]] = json.loads(
        json.dumps(detections), parse_float=lambda number: round(float(number), 3)
    )
    return rounded
