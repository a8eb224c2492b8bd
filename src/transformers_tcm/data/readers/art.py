"""ICDAR 2019 ArT (Chng et al.) and LSVT (Sun et al.): one JSON file for all photos.

`{"gt_0": [{"transcription": "…", "points": [[x, y], …], "language": "Latin", "illegibility": false}, …], …}`, the
photo is `gt_0.jpg`. `###` and what is marked as illegible do not count.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...icdar import is_illegible
from ...instances import TextInstances
from ..loaders import build_dataset, photos_of, read_json

if TYPE_CHECKING:
    import datasets

__all__ = ["load_art"]


def load_art(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], annotations: str | os.PathLike[str]
) -> "datasets.Dataset":
    """Photos with the annotations of ArT or LSVT.

    Args:
        images: folder of the photos, or several, as LSVT has them.
        annotations: `train_labels.json` (ArT) or `train_full_labels.json` (LSVT).

    Returns:
        A dataset with the columns of `text_features`, in the order of the file.

    Raises:
        FileNotFoundError: if the file or a photo is missing.
        ValueError: for what cannot be read; file, photo and word are named.
    """
    file = Path(annotations)
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(words, list) for words in content.values()):
        raise ValueError(f"{file}: expected an object with a list of words for each photo")
    photos = {photo.stem: photo for photo in photos_of(images)}
    if missing := [name for name in content if name not in photos]:
        raise FileNotFoundError(f"{file}: no photos in {images} for {len(missing)} names: {', '.join(missing[:5])}")
    instances = [_instances(f"{file}, {name}", words) for name, words in content.items()]
    return build_dataset([photos[name] for name in content], instances)


def _instances(place: str, words: list[Mapping[str, Any]]) -> TextInstances:
    polygons, texts, ignore = [], [], []
    for number, word in enumerate(words, start=1):
        try:
            polygons.append(np.array(word["points"], dtype=np.float32).reshape(-1, 2))
            text = str(word["transcription"]).strip()
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f'{place}, word {number}: expected "transcription" and "points" [[x, y], …]') from error
        texts.append(text or None)
        ignore.append(is_illegible(text) or bool(word.get("illegibility")))
    try:
        return TextInstances(polygons, texts=texts, ignore=np.array(ignore, dtype=bool))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
