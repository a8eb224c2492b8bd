"""From what a model found and read, in pixels of its input, to text and objects in pixels of the original images."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import torch

from ... import geometry
from ...instances import Instances, OrientedInstances, TextInstances
from ...lexicon import Lexicon, LexiconArgument, LexiconRule, checked_limit, lexicon_per_image
from ...reading_order import reading_order
from ...rotated_boxes import boxes_to_quads, quads_to_boxes
from .heads.base import Regions
from .recognition.reading import WordReading
from .score_calibration import ScoreCalibration

__all__ = [
    "TargetSizes",
    "as_tensors",
    "by_score",
    "checked_target_sizes",
    "instances_of_images",
    "maps_of",
    "objects_as_tensors",
    "objects_of_images",
    "to_original_size",
    "words_of_images",
]

TargetSizes = torch.Tensor | np.ndarray | Sequence[tuple[int, int]]
Found = TypeVar("Found", bound=Instances)
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


def to_original_size(instances: TextInstances, valid: Sequence[int], target: Sequence[int]) -> TextInstances:
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
        "labels": torch.zeros(len(instances), dtype=torch.int64)
        if instances.labels is None
        else torch.tensor(instances.labels),
        "boxes": torch.from_numpy(instances.boxes),
        "polygons": [torch.from_numpy(polygon) for polygon in instances.polygons],
    }
    if instances.texts is not None:
        result |= {"texts": instances.texts, "text_scores": torch.tensor(instances.text_scores)}
    return result


def maps_of(outputs: Any) -> tuple[Mapping[str, Any], torch.Tensor]:
    """A head's maps by name, and the (B, 2) height and width of each image in the network's input.

    Args:
        outputs: of a model, whatever is left of its classes, or the maps alone; without `valid_sizes` the images fill
            the first map of four axes.

    Raises:
        ValueError: if there are neither sizes nor a map that tells them.
    """
    maps = outputs.get("head_output")
    maps = outputs if maps is None else maps
    if outputs.get("valid_sizes") is not None:
        return maps, torch.as_tensor(outputs["valid_sizes"])
    full = next((value for value in maps.values() if getattr(value, "ndim", 0) == 4), None)
    if full is None:
        raise ValueError("`outputs` hold neither `valid_sizes` nor a map (B, C, H, W); expected those of a detector")
    return maps, torch.tensor([full.shape[2:]] * len(full))


def instances_of_images(regions: Regions, num_images: int) -> list[TextInstances]:
    """What was found in each image, in pixels of the network's input."""
    return _in_images(regions, num_images, TextInstances)


def _in_images(regions: Regions, num_images: int, kind: type[Found]) -> list[Found]:
    polygons, images = regions.polygons(), regions.batch_indices.cpu().numpy()
    scores, labels = regions.scores.float().cpu().numpy(), regions.labels.cpu().numpy()
    places = [np.flatnonzero(images == image) for image in range(num_images)]
    return [kind([polygons[i] for i in here], scores=scores[here], labels=labels[here]) for here in places]


def objects_of_images(
    regions: Regions, valid_sizes: torch.Tensor, target_sizes: TargetSizes | None
) -> list[dict[str, Any]]:
    """What `post_process_oriented_object_detection` returns; `target_sizes` are (B, 2)."""
    sizes = zip(valid_sizes.tolist(), checked_target_sizes(target_sizes, valid_sizes), strict=True)
    found = _in_images(regions, len(valid_sizes), OrientedInstances)
    return [
        objects_as_tensors(one.scale(width / valid_width, height / valid_height))
        for one, ((valid_height, valid_width), (height, width)) in zip(found, sizes, strict=True)
    ]


def objects_as_tensors(instances: OrientedInstances) -> dict[str, Any]:
    """Objects with scores and labels, as `post_process_oriented_object_detection` returns them.

    Outlines become rectangles again, which they may have ceased to be when width and height were scaled differently.
    """
    polygons = np.array(instances.polygons, np.float32).reshape(-1, 4, 2)
    boxes = torch.from_numpy(quads_to_boxes(polygons))
    quads = boxes_to_quads(boxes)
    return {
        "scores": torch.tensor(instances.scores),
        "labels": torch.tensor(instances.labels),
        "boxes": torch.cat([quads.amin(dim=1), quads.amax(dim=1)], dim=1),
        "rotated_boxes": boxes,
        "polygons": quads,
    }


def words_of_images(
    outputs: Any,
    target_sizes: TargetSizes | None,
    text_threshold: float,
    box_threshold: float,
    lexicon: LexiconArgument,
    rule: LexiconRule,
    max_distance: float | None,
    charset: str,
    calibration: ScoreCalibration | None = None,
) -> list[dict[str, Any]]:
    """What `post_process_text_spotting` returns; `target_sizes` are (B, 2)."""
    valid_sizes = outputs["valid_sizes"]
    sizes = zip(valid_sizes.tolist(), checked_target_sizes(target_sizes, valid_sizes), strict=True)
    lexicons = lexicon_per_image(lexicon, len(valid_sizes))
    limit = checked_limit(rule, max_distance)
    regions = Regions(**{field.name: outputs.get(field.name) for field in fields(Regions)})
    found, images = instances_of_images(regions, len(valid_sizes)), regions.batch_indices.cpu().numpy()
    readings = _readings(outputs)
    if calibration is not None:
        readings = _calibrated(readings, regions.scores.float().cpu().numpy(), calibration)
    results = []
    for index, (proposals, words, size) in enumerate(zip(found, lexicons, sizes, strict=True)):
        read = [readings[place] for place in np.flatnonzero(images == index)]
        legible = [
            place
            for place, (score, reading) in enumerate(zip(np.asarray(proposals.scores), read, strict=True))
            if score >= box_threshold and reading.score >= text_threshold and reading.text.strip()
        ]
        read = [read[place] for place in legible]
        instances = _with_readings(proposals.select(legible), read)
        if words is not None:
            instances = _matched(instances, read, words, rule, limit, charset)
        placed = to_original_size(instances, *size)
        results.append(as_tensors(placed.select(reading_order(placed.polygons))))
    return results


def _readings(outputs: Any) -> list[WordReading]:
    """What was read of the N proposals, from code points back to strings."""
    probabilities = outputs["char_probabilities"].float().cpu().numpy()
    readings = []
    for codes, score, steps in zip(
        outputs["sequences"].tolist(), outputs["text_scores"].tolist(), probabilities, strict=True
    ):
        text = "".join(chr(code) for code in codes if code)
        readings.append(WordReading(text, score, steps[: len(text)]))
    return readings


def _calibrated(readings: list[WordReading], scores: np.ndarray, calibration: ScoreCalibration) -> list[WordReading]:
    """Readings with the scores that are reported; scores (N,) of their detections."""
    text_scores, lengths = np.array([(one.score, len(one.text)) for one in readings]).reshape(-1, 2).T
    reported = calibration(text_scores, scores, lengths).tolist()
    return [reading._replace(score=score) for reading, score in zip(readings, reported, strict=True)]


def _with_readings(proposals: TextInstances, readings: Sequence[WordReading]) -> TextInstances:
    """Proposals with what was read of them."""
    return TextInstances(
        proposals.polygons,
        scores=proposals.scores,
        labels=proposals.labels,
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
