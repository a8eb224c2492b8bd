"""DOTA (Xia et al., CVPR 2018): a text file for each image, `NAME.txt`, with a line for each object.

A line is `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`; up to two header lines, `imagesource:` and `gsd:`, come first.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...dota import DOTA_V1_CLASSES
from ...instances import OrientedInstances
from ...text_files import read_text
from ..objects import build_object_dataset, images_with_labels

if TYPE_CHECKING:
    import datasets

__all__ = ["load_dota"]


def load_dota(
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    classes: Sequence[str] = DOTA_V1_CLASSES,
    with_empty: bool = True,
) -> "datasets.Dataset":
    """Images, or patches of them, with the annotations of DOTA.

    Args:
        images: folder of the images.
        annotations: folder `labelTxt`; the file of `P0001.png` is `P0001.txt`.
        classes: names of the classes in the order of their indices.
        with_empty: keep images without objects; training leaves them out.

    Returns:
        A dataset with the columns of `object_features`, sorted by the names of the images.

    Raises:
        FileNotFoundError: if there is no image, or an annotation is missing.
        ValueError: for a line that cannot be read or an unknown class; the file is named.
    """
    label2id = {name: index for index, name in enumerate(classes)}
    paths, annotated = [], []
    for path, file in images_with_labels(Path(images), Path(annotations), ".txt"):
        try:
            objects = OrientedInstances.from_dota(read_text(file), label2id)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        if with_empty or len(objects):
            paths.append(path)
            annotated.append(objects)
    return build_object_dataset(paths, annotated, classes)
