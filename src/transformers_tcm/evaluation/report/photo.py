"""A photo with outlines over it, as inline SVG: sharp at any zoom, and every outline tells what it is."""

from html import escape

import numpy as np

from ..failures import FAILURES, ImageOutcomes, Outcome

__all__ = ["annotated_photo"]


def annotated_photo(image: ImageOutcomes, source: str, size: tuple[int, int]) -> str:
    """Labels dashed and detections solid, in the colour of their kind, failures on top; readings where they are wrong.

    Args:
        image: what became of the words.
        source: address of the picture, of any resolution.
        size: width and height in which the outlines are given.
    """
    width, height = size
    outlines: list[tuple[bool, str]] = [
        (kind in FAILURES, _outline(polygon, kind, "label", _describe_label(image, index)))
        for index, (polygon, kind) in enumerate(zip(image.ground_truth.polygons, image.labels, strict=True))
        # A pair is drawn once, as the detection.
        if kind not in (Outcome.MATCHED, Outcome.WRONG_WORD)
    ]
    outlines += [
        (kind in FAILURES, _outline(polygon, kind, "detection", _describe_detection(image, index)))
        for index, (polygon, kind) in enumerate(zip(image.detections.polygons, image.found, strict=True))
    ]
    drawn = "".join(outline for _, outline in sorted(outlines, key=lambda one: one[0]))
    return (
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(str(image.image_id))}">'
        f'<image href="{escape(source)}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        f"{drawn}{_captions(image, width)}</svg>"
    )


def _outline(polygon: np.ndarray, kind: Outcome, side: str, description: str) -> str:
    """The polygon twice: a dark halo, so that it shows on any photo, and the line."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in polygon.tolist())
    return (
        f'<g class="{kind.value.replace(" ", "-")}"><title>{escape(description)}</title>'
        f'<polygon class="halo" points="{points}"/><polygon class="line {side}" points="{points}"/></g>'
    )


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


def _captions(image: ImageOutcomes, width: int) -> str:
    """Wrong readings above the words they belong to."""
    size, captions = max(8.0, width / 60), []
    for index, kind in enumerate(image.found):
        if kind is Outcome.WRONG_WORD and image.detections.texts is not None:
            left, top = image.detections.polygons[index].min(axis=0).tolist()
            where = f'x="{max(left, 1):.1f}" y="{max(top - size / 4, size):.1f}" font-size="{size:.1f}"'
            word = escape(image.detections.texts[index] or "")
            captions.append(f'<text class="wrong-word" {where}>{word}</text>')
    return "".join(captions)
