"""SynthText-150k (Y. Liu et al., "ABCNet", CVPR 2020): COCO-like JSON whose words are pairs of cubic Bézier curves.

An annotation has `bezier_pts`, 16 numbers: the upper side's four control points from left to right, then the lower
side's from right to left; and `rec`, 25 classes: 0 to 94 are the printable characters of ASCII from the blank on, 95 is
a character that is none of them, 96 fills up.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bezier import bezier_to_polygon
from ...images import find_file
from ...instances import TextInstances
from ..loaders import read_json, stream_dataset

if TYPE_CHECKING:
    import datasets

__all__ = ["load_synth_text_150k"]

_FIRST, _OTHER, _FILLING = ord(" "), 95, 96


def load_synth_text_150k(
    images: str | os.PathLike[str], annotations: str | os.PathLike[str], num_points: int = 20
) -> "datasets.IterableDataset":
    """Pictures with words as Bézier curves, streamed: rows are made as they are asked for.

    Args:
        images: folder of the pictures.
        annotations: the JSON file, `train.json`.
        num_points: of the outline that a pair of curves becomes; even.

    Returns:
        A streamed dataset with the columns of `text_features`, in the order of the file; the text of a word with other
        characters is unknown, words with `iscrowd` are ignored.

    Raises:
        FileNotFoundError: if the file is missing, or, once its row is asked for, a picture.
        ValueError: for what cannot be read; file and annotation are named.
    """
    file, folder = Path(annotations), Path(images)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    return stream_dataset(lambda: _rows(file, folder, num_points))


def _rows(file: Path, folder: Path, num_points: int) -> Iterator[tuple[Path, TextInstances]]:
    content = read_json(file)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ValueError(f'{file}: expected "images" and "annotations"')
    words: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for word in content["annotations"]:
        if word.get("image_id") not in words:
            raise ValueError(f"{file}, annotation {word.get('id')}: there is no image {word.get('image_id')}")
        words[word["image_id"]].append(word)
    for image in content["images"]:
        picture = find_file(folder / image["file_name"])
        if picture is None:
            raise FileNotFoundError(f"{file}, image {image['id']}: no such image: {folder / image['file_name']}")
        yield picture, _instances(file, words[image["id"]], num_points)


def _instances(file: Path, words: Sequence[Mapping[str, Any]], num_points: int) -> TextInstances:
    polygons = []
    for word in words:
        points = np.asarray(word.get("bezier_pts", []), dtype=np.float32)
        if points.size != 16:
            raise ValueError(
                f"{file}, annotation {word.get('id')}: expected 16 numbers `bezier_pts`, got {points.size}"
            )
        polygons.append(bezier_to_polygon(points.reshape(8, 2), num_points))
    ignore = np.array([bool(word.get("iscrowd")) for word in words], dtype=bool)
    return TextInstances(polygons, texts=[_text(word.get("rec", [])) for word in words], ignore=ignore)


def _text(classes: Sequence[int]) -> str | None:
    if _OTHER in classes:
        return None
    return "".join(chr(_FIRST + index) for index in classes if index < _FILLING).strip() or None
