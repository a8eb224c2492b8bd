"""Label Studio: a project exported as JSON."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ...text_files import read_text
from .exports import ExportedPhoto, ExportedWord, rectangle, text_field_of, word_or_none

__all__ = ["read_label_studio"]

RECTANGLES = ("rectanglelabels", "rectangle")
POLYGONS = ("polygonlabels", "polygon")
# Other kinds of regions in images.
OTHERS = ("ellipselabels", "ellipse", "brushlabels", "brush", "keypointlabels", "keypoint", "vectorlabels", "vector")
# Fields of a result that name what a region is.
NAMES = ("rectanglelabels", "polygonlabels", "labels", "choices")
# Keys of the photo in a task; the labelling configuration may choose any other.
IMAGE_KEYS = ("image", "ocr", "img", "photo", "url")
# In front of the names of uploaded files.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def read_label_studio(source: Path, text_field: str | None = None) -> list[ExportedPhoto]:
    """Rectangles, turned or not, and polygons of all tasks, with the text areas of their regions, see `read_export`.

    A word is marked with its labels and choices, as `value` and as `name=value`.

    Of several annotations of a task the ground truth is taken if there is one, otherwise the newest.

    Raises:
        ValueError: if the file is no JSON, or no list of tasks with annotations.
    """
    try:
        tasks = json.loads(read_text(source))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: no JSON ({error})") from error
    tasks = [tasks] if isinstance(tasks, dict) else tasks
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise ValueError(f"{source}: no list of tasks with data; export the project as JSON (not JSON-MIN)")
    if not tasks:
        raise ValueError(f"{source}: an empty list; expected the tasks of a project")
    annotated = [_results(task) for task in tasks]
    fields = {str(result.get("from_name")) for results in annotated for result in results or () if _is_text(result)}
    field = text_field_of(source, fields, text_field)
    return [
        _photo(task, f"task {task.get('id', index)}", results, field)
        for index, (task, results) in enumerate(zip(tasks, annotated, strict=True), start=1)
    ]


def _photo(
    task: dict[str, Any],
    place: str,
    results: list[dict[str, Any]] | None,
    text_field: str | None,
) -> ExportedPhoto:
    if results is None:
        return ExportedPhoto(place, problem="it has no annotation")
    try:
        names, size = _names(task), _size(results)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        return ExportedPhoto(place, problem=f"not of the form of an exported task ({error!r})")

    regions: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if "id" in result and isinstance(result.get("value"), dict):
            regions.setdefault(str(result["id"]), []).append(result)

    def words(width: int, height: int) -> Iterator[ExportedWord]:
        for name, parts in regions.items():
            yield from _words(f"region {name}", parts, (width, height), text_field)

    return ExportedPhoto(place, names, words, size)


def _names(task: dict[str, Any]) -> tuple[str, ...]:
    """The names under which the photo may be found: as uploaded or linked, and without the prefix of an upload."""
    data = task["data"]
    texts = [data[key] for key in (*IMAGE_KEYS, *data) if isinstance(data.get(key), str)]
    if not texts:
        return ()
    parts = urlsplit(texts[0])
    # Files of the labeller's computer: /data/local-files/?d=photos/1.jpg
    local = parse_qs(parts.query).get("d", [])
    path = local[0] if local else unquote(parts.path)
    folder, slash, name = path.rpartition("/")
    return path, f"{folder}{slash}{UPLOAD_PREFIX.sub('', name)}"


def _results(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Those of the annotation that counts; `None` without any."""
    annotations = _objects(task.get("annotations") or task.get("completions"))
    done = [one for one in annotations if not one.get("was_cancelled")]
    if not done:
        return None
    chosen = max(done, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))
    return _objects(chosen.get("result"))


def _objects(values: Any) -> list[dict[str, Any]]:
    """The JSON objects of a list."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _is_text(result: dict[str, Any]) -> bool:
    return result.get("type") == "textarea"


def _size(results: list[dict[str, Any]]) -> tuple[int, int] | None:
    """Width and height of the photo in pixels; older versions do not write them."""
    for result in results:
        if "original_width" in result and "original_height" in result:
            return int(result["original_width"]), int(result["original_height"])
    return None


def _words(
    name: str, parts: list[dict[str, Any]], size: tuple[int, int], text_field: str | None
) -> Iterator[ExportedWord]:
    """The word of a region: its shape, its labels and its text are results of the same id. None for a mere choice."""
    kinds = {str(part.get("type")) for part in parts}
    texts = [part for part in parts if _is_text(part)]
    shape = next((part for part in parts if part.get("type") in RECTANGLES + POLYGONS), None)
    if shape is None:
        if other := sorted(kinds & set(OTHERS)):
            yield ExportedWord(name, problem=f"{other[0]}: only rectangles and polygons can be taken over")
        elif texts:
            yield ExportedWord(name, problem="a text without a rectangle or a polygon")
        return
    try:
        points = _points(shape, *size)
        named = [(part.get("from_name"), str(one)) for part in parts for key in NAMES for one in _list(part, key)]
        text = _text([part for part in texts if str(part.get("from_name")) == text_field])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        yield ExportedWord(name, problem=f"cannot be read: {error!r}")
        return
    problem = None
    if shape.get("image_rotation"):
        problem = "drawn while the photo was turned in Label Studio: turn the file itself and label it again"
    elif shape.get("item_index"):
        problem = "drawn on a further photo of its task: give each photo a task of its own"
    marks = frozenset(mark for field, label in named for mark in (label, f"{field}={label}"))
    yield ExportedWord(name, points, text, problem=problem, marks=marks)


def _list(part: dict[str, Any], key: str) -> list[Any]:
    """The names under a key; a single one may stand without its list."""
    names = part["value"].get(key) or []
    return names if isinstance(names, list) else [names]


def _points(shape: dict[str, Any], width: int, height: int) -> np.ndarray:
    """Pixels (K, 2); the export has percentages. A rectangle is turned about its top-left corner."""
    value = shape["value"]
    if shape["type"] in POLYGONS:
        return np.array(value["points"], dtype=np.float64) / 100 * [width, height]
    left, top, across, down = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    degrees = float(value.get("rotation") or 0)
    return rectangle(left * width, top * height, across * width, down * height, degrees, pivot=(0, 0))


def _text(parts: list[dict[str, Any]]) -> str | None:
    """What was typed; several submissions are parts of one text."""
    texts = [part["value"].get("text") for part in parts]
    return word_or_none(" ".join(line for text in texts for line in ([text] if isinstance(text, str) else text or ())))
