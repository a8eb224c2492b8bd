"""labelme: a JSON file for each photo, with `imagePath` and `shapes` of `label`, `points` and `shape_type`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...icdar import is_illegible
from ...images import find_file
from ...instances import TextInstances
from ...text_files import read_text
from ..loaders import build_dataset

if TYPE_CHECKING:
    import datasets

__all__ = ["load_labelme"]


def load_labelme(
    folder: str | os.PathLike[str], word_label: str | None = None, ignore: str = "ignore"
) -> "datasets.Dataset":
    """Photos annotated with labelme: polygons and rectangles, other shapes are an error.

    Args:
        folder: of the JSON files; each names its photo, relative to itself.
        word_label: the label that all words have, where the transcription stands in the description (labelme 5); by
            default the label is the transcription.
        ignore: name of the flag or label of shapes that do not count. `###` never does.

    Returns:
        A dataset with the columns of `text_features`, sorted by the names of the JSON files.

    Raises:
        FileNotFoundError: if there is no such folder, no JSON file in it, or a photo is missing.
        ValueError: for what cannot be read; file and shape are named.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no JSON files of labelme in {folder}")
    images, annotations = [], []
    for file in files:
        try:
            image, instances = _read(file, word_label, ignore)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{file}: {error if isinstance(error, ValueError) else repr(error)}") from error
        images.append(image)
        annotations.append(instances)
    return build_dataset(images, annotations)


def _read(file: Path, word_label: str | None, ignore: str) -> tuple[Path, TextInstances]:
    content = json.loads(read_text(file))
    if not isinstance(content, dict) or not {"imagePath", "shapes"} <= content.keys():
        raise ValueError('expected an object with "imagePath" and "shapes"')
    # labelme on Windows writes backslashes.
    image = find_file(file.parent / str(content["imagePath"]).replace("\\", "/"))
    if image is None:
        raise FileNotFoundError(f"{file}: no such image: {content['imagePath']}")
    polygons, texts, ignored = [], [], []
    for number, shape in enumerate(content["shapes"], start=1):
        polygons.append(_outline(shape, f"shape {number}"))
        text = _text(shape, word_label)
        texts.append(text)
        marked = ignore == shape.get("label") or bool((shape.get("flags") or {}).get(ignore))
        ignored.append(marked or is_illegible(text or ""))
    return image, TextInstances(polygons, texts=texts, ignore=np.array(ignored, dtype=bool))


def _outline(shape: dict[str, Any], name: str) -> np.ndarray:
    """Pixels (K, 2); a rectangle has two opposite corners, in any order."""
    kind, points = shape.get("shape_type", "polygon"), np.array(shape["points"], dtype=np.float32)
    if kind == "polygon" and points.ndim == 2 and points.shape[1] == 2 and len(points) >= 3:
        return points
    if kind == "rectangle" and points.shape == (2, 2):
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)
    raise ValueError(f"{name} is a {kind} of shape {points.shape}; expected a polygon or a rectangle")


def _text(shape: dict[str, Any], word_label: str | None) -> str | None:
    text = shape["label"] if word_label is None else shape.get("description")
    return str(text).strip() or None if text is not None else None
