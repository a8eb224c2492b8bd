"""Total-Text (C. K. Ch'ng et al., 2017): a file for each photo, `poly_gt_NAME.txt` or `poly_gt_NAME.mat`.

A line of the former is a word, `x: [[153 161 179]], y: [[347 323 305]], ornt: [u'c'], transcriptions: [u'the']`; `#` is
not legible. Long lists of numbers go on in the next line of the file. The latter, of Matlab, has a table `polygt` with
a row for each word: `x:`, its numbers, `y:`, its numbers, the word and its orientation.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...images import find_file
from ...instances import ILLEGIBLE, TextInstances
from ...text_files import read_text
from ..loaders import build_dataset, photos_of

if TYPE_CHECKING:
    import datasets

__all__ = ["load_total_text"]

# Its EXIF orientation turns it by a quarter, its annotation does not (README of DB, Liao et al., 2020).
_TURNED_WRONGLY = ("img651.jpg",)
_WORD = re.compile(
    r"x:\s*\[\[(?P<x>[-\d\s.]*)\]\]\s*,\s*y:\s*\[\[(?P<y>[-\d\s.]*)\]\]"
    r"(?:\s*,\s*ornt:\s*\[(?:u?'[^']*')?\])?\s*,\s*transcriptions:\s*\[(?P<text>.*)\]\s*"
)
_QUOTED = re.compile(r"u?(['\"])(.*)\1")


def load_total_text(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.Dataset":
    """Photos with the annotations of Total-Text.

    Args:
        images: folder of the photos.
        annotations: folder of the annotations; that of `NAME.jpg` is `poly_gt_NAME.txt` or, read with scipy,
            `poly_gt_NAME.mat`.

    Returns:
        A dataset with the columns of `text_features`, sorted by the names of the photos.

    Raises:
        FileNotFoundError: if there is no photo, or an annotation is missing.
        ValueError: for what cannot be read; file and line, or row, are named.
    """
    photos = photos_of(images)
    instances = [_read(photo, Path(annotations) / f"poly_gt_{photo.stem}") for photo in photos]
    return build_dataset(photos, instances, as_stored=_TURNED_WRONGLY)


def _read(photo: Path, path: Path) -> TextInstances:
    file = find_file(path.with_name(f"{path.name}.txt")) or find_file(path.with_name(f"{path.name}.mat"))
    if file is None:
        raise FileNotFoundError(f"no annotation file for {photo}: expected {path}.txt or {path.name}.mat")
    polygons, texts = _read_table(file) if file.suffix == ".mat" else _read_lines(file)
    ignore = np.array([text == ILLEGIBLE for text in texts], dtype=bool)
    return TextInstances(polygons, texts=texts, ignore=ignore)


def _read_table(file: Path) -> tuple[list[np.ndarray], list[str | None]]:
    """Outlines and words of a file of Matlab."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        table = loadmat(file)["polygt"]
    except (MatReadError, ValueError, KeyError) as error:
        raise ValueError(f"{file}: expected a file of Matlab with the table `polygt`: {error}") from error
    polygons, texts = [], []
    for number, row in enumerate(table, start=1):
        x, y = (np.asarray(row[column], dtype=np.float32).reshape(-1) for column in (1, 3))
        if len(x) != len(y) or len(x) < 3:
            raise ValueError(
                f"{file}, row {number}: {len(x)} numbers x and {len(y)} numbers y; expected 3 or more of both"
            )
        polygons.append(np.stack([x, y], axis=1))
        written = np.asarray(row[4]).reshape(-1)
        word = str(written[0]).strip() if len(written) else ""
        texts.append(ILLEGIBLE if word == "#" else word or None)
    return polygons, texts


def _read_lines(file: Path) -> tuple[list[np.ndarray], list[str | None]]:
    """Outlines and words of a text file."""
    words: list[tuple[int, str]] = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.startswith("x:") or not words:
            words += [(number, line.strip())] if line.strip() else []
        else:
            words[-1] = (words[-1][0], f"{words[-1][1]} {line.strip()}".strip())
    polygons, texts = [], []
    for number, word in words:
        match = _WORD.fullmatch(word)
        x, y = (match["x"].split(), match["y"].split()) if match else ([], [])
        if match is None or len(x) != len(y) or len(x) < 3:
            raise ValueError(f"{file}, line {number}: expected `x: [[…]], y: [[…]], ornt: […], transcriptions: […]`")
        polygons.append(np.array([x, y], dtype=np.float32).T)
        texts.append(_text(match["text"]))
    return polygons, texts


def _text(written: str) -> str | None:
    """`u'the'`, with the other quotes where the word holds one, nothing where it is unknown."""
    match = _QUOTED.fullmatch(written.strip())
    text = match[2].replace("\\'", "'").strip() if match else written.strip()
    return ILLEGIBLE if text == "#" else text or None
