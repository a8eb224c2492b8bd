"""What pipelines found in an image, as text and as JSON for files."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

__all__ = ["as_json", "lines_of_text", "rounded"]

Detections = Sequence[Mapping[str, Any]]


def rounded(detections: Detections) -> list[dict[str, Any]]:
    """The same with three decimals: thousandths are finer than any pixel or score."""
    copy: list[dict[str, Any]] = json.loads(json.dumps(detections), parse_float=lambda number: round(float(number), 3))
    return copy


def as_json(image: str, width: int, height: int, detections: Detections) -> str:
    """One JSON object with the `image`, its `width` and `height` and its `instances`, each on a line of its own.

    Args:
        image: path or name.
        width, height: pixels of the upright image.
        detections: what a pipeline gave for it.
    """
    head = json.dumps({"image": image, "width": width, "height": height}, ensure_ascii=False)
    instances = ",\n".join(json.dumps(detection, ensure_ascii=False) for detection in detections)
    return f'{head[:-1]}, "instances": [\n{instances}\n]}}\n'


def lines_of_text(words: Detections) -> list[str]:
    """The words of a spotter as lines of text, in reading order."""
    return [" ".join(word["text"] for word in line) for _, line in groupby(words, key=lambda word: word["line"])]
