"""MSRA-TD500 (Yao et al., 2012) and HUST-TR400 (Yao et al., 2014): lines of text as turned rectangles.

Beside `NAME.JPG` lies `NAME.gt` with a line `index difficult x y width height angle` for each: the upright rectangle by
its top-left corner, turned about its centre by so many radians, clockwise as seen. Difficult ones do not count, and
there are no transcriptions.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...images import find_file
from ...instances import TextInstances
from ...text_files import read_text
from ..importing.exports import rectangle
from ..loaders import build_dataset, photos_of

if TYPE_CHECKING:
    import datasets

__all__ = ["load_td500"]

_CENTRE = (0.5, 0.5)


def load_td500(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], annotations: str | os.PathLike[str]
) -> "datasets.Dataset":
    """Photos with the annotations of MSRA-TD500 or HUST-TR400.

    Args:
        images: folder of the photos.
        annotations: folder of the `.gt` files, mostly the same.

    Returns:
        A dataset with the columns of `text_features`, sorted by the names of the photos; all `texts` are `None`.

    Raises:
        FileNotFoundError: if there is no photo, or an annotation is missing.
        ValueError: for what cannot be read; file and line are named.
    """
    photos = photos_of(images)
    return build_dataset(photos, [_read(photo, Path(annotations) / f"{photo.stem}.gt") for photo in photos])


def _read(photo: Path, file: Path) -> TextInstances:
    found = find_file(file)
    if found is None:
        raise FileNotFoundError(f"no annotation file for {photo}: expected {file}")
    polygons, ignore = [], []
    for number, line in enumerate(read_text(found).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            _, difficult, x, y, width, height, angle = map(float, line.split())
        except ValueError as error:
            raise ValueError(
                f"{file}, line {number}: expected `index difficult x y width height angle`, got {line!r}"
            ) from error
        polygons.append(rectangle(x, y, width, height, math.degrees(angle), _CENTRE))
        ignore.append(difficult == 1)
    return TextInstances(polygons, texts=[None] * len(polygons), ignore=np.array(ignore, dtype=bool))
