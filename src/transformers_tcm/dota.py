"""The text formats of oriented objects: label files of DOTA and of Ultralytics' YOLO-OBB.

References: DOTA, Xia et al., CVPR 2018, and its devkit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["DOTA_V1_CLASSES", "DotaObject", "parse_dota", "parse_yolo_obb"]

# In the order of the devkit, which is that of all published tables.
DOTA_V1_CLASSES = (
    "plane",
    "baseball-diamond",
    "bridge",
    "ground-track-field",
    "small-vehicle",
    "large-vehicle",
    "ship",
    "tennis-court",
    "basketball-court",
    "storage-tank",
    "soccer-ball-field",
    "roundabout",
    "harbor",
    "swimming-pool",
    "helicopter",
)
# Lines before the objects, of which files have both, one or none.
HEADERS = ("imagesource:", "gsd:")
NUM_COORDINATES = 8


@dataclass(frozen=True)
class DotaObject:
    """An object of a label file.

    Args:
        polygon: (4, 2) float32 x, y.
        name: of its class.
        difficult: 0, 1 for what is hard to see, 2 for what its patch cuts off.
    """

    polygon: np.ndarray
    name: str
    difficult: int


def parse_dota(text: str) -> list[DotaObject]:
    """Objects of a label file: lines `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`, after header lines if there are any.

    `difficult` is 0 where it is missing.

    Raises:
        ValueError: naming the line that is of another form.
    """
    objects = []
    for number, fields in _lines(text):
        if fields[0].lower().startswith(HEADERS):
            continue
        if len(fields) not in (NUM_COORDINATES + 1, NUM_COORDINATES + 2):
            raise ValueError(
                f"line {number} has {len(fields)} fields; expected `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`"
            )
        difficult = fields[NUM_COORDINATES + 1] if len(fields) > NUM_COORDINATES + 1 else "0"
        if difficult not in ("0", "1", "2"):
            raise ValueError(f"line {number}: `difficult` is {difficult!r}; expected 0, 1 or 2")
        polygon = _quad(number, fields[:NUM_COORDINATES])
        objects.append(DotaObject(polygon, fields[NUM_COORDINATES], int(difficult)))
    return objects


def parse_yolo_obb(text: str, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Quads (N, 4, 2) float32 in pixels and class indices (N,) of lines `class x1 y1 x2 y2 x3 y3 x4 y4`.

    Args:
        text: of the file, whose coordinates are shares of width and height.
        width: of the image in pixels.
        height: likewise.

    Raises:
        ValueError: naming the line that is of another form.
    """
    quads, labels = [np.zeros((0, 4, 2), np.float32)], []
    for number, fields in _lines(text):
        if len(fields) != NUM_COORDINATES + 1 or not fields[0].isdecimal():
            raise ValueError(f"line {number} is {' '.join(fields)!r}; expected `class x1 y1 x2 y2 x3 y3 x4 y4`")
        quads.append(_quad(number, fields[1:])[None] * np.array([width, height], np.float32))
        labels.append(int(fields[0]))
    return np.concatenate(quads), np.array(labels, np.int64)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers and fields of the lines that are not empty."""
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        if fields := line.split():
            yield number, fields


def _quad(number: int, fields: list[str]) -> np.ndarray:
    """(4, 2) float32."""
    try:
        quad = np.array(fields, dtype=np.float32).reshape(4, 2)
    except ValueError as error:
        raise ValueError(f"line {number}: {' '.join(fields)!r} are no eight numbers") from error
    if not np.isfinite(quad).all():
        raise ValueError(f"line {number}: a coordinate is NaN or infinite")
    return quad
