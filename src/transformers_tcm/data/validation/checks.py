"""The checks: one outline, the words of a photo, all photos."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...geometry import signed_area
from ...icdar import SCRIPTS, is_illegible
from ...images import load_image
from .findings import KINDS, DatasetReport, Finding, LabelledPhoto, LabelledWord

__all__ = ["MAX_POINTS", "check_outline", "check_photos"]

# More slow down every step of a training and tell nothing about a word.
MAX_POINTS = 1000
# Square pixels.
SMALLEST_AREA = 1.0
# Pixels: labelling tools round, and rectangles turned by hand stand out a little.
OUTSIDE_TOLERANCE = 1.0
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_MARK = re.compile(r"[01]|0?\.[0-9]+|[01]\.[0-9]+")
_FEWEST_MARKS = 2
# So many numbers in a row are rarely one word; 1,000,000 has three.
_COORDINATES = 4
# Intersection over union from which two outlines are one place.
SAME_PLACE = 0.8
# Neither an order nor an overlap can be told of outlines with these problems.
_BROKEN = {"too-few-points", "not-finite", "too-many-points", "zero-area", "self-intersection"}


def check_photos(photos: Iterable[LabelledPhoto], findings: Sequence[Finding] = ()) -> DatasetReport:
    """Look at every photo and every word.

    Args:
        photos: decoded one after the other; each is read once more for its checksum.
        findings: of the reading, to be part of the report.

    Returns:
        The report; nothing in a photo or in its labels raises.
    """
    looked_at: list[LabelledPhoto] = []
    found = list(findings)
    sound: list[tuple[LabelledPhoto, list[LabelledWord]]] = []
    seen: dict[str, LabelledPhoto] = {}
    for photo in photos:
        looked_at.append(photo)
        problem, size = _photo_problem(photo.image)
        if problem is not None:
            found.append(Finding("unreadable-photo", photo.image, problem, photo=photo))
        else:
            found += _duplicate_photo(photo, seen)
        outlines = [(word, check_outline(word.polygon, *size)) for word in photo.words]
        for word, problems in outlines:
            found += [Finding(kind, photo.labels, text, word.line, photo, word) for kind, text in problems]
        whole = [word for word, problems in outlines if not _BROKEN & {kind for kind, _ in problems}]
        sound.append((photo, whole))
        found += _duplicate_words(photo, whole)
    found += _texts(looked_at) + _reading_starts(sound)
    return DatasetReport(looked_at, sorted(found, key=_order))


def _order(finding: Finding) -> tuple[int, str, int, int]:
    word = 0 if finding.word is None else finding.word.number or 0
    return list(KINDS).index(finding.kind), str(finding.file), finding.line or 0, word


def _photo_problem(path: Path) -> tuple[str | None, tuple[float, float]]:
    """What is wrong with a photo, and the width and height of the upright photo, infinite where unknown."""
    try:
        return None, load_image(path).size
    except (OSError, ValueError, MemoryError) as error:
        return str(error).removeprefix(f"{path}: "), (np.inf, np.inf)


def _duplicate_photo(photo: LabelledPhoto, seen: dict[str, LabelledPhoto]) -> list[Finding]:
    with photo.image.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    first = seen.setdefault(checksum, photo)
    if first is photo:
        return []
    if first.image.resolve() == photo.image.resolve():
        return [
            Finding("duplicate-photo", photo.labels, f"{photo.image} is in line {first.line} too", photo.line, photo)
        ]
    return [Finding("duplicate-photo", photo.image, f"the same file as {first.image}", photo=photo)]


def check_outline(polygon: np.ndarray, width: float = np.inf, height: float = np.inf) -> list[tuple[str, str]]:
    """Kind and description of each problem of one outline.

    Args:
        polygon: (K, 2) in pixels, K and values as they come.
        width: of the upright photo in pixels; by default any.
        height: in pixels.
    """
    polygon = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    if len(polygon) < 3:
        return [("too-few-points", f"{len(polygon)} points; at least 3 are needed")]
    with np.errstate(over="ignore"):
        # As the loaders keep them.
        finite = np.isfinite(polygon.astype(np.float32)).all(axis=1)
    if not finite.all():
        return [("not-finite", f"point {np.flatnonzero(~finite)[0] + 1} is NaN or infinite")]
    outside = _outside(polygon, width, height)
    if len(polygon) > MAX_POINTS:
        return [("too-many-points", f"{len(polygon)} points; no more than {MAX_POINTS} are reasonable"), *outside]
    import shapely

    area = shapely.MultiPoint(polygon).convex_hull.area
    if area < SMALLEST_AREA:
        return [("zero-area", f"encloses {area:.2g} square pixels"), *outside]
    outline = shapely.Polygon(polygon)
    if not outline.is_valid:
        # Such as "Self-intersection[12.5 30]".
        _, _, where = shapely.is_valid_reason(outline).partition("[")
        x, y = (float(value) for value in where.rstrip("]").split())
        return [("self-intersection", f"crosses or touches itself at ({x:.0f}, {y:.0f})"), *outside]
    if signed_area(polygon) < 0:
        return [("counter-clockwise", f"first point ({polygon[0, 0]:.0f}, {polygon[0, 1]:.0f})"), *outside]
    return outside


def _outside(polygon: np.ndarray, width: float, height: float) -> list[tuple[str, str]]:
    beyond = np.maximum(-polygon, polygon - [width, height]).max(axis=1)
    far = int((beyond > OUTSIDE_TOLERANCE).sum())
    if not far:
        return []
    # The corners of the box, of which the first lies right of or below the photo where all of the outline does.
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    how = "the whole outline" if (high <= 0).any() or (low >= [width, height]).any() else f"{far} points"
    return [("outside-photo", f"{how} outside of {width} x {height} pixels, by up to {beyond.max():.0f} pixels")]


def _duplicate_words(photo: LabelledPhoto, words: list[LabelledWord]) -> list[Finding]:
    if len(words) < 2:
        return []
    import shapely

    outlines = shapely.polygons([shapely.linearrings(word.polygon) for word in words])
    first, second = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    first, second = first[first < second], second[first < second]
    areas = shapely.area(outlines)
    shared = shapely.area(shapely.intersection(outlines[first], outlines[second]))
    overlap = shared / (areas[first] + areas[second] - shared)
    findings = []
    for one, other, iou in zip(first.tolist(), second.tolist(), overlap.tolist(), strict=True):
        # Two regions that do not count do no harm.
        if iou > SAME_PLACE and not (words[one].ignore and words[other].ignore):
            message = f"covers {words[one].name} (IoU {iou:.2f}): {words[other].text!r} and {words[one].text!r}"
            findings.append(Finding("duplicate-word", photo.labels, message, words[other].line, photo, words[other]))
    return findings


def _texts(photos: list[LabelledPhoto]) -> list[Finding]:
    """Words that say nothing, and those that are unknown unless all are."""
    counted = [(photo, word) for photo in photos for word in photo.words if not word.ignore]
    findings = [
        Finding("odd-word", photo.labels, message, word.line, photo, word)
        for photo, word in counted
        if word.text and (message := _oddity(word.text))
    ]
    findings += [finding for photo in photos for finding in _marks_alone(photo)]
    some_known = any(word.text and word.text.strip() for _, word in counted)
    for photo, word in counted:
        if word.text is not None and not word.text.strip():
            message = f"the word is {word.text!r}"
            findings.append(Finding("empty-word", photo.labels, message, word.line, photo, word))
        elif word.text is None and some_known:
            message = "no word is given; a spotter cannot be trained or measured on it"
            findings.append(Finding("missing-word", photo.labels, message, word.line, photo, word))
    return findings


def _marks_alone(photo: LabelledPhoto) -> list[Finding]:
    """Words of a photo all of which are between 0 and 1, as a column of scores or of marks is."""
    words = [word for word in photo.words if word.text and not word.ignore]
    if len(words) < _FEWEST_MARKS or not all(_MARK.fullmatch((word.text or "").strip()) for word in words):
        return []
    return [
        Finding(
            "odd-word", photo.labels, f"{word.text!r} is a mark or a score, as all here are", word.line, photo, word
        )
        for word in words
    ]


def _oddity(text: str) -> str | None:
    """What a word looks like that is none."""
    fields = [field.strip() for field in text.split(",")]
    numbers = next((index for index, field in enumerate(fields) if not _NUMBER.fullmatch(field)), len(fields))
    if is_illegible(text):
        return f"{text!r} marks what does not count, but this word does"
    if numbers >= _COORDINATES or (numbers >= 2 and numbers < len(fields)):
        return f"{text[:60]!r} begins with {numbers} numbers, as if some coordinates were left over"
    if len(fields) > 1 and fields[0].casefold() in SCRIPTS:
        return f"{text[:60]!r} begins with the name of a script"
    if len(fields) > 1 and numbers == 1 and 0 <= float(fields[0]) <= 1:
        return f"{text[:60]!r} begins with a mark or a score"
    if len(fields) > 1 and _MARK.fullmatch(fields[-1]):
        return f"{text[:60]!r} ends with a mark or a score"
    return f"{text[:60]!r} has blanks around it" if text.strip() and text != text.strip() else None


def _reading_starts(photos: list[tuple[LabelledPhoto, list[LabelledWord]]]) -> list[Finding]:
    """Where quads start at a corner from which nobody would read.

    Geometry tells two cases. A word of three letters or more whose first side is less than half as long as the next one
    would be read across its letters; only a side that points right may be the top of letters stacked on each other. A
    first side that points left is the top of a word upside down; that is an error where most words of the photo are
    not, or where most of the whole set are, for photos are rarely taken upside down.
    """
    quads = [(photo, [word for word in words if _is_clockwise_quad(word.polygon)]) for photo, words in photos]
    upside_down = [[_points_left(word.polygon) for word in words] for _, words in quads]
    everywhere = [left for photo_left in upside_down for left in photo_left]
    most = sum(everywhere) > len(everywhere) / 2
    findings = []
    for (photo, words), photo_left in zip(quads, upside_down, strict=True):
        few = sum(photo_left) <= len(photo_left) / 2
        for word, left in zip(words, photo_left, strict=True):
            if left and (few or most):
                message = "the first side, the upper one of a word, points left"
            elif _reads_across(word):
                message = f"the first side, the upper one of {word.text!r}, is the short one"
            else:
                continue
            findings.append(Finding("reading-start", photo.labels, message, word.line, photo, word))
    return findings


def _is_clockwise_quad(polygon: np.ndarray) -> bool:
    return len(polygon) == 4 and signed_area(polygon) > 0


def _points_left(quad: np.ndarray) -> bool:
    """Whether the first side is within 45 degrees of leftwards."""
    x, y = quad[1] - quad[0]
    return bool(-x > abs(y))


def _reads_across(word: LabelledWord) -> bool:
    sides = np.linalg.norm(np.roll(word.polygon, -1, axis=0) - word.polygon, axis=1)
    x, y = word.polygon[1] - word.polygon[0]
    long_enough = not word.ignore and word.text is not None and len(word.text.strip()) >= 3
    return bool(long_enough and sides[0] + sides[2] < 0.5 * (sides[1] + sides[3]) and x <= abs(y))
