"""From what a model found and read, in pixels of its input, to text in pixels of the original images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ... import geometry
from ...instances import TextInstances
from ...lexicon import Lexicon, LexiconArgument, LexiconRule, checked_limit, lexicon_per_image
from ...reading_order import reading_order
from .recognition.reading import WordReading

__all__ = ["TargetSizes", "as_tensors", "by_score", "checked_target_sizes", "in_target", "words_of_images"]

TargetSizes = torch.Tensor | np.ndarray | Sequence[tuple[int, int]]
# Square pixels; what rounding leaves of the area of a polygon without any.
NO_AREA = 1e-6


def checked_target_sizes(target_sizes: TargetSizes | None, valid_sizes: torch.Tensor) -> list[list[int]]:
    """A height and width for each image, (B, 2), those of the network's input where none are given.

    Raises:
        ValueError: if there is not one for each image.
    """
    target = np.asarray(valid_sizes.tolist() if target_sizes is None else target_sizes)
    if target.shape != tuple(valid_sizes.shape):
        raise ValueError(
            f"`target_sizes` has shape {target.shape}; expected {tuple(valid_sizes.shape)}, one height and width for "
            "each image of the batch"
        )
    return target.tolist()


def in_target(instances: TextInstances, valid: Sequence[int], target: Sequence[int]) -> TextInstances:
    """Instances in pixels of the network's input moved to an image of the target size; those without area are dropped.

    Args:
        instances: what was found in the input.
        valid: height and width of the image in it.
        target: height and width of the original image.
    """
    (valid_height, valid_width), (height, width) = valid, target
    scaled = instances.scale(width / valid_width, height / valid_height)
    clamped = scaled.with_polygons([geometry.clamp_polygon(polygon, width, height) for polygon in scaled.polygons])
    areas = np.array([geometry.signed_area(polygon) for polygon in clamped.polygons])
    return clamped.select(np.flatnonzero(np.abs(areas) > NO_AREA))


def by_score(instances: TextInstances) -> TextInstances:
    """By falling score."""
    return instances.select(np.argsort(-np.asarray(instances.scores, dtype=np.float32), kind="stable"))


def as_tensors(instances: TextInstances) -> dict[str, Any]:
    """The result for one image as `post_process_text_detection` returns it, texts and their scores where there are."""
    result: dict[str, Any] = {
        "scores": torch.tensor(instances.scores),
        "labels": torch.zeros(len(instances), dtype=torch.int64),
        "boxes": torch.from_numpy(instances.boxes),
        "polygons": [torch.from_numpy(polygon) for polygon in instances.polygons],
    }
    if instances.texts is not None:
        result |= {"texts": instances.texts, "text_scores": torch.tensor(instances.text_scores)}
    return result


def words_of_images(
    outputs: Any,
    target_sizes: TargetSizes | None,
    text_threshold: float,
    box_threshold: float,
    lexicon: LexiconArgument,
    rule: LexiconRule,
    max_distance: float | None,
    use_language_model: bool,
) -> list[dict[str, Any]]:
    """What `post_process_text_spotting` returns; `target_sizes` are (B, 2)."""
    valid = outputs.valid_sizes.tolist()
    target = checked_target_sizes(target_sizes, outputs.valid_sizes)
    lexicons = lexicon_per_image(lexicon, len(valid))
    limit = checked_limit(rule, max_distance)
    results = []
    for proposals, readings, words, *sizes in zip(
        outputs.proposals(), outputs.read(use_language_model), lexicons, valid, target, strict=True
    ):
        legible = [
            index
            for index, (score, reading) in enumerate(zip(proposals.scores, readings, strict=True))
            if score >= box_threshold and reading.score >= text_threshold and reading.text.strip()
        ]
        readings = [readings[index] for index in legible]
        found = _with_readings(proposals.select(legible), readings)
        if words is not None:
            found = _matched(found, readings, words, rule, limit, outputs.charset)
        placed = in_target(found, *sizes)
        results.append(as_tensors(placed.select(reading_order(placed.polygons))))
    return results


def _with_readings(proposals: TextInstances, readings: Sequence[WordReading]) -> TextInstances:
    """Proposals with what was read of them."""
    return TextInstances(
        proposals.polygons,
        scores=proposals.scores,
        texts=[reading.text for reading in readings],
        text_scores=np.array([reading.score for reading in readings]),
    )


def _matched(
    found: TextInstances,
    readings: Sequence[WordReading],
    lexicon: Lexicon,
    rule: LexiconRule,
    limit: float | None,
    charset: str,
) -> TextInstances:
    """Instances with words of the lexicon in place of their readings; without those that it has none for."""
    lexicon.check_charset(charset)
    texts = [reading.text for reading in readings]
    probabilities = [reading.probabilities for reading in readings] if rule == "weighted" else None
    words = lexicon.match_all(texts, rule, max_distance=limit, probabilities=probabilities, charset=charset)
    return replace(found, texts=words).select(np.array([word is not None for word in words], dtype=bool))
