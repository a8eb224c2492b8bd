"""SCUT-CTW1500 (Y. Liu et al., 2017): a file for each photo, every word or line with 14 points.

XML for training; for the test text files, `x1,y1,…,x14,y14,####word` in `0001001.txt` for `1001.jpg`, or those of the
first release, `left,top,right,bottom` and 14 points relative to the corner in `1001.txt`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import numpy as np

from ...icdar import is_illegible
from ...images import find_file
from ...instances import TextInstances
from ...text_files import read_text
from ..importing.cvat import parse_xml
from ..loaders import build_dataset

if TYPE_CHECKING:
    import datasets

__all__ = ["load_ctw1500"]

_BEFORE_WORD = "####"


def load_ctw1500(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.Dataset":
    """Photos with the annotations of SCUT-CTW1500.

    Args:
        images: folder of the photos.
        annotations: folder of the XML files, whose photo is that of `<image file="…">`, or of text files.

    Returns:
        A dataset with the columns of `text_features`, sorted by the names of the annotations.

    Raises:
        FileNotFoundError: if there is no annotation, or a photo is missing.
        ValueError: for what cannot be read; file and box, or line, are named.
    """
    files = sorted(Path(annotations).glob("*.xml"))
    if not files:
        return _load_text_files(Path(images), Path(annotations))
    photos, instances = [], []
    for file in files:
        image = parse_xml(file).find("image")
        if image is None:
            raise ValueError(f'{file}: expected <Annotations> with <image file="…">')
        photo = find_file(Path(images) / image.get("file", ""))
        if photo is None:
            raise FileNotFoundError(f"{file}: no such image: {Path(images) / image.get('file', '')}")
        photos.append(photo)
        instances.append(_instances(file, image))
    return build_dataset(photos, instances)


def _load_text_files(images: Path, annotations: Path) -> "datasets.Dataset":
    files = sorted(annotations.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"no XML or text files of SCUT-CTW1500 in {annotations}")
    photos = []
    for file in files:
        name = f"{int(file.stem):04d}.jpg" if file.stem.isdecimal() else f"{file.stem}.jpg"
        photo = find_file(images / name)
        if photo is None:
            raise FileNotFoundError(f"{file}: no such image: {images / name}")
        photos.append(photo)
    return build_dataset(photos, [_read_lines(file) for file in files])


def _read_lines(file: Path) -> TextInstances:
    polygons: list[np.ndarray] = []
    texts: list[str | None] = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        coordinates, separator, text = line.partition(f",{_BEFORE_WORD}")
        try:
            values = np.array([float(value) for value in coordinates.split(",")], dtype=np.float32)
        except ValueError:
            values = np.zeros(0, np.float32)
        if len(values) not in ((28,) if separator else (28, 32)):
            raise ValueError(f"{file}, line {number}: expected `x1,y1,…,x14,y14,{_BEFORE_WORD}word`, got {line!r}")
        points = values[-28:].reshape(14, 2)
        polygons.append(points if len(values) == 28 else points + values[:2])
        texts.append(text.strip() or None)
    return TextInstances(polygons, texts=texts, ignore=np.array([is_illegible(text or "") for text in texts], bool))


def _instances(file: Path, image: Element) -> TextInstances:
    polygons, texts = [], []
    for number, box in enumerate(image.iterfind("box"), start=1):
        try:
            polygons.append(np.array([float(value) for value in box.findtext("segs", "").split(",")]).reshape(-1, 2))
        except ValueError as error:
            raise ValueError(f"{file}, box {number}: expected <segs> with x1,y1,x2,y2,…: {error}") from error
        texts.append(box.findtext("label", "").strip() or None)
    try:
        return TextInstances(polygons, texts=texts, ignore=np.array([is_illegible(text or "") for text in texts], bool))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
