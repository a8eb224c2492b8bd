"""ICDAR MLT 2017 and 2019 (Nayef et al.): a text file for each photo, with the script of each word.

A line is `x1,y1,x2,y2,x3,y3,x4,y4,script,word`; `###` is not legible. The file of `X.jpg` is called `gt_X.txt` (2017)
or `X.txt` (2019).
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...icdar import SCRIPTS, is_illegible
from ...images import find_file
from ...instances import TextInstances
from ...text_files import read_text
from ..loaders import build_dataset, photos_of

if TYPE_CHECKING:
    import datasets

__all__ = ["load_mlt"]

_EXPECTED = "expected `x1,y1,x2,y2,x3,y3,x4,y4,script,word`"


def load_mlt(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    annotations: str | os.PathLike[str],
    scripts: Collection[str] | None = None,
) -> "datasets.Dataset":
    """Photos with the annotations of MLT.

    Args:
        images: folder of the photos, or several.
        annotations: folder of the text files.
        scripts: words of other scripts are ignored; by default all count.

    Returns:
        A dataset with the columns of `text_features`, sorted by the names of the photos.

    Raises:
        FileNotFoundError: if there is no photo, or an annotation is missing.
        ValueError: for an unknown script, and what cannot be read; file and line are named.
    """
    wanted = SCRIPTS if scripts is None else {script.lower() for script in scripts}
    if unknown := sorted(wanted - SCRIPTS):
        raise ValueError(f"no scripts of MLT: {', '.join(unknown)}; there are {', '.join(sorted(SCRIPTS))}")
    photos = photos_of(images)
    return build_dataset(photos, [_read(photo, Path(annotations), wanted) for photo in photos])


def _read(photo: Path, folder: Path, scripts: Collection[str]) -> TextInstances:
    file = find_file(folder / f"gt_{photo.stem}.txt") or find_file(folder / f"{photo.stem}.txt")
    if file is None or not file.is_file():
        raise FileNotFoundError(f"no annotation file for {photo}: expected gt_{photo.stem}.txt or {photo.stem}.txt")
    polygons, texts, ignored = [], [], []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        *coordinates, script, word = fields if len(fields := line.split(",", 9)) == 10 else ("", "", "")
        if script.strip().lower() not in SCRIPTS:
            raise ValueError(f"{file}, line {number}: {_EXPECTED}, got {line!r}")
        try:
            polygons.append(np.array([float(value) for value in coordinates], dtype=np.float32).reshape(4, 2))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {_EXPECTED}: {error}") from error
        texts.append(word.strip() or None)
        ignored.append(is_illegible(word) or script.strip().lower() not in scripts)
    return TextInstances(polygons, texts=texts, ignore=np.array(ignored, dtype=bool))
