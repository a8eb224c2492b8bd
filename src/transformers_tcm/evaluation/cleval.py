"""CLEval: detection and reading by characters, so that split and merged words are judged by degrees.

Y. Baek et al., CLEval: Character-Level Evaluation for Text Detection and Recognition Tasks, CVPR Workshops 2020.
The algorithm is adapted from the package cleval 0.1.1 (https://github.com/clovaai/CLEval), with its defaults:

    Copyright (c) 2020-present NAVER Corp.

    Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
    documentation files (the "Software"), to deal in the Software without restriction, including without limitation
    the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
    permit persons to whom the Software is furnished to do so, subject to the following conditions:

    The above copyright notice and this permission notice shall be included in all copies or substantial portions of
    the Software.

    THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
    THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
    AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
    TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
    SOFTWARE.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..instances import TextInstances
from .matching import intersection_area, shapes
from .scores import EvaluationResult, ImageResult
from .words import read_texts, required_texts

__all__ = ["CLEval", "CLEvalResult"]

# Width over height from which a quad is read along its first side, below that along its second.
_VERTICAL_BELOW = 0.5
_LONGEST_GUESS = 10
_AREA_PRECISION = np.float32(0.3)


@dataclass(frozen=True)
class CLEvalResult:
    """Totals in characters, less one for each additional part of a split word and each additional merged word.

    Args:
        detection: characters whose place was found.
        end_to_end: characters that were read.
        splits: ground truths matched to several detections.
        merges: detections matched to several ground truths.
        overlapped_characters: characters found more than once.
    """

    detection: EvaluationResult
    end_to_end: EvaluationResult
    splits: int
    merges: int
    overlapped_characters: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`."""
        parts = {"detection": self.detection.to_dict(), "end_to_end": self.end_to_end.to_dict()}
        return {**vars(self), **parts}


@dataclass(frozen=True)
class _Matches:
    """How N ground truths with P characters in all lie in M detections.

    Args:
        linked: (N, M) bool, the matches.
        held: (M, P) bool, the detection holds the character and is matched to its word.
        owner: (P,) index of the ground truth of each character.
        wanted: (N,) bool, ground truths that count.
        judged: (M,) bool, detections that count.
    """

    linked: np.ndarray
    held: np.ndarray
    owner: np.ndarray
    wanted: np.ndarray
    judged: np.ndarray


class CLEval:
    """Recall and precision in characters, of detection and of reading; quads only, upper and lower case differ.

    Characters of a ground truth are taken to lie evenly along its middle line. A detection is matched to the words
    whose characters it holds if enough of it (0.3) lies in them. Coordinates are cut to whole pixels for areas, as the
    original does.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._detection: list[ImageResult] = []
        self._end_to_end: list[ImageResult] = []
        self._splits = self._merges = self._overlapped = 0

    def update(self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int | None = None) -> None:
        """Add an image, numbered in order where it has no `image_id`.

        Raises:
            ValueError: if a polygon is not a quad, or a ground truth that counts has no transcription.
        """
        image_id = len(self._detection) if image_id is None else image_id
        truths, quads = _quads(ground_truth, "ground truth"), _quads(detections, "detection")
        words, read = _words(ground_truth, truths), read_texts(detections)
        matches = _match(truths, quads, words, ground_truth.ignored)
        parts, merged = matches.linked.sum(axis=1), matches.linked.sum(axis=0)
        split_penalty, merge_penalty = int((parts - 1).clip(0).sum()), int((merged - 1).clip(0).sum())
        pairs = [(int(i), int(j)) for i, j in np.argwhere(matches.linked)]

        def result(characters: int, present: int) -> ImageResult:
            wanted = int(matches.wanted[matches.owner].sum())
            found, correct = characters - split_penalty, characters - merge_penalty
            return ImageResult(image_id, found, correct, wanted, present, pairs)

        times_found = matches.held.sum(axis=0)
        false = sum(_false_characters(quads[j]) for j in np.flatnonzero(matches.judged & (merged == 0)))
        self._detection.append(result(int((times_found > 0).sum()), int(times_found.sum()) + false))
        written = sum(len(read[j]) for j in np.flatnonzero(matches.judged))
        self._end_to_end.append(result(_characters_read(words, read, matches), written))
        self._splits += int((parts > 1).sum())
        self._merges += int((merged > 1).sum())
        self._overlapped += int((times_found - 1).clip(0).sum())

    def compute(self) -> CLEvalResult:
        """Totals over the images so far."""
        detection = EvaluationResult.from_images(self._detection)
        end_to_end = EvaluationResult.from_images(self._end_to_end)
        return CLEvalResult(detection, end_to_end, self._splits, self._merges, self._overlapped)


def _quads(instances: TextInstances, name: str) -> np.ndarray:
    """Polygons as (N, 4, 2) float64."""
    for index, polygon in enumerate(instances.polygons):
        if len(polygon) != 4:
            raise ValueError(
                f"{name} {index} has {len(polygon)} points; CLEval takes quads, `geometry.min_area_quad` makes them"
            )
    return np.array(instances.polygons, dtype=np.float64).reshape(-1, 4, 2)


def _words(ground_truth: TextInstances, quads: np.ndarray) -> list[str]:
    """Transcriptions, of ignored words as many characters as would fit."""
    texts = required_texts(ground_truth)
    for index in np.flatnonzero(ground_truth.ignored):
        ratio = _aspect_ratio(quads[index])
        texts[index] = "#" * min(round(0.5 + max(ratio, 1 / ratio)), _LONGEST_GUESS)
    return texts


def _match(truths: np.ndarray, quads: np.ndarray, words: list[str], ignored: np.ndarray) -> _Matches:
    """Link detections to the words they find: one to one, in parts, or several at once."""
    owner = np.repeat(np.arange(len(words)), [len(word) for word in words])
    centres = [_character_centres(quad, len(word)) for quad, word in zip(truths, words, strict=True)]
    inside = _inside(np.concatenate([*centres, np.empty((0, 2))]), quads)
    # (N, P) @ (P, M): characters of each word in each detection. Floats, for integers have no fast product.
    counts = (np.arange(len(words))[:, None] == owner).astype(np.float64) @ inside.T.astype(np.float64)
    precision = _area_precision(truths, quads, ignored)

    enough, wanted = precision >= _AREA_PRECISION, ~ignored
    dull = np.where(counts > 0, precision, 0)[ignored].sum(axis=0) >= _AREA_PRECISION
    judged = ~(enough[ignored].any(axis=0) | dull)
    good = enough & (counts > 0)
    single = good & (good.sum(axis=1, keepdims=True) == 1) & (good.sum(axis=0) == 1)
    split = (good & judged).sum(axis=1, keepdims=True) >= 2
    touched = (counts > 0) & wanted[:, None]
    merged = (touched.sum(axis=0) >= 2) & (np.where(touched, precision, 0).sum(axis=0) >= _AREA_PRECISION)
    linked = (single | (good & split) | (touched & merged)) & np.outer(wanted, judged)
    return _Matches(linked, inside & linked[owner].T, owner, wanted, judged)


def _area_precision(truths: np.ndarray, quads: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Share of each detection inside each ground truth (N, M), words cut out of the ignored regions."""
    import shapely

    regions, found = shapes(np.trunc(truths)), shapes(np.trunc(quads))
    regions[ignored] = shapely.difference(regions[ignored], shapely.union_all(regions[~ignored]))
    area = np.maximum(shapely.area(found), 1e-9)
    return (intersection_area(regions, found) / area).astype(np.float32)


