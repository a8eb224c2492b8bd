"""Photos with what `transformers-tcm validate-dataset` found in their labels."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..data.validation import DatasetReport, Finding, LabelledPhoto
from ..images import load_image
from ..instances import TextInstances
from .drawing import FOUND, draw_text_instances

__all__ = ["draw_findings"]

WRONG = (255, 70, 60)
# Points of an outline beyond which a picture shows no more.
_DRAWN_POINTS = 500


def draw_findings(report: DatasetReport, folder: Path) -> list[Path]:
    """Write `NAME_findings.jpg` for each photo with a wrong word.

    Sound outlines are green, those that are ignored grey and dashed. Wrong ones are red, with a dot at their first
    point and a caption that says what was found where in the labels. What lies outside of the photo is drawn at its
    edge.

    Returns:
        The files, in the order of the photos. What cannot be decoded is left out.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    broken = {finding.file for finding in report.findings if finding.kind == "unreadable-photo"}
    written: list[Path] = []
    for photo in report.photos:
        found = [finding for finding in report.findings if finding.photo is photo and finding.word is not None]
        if found and photo.image not in broken:
            path = folder / f"{photo.image.stem}_findings.jpg"
            number = 1
            while path in written:
                number += 1
                path = folder / f"{photo.image.stem}_{number}_findings.jpg"
            _draw(photo, found).save(path, quality=90)
            written.append(path)
    return written


def _draw(photo: LabelledPhoto, findings: list[Finding]) -> Image.Image:
    image = load_image(photo.image)
    kinds: dict[int, list[str]] = {}
    for finding in findings:
        kinds.setdefault(id(finding.word), []).append(finding.kind)
    wrong = [id(word) in kinds for word in photo.words]
    outlines = [_drawable(word.polygon, image.size) for word in photo.words]
    captions = [
        f"{word.name}: {', '.join(kinds[id(word)])}" if is_wrong else None
        for word, is_wrong in zip(photo.words, wrong, strict=True)
    ]
    ignore = np.array([word.ignore and not is_wrong for word, is_wrong in zip(photo.words, wrong, strict=True)])
    colors = [WRONG if is_wrong else FOUND for is_wrong in wrong]
    image = draw_text_instances(image, TextInstances(outlines, texts=captions, ignore=ignore), color=colors)
    draw = ImageDraw.Draw(image)
    radius = max(3.0, (image.width * image.height) ** 0.5 / 250)
    for outline in (outline for outline, is_wrong in zip(outlines, wrong, strict=True) if is_wrong):
        box = np.concatenate([outline[0] - radius, outline[0] + radius])
        draw.ellipse(box.tolist(), fill=WRONG, outline="black")
    return image


def _drawable(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An outline (K, 2), 3 <= K, within the photo, as near to a broken one as it can be."""
    polygon = polygon[np.isfinite(polygon).all(axis=1)]
    if not len(polygon):
        polygon = np.zeros((1, 2))
    polygon = polygon[:: -(-len(polygon) // _DRAWN_POINTS)]
    polygon = np.clip(polygon, 0, np.array(size) - 1)
    return np.concatenate([polygon, np.repeat(polygon[-1:], max(0, 3 - len(polygon)), axis=0)])
