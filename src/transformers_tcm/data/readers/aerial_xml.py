"""HRSC2016 (Liu et al., 2017) and DIOR-R (Cheng et al., TGRS 2022): an XML file for each image.

HRSC2016 gives ships as centre, sides and angle in radians, clockwise on the screen; DIOR-R gives the four corners of
objects of 20 classes.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import torch

from ...instances import OrientedInstances
from ...rotated_boxes import boxes_to_quads
from ..objects import build_object_dataset, images_with_labels

if TYPE_CHECKING:
    import datasets

__all__ = ["DIOR_CLASSES", "load_dior_r", "load_hrsc2016"]

# By name, as DIOR lists them; published tables use this order.
DIOR_CLASSES = (
    "airplane",
    "airport",
    "baseballfield",
    "basketballcourt",
    "bridge",
    "chimney",
    "expressway-service-area",
    "expressway-toll-station",
    "dam",
    "golffield",
    "groundtrackfield",
    "harbor",
    "overpass",
    "ship",
    "stadium",
    "storagetank",
    "tenniscourt",
    "trainstation",
    "vehicle",
    "windmill",
)
CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")


def load_hrsc2016(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.Dataset":
    """Images with the annotations of HRSC2016, all of the one class `ship`.

    Args:
        images: folder `AllImages`.
        annotations: folder `Annotations`; the file of `100000001.bmp` is `100000001.xml`.

    Returns:
        A dataset with the columns of `object_features`.

    Raises:
        FileNotFoundError: if there is no image, or an annotation is missing.
        ValueError: for what cannot be read; the file is named.
    """
    return _load(Path(images), Path(annotations), _hrsc_objects, ("ship",))


def load_dior_r(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.Dataset":
    """Images with the annotations of DIOR-R, of its 20 classes.

    Args:
        images: folder of the images.
        annotations: folder `Annotations/Oriented Bounding Boxes`; the file of `00001.jpg` is `00001.xml`.

    Returns:
        A dataset with the columns of `object_features`.

    Raises:
        FileNotFoundError: if there is no image, or an annotation is missing.
        ValueError: for what cannot be read, or an unknown class; the file is named.
    """
    return _load(Path(images), Path(annotations), _dior_objects, DIOR_CLASSES)


Found = tuple[np.ndarray, str, bool]


def _load(
    images: Path, annotations: Path, read: Callable[[ElementTree.Element], Iterable[Found]], names: tuple[str, ...]
) -> "datasets.Dataset":
    paths, annotated = [], []
    for path, file in images_with_labels(images, annotations, ".xml"):
        try:
            found = list(read(ElementTree.parse(file).getroot()))
            labels = np.array([names.index(name) for _, name, _ in found], np.int64)
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise ValueError(f"{file}: {error}") from error
        ignore = np.array([difficult for _, _, difficult in found], dtype=bool)
        paths.append(path)
        annotated.append(OrientedInstances([quad for quad, _, _ in found], labels=labels, ignore=ignore))
    return build_object_dataset(paths, annotated, names)


def _hrsc_objects(root: ElementTree.Element) -> Iterable[Found]:
    for one in root.iterfind("HRSC_Objects/HRSC_Object"):
        box = [_number(one, f"mbox_{name}") for name in ("cx", "cy", "w", "h", "ang")]
        quad = boxes_to_quads(torch.tensor([box], dtype=torch.float64)).numpy()[0]
        yield quad.astype(np.float32), "ship", one.findtext("difficult", "0").strip() == "1"


def _dior_objects(root: ElementTree.Element) -> Iterable[Found]:
    for one in root.iterfind("object"):
        name = one.findtext("name", "").strip().lower()
        if name not in DIOR_CLASSES:
            raise ValueError(f"{name!r} is none of the classes of DIOR")
        quad = [[_number(one, f"robndbox/{axis}_{corner}") for axis in "xy"] for corner in CORNERS]
        yield np.array(quad, np.float32), name, one.findtext("difficult", "0").strip() == "1"


def _number(element: ElementTree.Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"an object has no `{path}`")
    return float(text)