def _characters_read(words: list[str], read: list[str], matches: _Matches) -> int:
    """Characters of the detections that spell out their ground truths; each is used once."""
    unused = list(read)
    for index in np.flatnonzero(matches.linked.any(axis=1)):
        parts = _reading_order(matches.held[:, matches.owner == index], list(np.flatnonzero(matches.linked[index])))
        for character in _longest_common_subsequence(words[index], "".join(unused[part] for part in parts)):
            holder = next(part for part in parts if character in unused[part])
            unused[holder] = unused[holder].replace(character, "", 1)
    return sum(map(len, read)) - sum(map(len, unused))


def _reading_order(held: np.ndarray, parts: list[int]) -> list[int]:
    """Detections of one word by the first of its L characters that each holds; `held` is (M, L)."""
    order: list[int] = []
    for column in held.T:
        if len(parts) == 1:
            break
        holder = next((part for part in parts if column[part]), None)
        if holder is not None:
            order.append(holder)
            parts.remove(holder)
    # Of several that hold no character of their own, the original reads the first and drops the others.
    return [*order, parts[0]]


def _longest_common_subsequence(one: str, other: str) -> str:
    """Longest common subsequence; of equally long ones that without the end of `other`, as in the original."""
    row = [""] * (len(other) + 1)
    for character in one:
        above, row = row, [""]
        for j, candidate in enumerate(other):
            longer = above[j + 1] if len(above[j + 1]) > len(row[j]) else row[j]
            row.append(above[j] + character if character == candidate else longer)
    return row[-1]


def _aspect_ratio(quad: np.ndarray) -> float:
    """Mean length of the first and third side over that of the others."""
    sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    return float((sides[0] + sides[2] + 2e-5) / (sides[1] + sides[3] + 2e-5))


def _false_characters(quad: np.ndarray) -> int:
    """Characters that a detection of nothing counts for: more for upright quads, in the original as here."""
    return min(round(0.5 + 1 / (1e-5 + _aspect_ratio(quad))), _LONGEST_GUESS)


def _character_centres(quad: np.ndarray, length: int) -> np.ndarray:
    """Centres (L, 2) of L characters of equal width along the middle line of a quad."""
    if _aspect_ratio(quad) < _VERTICAL_BELOW:
        quad = np.roll(quad, 1, axis=0)
    start, end = (quad[0] + quad[3]) / 2, (quad[1] + quad[2]) / 2
    step = (end - start) / max(1, length)
    return start + step / 2 + step * np.arange(length)[:, None]


def _inside(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """(M, P) bool: which quads hold which points, of the outline the upper and the left side only.

    Casts a ray to the right and counts the edges it crosses. Centres often lie exactly on the edge between the pieces
    of a split word, so that even the order of the arithmetic is the original's.
    """
    x, y = points.T
    start, end = np.trunc(quads)[..., None], np.trunc(np.roll(quads, 1, axis=1))[..., None]  # (M, 4, 2, 1)
    spans = (start[:, :, 1] > y) != (end[:, :, 1] > y)  # (M, 4, P)
    run, rise = end[:, :, 0] - start[:, :, 0], end[:, :, 1] - start[:, :, 1]
    crossed = spans & (x < run * (y - start[:, :, 1]) / np.where(rise == 0, 1, rise) + start[:, :, 0])
    return crossed.sum(axis=1) % 2 == 1
