"""YOLO-OBB: a YAML file that names folders and classes, and a text file for each image in `labels` beside `images`.

A line is `class x1 y1 x2 y2 x3 y3 x4 y4`, the coordinates in shares of width and height. The order of classes is that
of the YAML file; for DOTA it is another one than the devkit's, hence classes are told by their names.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...images import load_image
from ...instances import OrientedInstances
from ...text_files import read_text
from ..objects import build_object_dataset, images_with_labels

if TYPE_CHECKING:
    import datasets

__all__ = ["load_yolo_obb"]


def load_yolo_obb(path: str | os.PathLike[str], split: str = "train") -> "datasets.Dataset":
    """Images with annotations in the form of YOLO-OBB.

    Args:
        path: the YAML file, with `path`, `train`, `val` … and `names`.
        split: the entry that names the folder of images; that of the labels has `labels` in place of `images`.

    Returns:
        A dataset with the columns of `object_features`, its classes those of `names`, written with hyphens as in DOTA.

    Raises:
        FileNotFoundError: if a folder or a file is missing.
        ValueError: for a YAML file without the entry or the names, or a line that cannot be read; the file is named.
    """
    file = Path(path)
    settings = _settings(file, split)
    root = file.parent / settings.get("path", "")
    images = root / settings[split]
    parts = [("labels" if part == "images" else part) for part in Path(settings[split]).parts]
    names = settings["names"]
    ordered = [names[index] for index in sorted(names)] if isinstance(names, dict) else list(names)
    paths, annotated = [], []
    for image, labels in images_with_labels(images, root.joinpath(*parts), ".txt"):
        width, height = load_image(image).size
        try:
            objects = OrientedInstances.from_yolo_obb(read_text(labels), width, height)
        except ValueError as error:
            raise ValueError(f"{labels}: {error}") from error
        if len(objects) and max(objects.labels) >= len(ordered):  # type: ignore[arg-type]
            raise ValueError(f"{labels}: class {max(objects.labels)}, but {file} names {len(ordered)}")  # type: ignore[arg-type]
        paths.append(image)
        annotated.append(objects)
    return build_object_dataset(paths, annotated, [name.replace(" ", "-") for name in ordered])


def _settings(file: Path, split: str) -> dict[str, Any]:
    import yaml

    settings = yaml.safe_load(read_text(file))
    missing = [name for name in (split, "names") if not isinstance(settings, dict) or not settings.get(name)]
    if missing:
        raise ValueError(f"{file} has no entry {missing[0]!r}; expected `path`, {split!r} and `names`")
    found: dict[str, Any] = settings
    return found
