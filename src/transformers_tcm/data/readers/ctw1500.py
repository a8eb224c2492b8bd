"""SCUT-CTW1500 (Y. Liu et al., 2017): an XML file for each photo, every word or line with 14 points.

The text files of the same set, `x1,y1,…,x14,y14,####word`, are read by `load_icdar2015`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import numpy as np

from ...icdar import is_illegible
from ...images import find_file
from ...instances import TextInstances
from ..importing.cvat import parse_xml
from ..loaders import build_dataset

if TYPE_CHECKING:
    import datasets

__all__ = ["load_ctw1500"]


def load_ctw1500(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.Dataset":
    """Photos with the XML annotations of SCUT-CTW1500.

    Args:
        images: folder of the photos.
        annotations: folder of the XML files; the photo is that of `<image file="…">`.

    Returns:
        A dataset with the columns of `text_features`, sorted by the names of the XML files.

    Raises:
        FileNotFoundError: if there is no XML file, or a photo is missing.
        ValueError: for what cannot be read; file and box are named.
    """
    files = sorted(Path(annotations).glob("*.xml"))
    if not files:
        raise FileNotFoundError(f"no XML files of SCUT-CTW1500 in {annotations}")
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
