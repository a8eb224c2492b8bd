"""A photo with outlines over it, as inline SVG: sharp at any zoom, and every outline tells what it is."""

from typing import Any

import numpy as np
from markupsafe import Markup

from ..failures import FAILURES, ImageOutcomes, Outcome
from .templates import render

__all__ = ["annotated_photo"]


def annotated_photo(image: ImageOutcomes, source: str, size: tuple[int, int]) -> Markup:
    """Labels dashed and detections solid, in the colour of their kind, failures on top; readings where they are wrong.

    Args:
        image: what became of the words.
        source: address of the picture, of any resolution.
        size: width and height in which the outlines are given.
    """
    width, height = size
    outlines = [
        _outline(polygon, kind, "label", _describe_label(image, index))
        for index, (polygon, kind) in enumerate(zip(image.ground_truth.polygons, image.labels, strict=True))
        # A pair is drawn once, as the detection.
        if kind not in (Outcome.MATCHED, Outcome.WRONG_WORD)
    ]
    outlines += [
        _outline(polygon, kind, "detection", _describe_detection(image, index))
        for index, (polygon, kind) in enumerate(zip(image.detections.polygons, image.found, strict=True))
    ]
    outlines.sort(key=lambda outline: outline["kind"] in FAILURES)
    return render(
        "photo.svg",
        name=str(image.image_id),
        source=source,
        width=width,
        height=height,
        outlines=outlines,
        captions=_captions(image, width),
    )


def _outline(polygon: np.ndarray, kind: Outcome, side: str, description: str) -> dict[str, Any]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in polygon.tolist())
    return {"points": points, "kind": kind, "side": side, "description": description}


def _describe_label(image: ImageOutcomes, index: int) -> str:
    word = image.ground_truth.texts[index] if image.ground_truth.texts else None
    return f"{image.labels[index].value}: label {word or ''}".rstrip()


def _describe_detection(image: ImageOutcomes, index: int) -> str:
    """Its kind, and as far as there are any its score, its reading and the word of its label."""
    detections, texts = image.detections, image.ground_truth.texts
    parts = [f"{image.found[index].value}: detection"]
    if detections.texts is not None:
        parts.append(f"read as {detections.texts[index] or ''}")
    parts += [f"label {texts[i]}" for i, j in image.pairs if j == index and texts and texts[i]]
    if detections.scores is not None:
        parts.append(f"score {detections.scores[index]:.2f}")
    return ", ".join(parts)


def _captions(image: ImageOutcomes, width: int) -> list[dict[str, str]]:
    """Wrong readings above the words they belong to."""
    size, captions = max(8.0, width / 60), []
    for index, kind in enumerate(image.found):
        if kind is Outcome.WRONG_WORD and image.detections.texts is not None:
            left, top = image.detections.polygons[index].min(axis=0).tolist()
            where = {"x": f"{max(left, 1):.1f}", "y": f"{max(top - size / 4, size):.1f}", "size": f"{size:.1f}"}
            captions.append({**where, "word": image.detections.texts[index] or ""})
    return captions
