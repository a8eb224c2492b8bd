"""COCO and the data sets in its manner: COCO-Text (Veit et al., 2016) and TextOCR (Singh et al., 2021).

One JSON file has all images and their words: lists of `images` and `annotations` (COCO), or dictionaries `imgs` and
`anns` by id (COCO-Text, TextOCR).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...images import find_file
from ...instances import TextInstances
from ..loaders import build_dataset, read_json

if TYPE_CHECKING:
    import datasets

__all__ = ["load_coco", "load_coco_text", "load_text_ocr"]

# How TextOCR writes a word that its annotators could not read.
_UNREADABLE = "."


def load_coco(
    images: str | os.PathLike[str], annotations: str | os.PathLike[str], split: str | None = None
) -> "datasets.Dataset":
    """Photos annotated in the manner of COCO, whose objects are words; see `transformers_tcm.coco` for their keys.

    Args:
        images: folder of the photos. Those of a file name with a folder are found with and without it.
        annotations: the JSON file.
        split: only images whose `set` is this, such as "train" and "val" of COCO-Text.

    Returns:
        A dataset with the columns of `text_features`, in the order of the file; images without words as well.

    Raises:
        FileNotFoundError: if the file or a photo is missing, or there is no image of the split.
        ValueError: for what cannot be read; file and annotation are named.
    """
    return _load(Path(images), Path(annotations), split)


def load_coco_text(
    images: str | os.PathLike[str], annotations: str | os.PathLike[str], split: str | None = None
) -> "datasets.Dataset":
    """Photos of COCO-Text, `cocotext.v2.json`; words that are not legible are ignored. See `load_coco`."""
    return _load(Path(images), Path(annotations), split)


def load_text_ocr(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.Dataset":
    """Photos of TextOCR, `TextOCR_0.1_train.json`; words that were not read, ".", are ignored. See `load_coco`."""
    return _load(Path(images), Path(annotations), None, unreadable=_UNREADABLE)


def _load(folder: Path, file: Path, split: str | None, unreadable: str | None = None) -> "datasets.Dataset":
    content = _parsed(file)
    images = {str(image["id"]): image for image in _entries(content, "imgs", "images")}
    chosen = {name: image for name, image in images.items() if split in (None, image.get("set"))}
    if not chosen:
        sets = sorted({str(image.get("set")) for image in images.values()})
        raise FileNotFoundError(f"{file}: no images{f' of {split!r}, there are those of {sets}' if split else ''}")
    words: dict[str, list[Mapping[str, Any]]] = {name: [] for name in images}
    for annotation in _entries(content, "anns", "annotations"):
        name = str(annotation.get("image_id"))
        if name not in words:
            raise ValueError(f"{file}, annotation {annotation.get('id')}: there is no image {name}")
        words[name].append(annotation)
    instances = [_instances(file, words[name], unreadable) for name in chosen]
    return build_dataset([_photo(folder, file, image) for image in chosen.values()], instances)


def _parsed(file: Path) -> Mapping[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not ({"imgs", "anns"} <= content.keys() or "images" in content):
        raise ValueError(f'{file}: expected "imgs" and "anns", or "images" and "annotations"')
    return content


def _entries(content: Mapping[str, Any], by_id: str, listed: str) -> list[Mapping[str, Any]]:
    """Images or annotations in either form, each with its `id`."""
    if by_id in content:
        return [{"id": name, **entry} for name, entry in content[by_id].items()]
    return list(content.get(listed, []))


def _instances(file: Path, annotations: list[Mapping[str, Any]], unreadable: str | None) -> TextInstances:
    marked = [
        {**one, "ignore": True} if unreadable is not None and one.get("utf8_string") == unreadable else one
        for one in annotations
    ]
    for annotation in marked:
        try:
            TextInstances.from_coco([annotation])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}, annotation {annotation.get('id')}: {error}") from error
    return TextInstances.from_coco(marked)


def _photo(folder: Path, file: Path, image: Mapping[str, Any]) -> Path:
    name = str(image.get("file_name", ""))
    found = find_file(folder / name) or find_file(folder / Path(name).name)
    if found is None or not found.is_file():
        raise FileNotFoundError(f"{file}, image {image['id']}: no such image: {folder / name}")
    return found
