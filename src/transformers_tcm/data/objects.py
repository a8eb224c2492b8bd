"""Images with oriented objects as `datasets.Dataset`: what the readers of their formats share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..images import find_file, list_images
from ..instances import OrientedInstances

if TYPE_CHECKING:
    import datasets

__all__ = ["build_object_dataset", "class_names", "images_with_labels", "object_features", "row_to_objects"]


def object_features(names: Sequence[str]) -> "datasets.Features":
    """The columns of a dataset of oriented objects, whose classes are called `names`.

    `image` (decoded on access, stored as a path), `image_id` (file name), and of equal length for each image `polygons`
    (N, 4, 2) in pixels of the upright image, `labels`, class indices that know their names, and `ignore`, difficult
    objects.
    """
    try:
        from datasets import ClassLabel, Features, Image, List, Value
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "annotated images are loaded with the package datasets: pip install 'transformers-tcm[train]'"
        ) from error

    return Features(
        {
            "image": Image(),
            "image_id": Value("string"),
            "polygons": List(List(List(Value("float32"), length=2))),
            "labels": List(ClassLabel(names=list(names))),
            "ignore": List(Value("bool")),
        }
    )


def class_names(dataset: "datasets.Dataset") -> list[str]:
    """The names of the labels of a dataset with `object_features`."""
    names: list[str] = dataset.features["labels"].feature.names
    return names


def row_to_objects(row: Mapping[str, Any], use_difficult: bool = True) -> OrientedInstances:
    """The objects of one row of a dataset with `object_features`.

    Args:
        row: of the dataset.
        use_difficult: `False` leaves out those that are marked as difficult or cut off; evaluation ignores them, while
            training learns them as all others, as the released code does.
    """
    objects = OrientedInstances(
        list(row["polygons"]), labels=np.asarray(row["labels"], np.int64), ignore=np.asarray(row["ignore"], bool)
    )
    return objects if use_difficult else objects.select(~objects.ignored)


def build_object_dataset(
    images: Sequence[Path], annotations: Sequence[OrientedInstances], names: Sequence[str]
) -> "datasets.Dataset":
    """A dataset with the columns of `object_features` of images and what is in them."""
    features = object_features(names)  # first, because it says what to install where datasets is missing
    import datasets

    columns = {
        "image": [str(path) for path in images],
        "image_id": [path.name for path in images],
        "polygons": [[polygon.tolist() for polygon in objects.polygons] for objects in annotations],
        "labels": [np.asarray(objects.labels, np.int64).tolist() for objects in annotations],
        "ignore": [objects.ignored.tolist() for objects in annotations],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def images_with_labels(images: Path, annotations: Path, suffix: str) -> list[tuple[Path, Path]]:
    """Each image of a folder with the file of the same name and another suffix.

    Raises:
        FileNotFoundError: if there is no image, or a file is missing.
    """
    if not images.is_dir():
        raise FileNotFoundError(f"no such folder of images: {images}")
    pairs = []
    for path in list_images(images):
        file = find_file(annotations / f"{path.stem}{suffix}")
        if file is None:
            raise FileNotFoundError(f"no annotation file for {path}: expected {annotations / path.stem}{suffix}")
        pairs.append((path, file))
    if not pairs:
        raise FileNotFoundError(f"no images in {images}")
    return pairs
