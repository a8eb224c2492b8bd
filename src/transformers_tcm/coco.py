"""Annotations in the manner of COCO: objects with `bbox` and `segmentation`, and what they say.

References: Lin et al., "Microsoft COCO", ECCV 2014; Veit et al., "COCO-Text", 2016; Singh et al., "TextOCR", CVPR 2021.

The keys of an object that count, all but an outline optional:

1. The outline: `points` or `mask` (COCO-Text, TextOCR), flat lists `[x1, y1, x2, y2, …]`; else the largest polygon of
   `segmentation`, a list of such; else `bbox`, `[left, top, width, height]`. Run lengths, which are no outlines, are
   passed over.
2. The word: `utf8_string`, `text`, `transcription` or `word`.
3. What does not count: `ignore` or `iscrowd`, `legibility` other than "legible", a word of `###`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .geometry import signed_area
from .icdar import is_illegible

__all__ = ["coco_ignored", "coco_objects", "coco_outline", "coco_word"]

_WORDS = ("utf8_string", "text", "transcription", "word")
_OUTLINES = ("points", "mask", "polygon")


def coco_objects(annotations: Any) -> list[Mapping[str, Any]]:
    """The objects of an image, one dictionary for each.

    Args:
        annotations: a list of objects; a dictionary with such a list as `annotations`, as the image processors of
            transformers take it; or a dictionary of columns, as the `objects` of a dataset's row.

    Raises:
        TypeError: for anything else.
        ValueError: for columns of different lengths.
    """
    if isinstance(annotations, Mapping) and "annotations" in annotations:
        annotations = annotations["annotations"]
    if isinstance(annotations, Mapping):
        if others := [name for name, values in annotations.items() if not hasattr(values, "__len__")]:
            raise TypeError(f"expected columns of objects, or `annotations`; {others[0]!r} is no list")
        lengths = {name: len(values) for name, values in annotations.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of the objects differ in length: {lengths}")
        rows = zip(*annotations.values(), strict=True)
        return [dict(zip(annotations, row, strict=True)) for row in rows]
    if isinstance(annotations, Sequence) and all(isinstance(one, Mapping) for one in annotations):
        return list(annotations)
    raise TypeError(f"expected objects with `bbox` or `segmentation`, got {type(annotations).__name__}")


def coco_outline(entry: Mapping[str, Any]) -> np.ndarray:
    """The outline (K, 2) float32 of an object, in pixels.

    Raises:
        ValueError: if it has none.
    """
    polygons = [entry[name] for name in _OUTLINES if entry.get(name) is not None]
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, Sequence):
        polygons += segmentation
    outlines = [np.asarray(polygon, dtype=np.float32).reshape(-1, 2) for polygon in polygons if _is_outline(polygon)]
    if outlines:
        return max(outlines, key=lambda outline: abs(signed_area(outline)))
    box = entry.get("bbox")
    if box is None or len(box) != 4:
        raise ValueError(f"expected a `segmentation` of polygons or a `bbox` of four numbers, got {sorted(entry)}")
    left, top, width, height = map(float, box)
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)


def _is_outline(polygon: Any) -> bool:
    """Whether it is at least three points, flat or as pairs."""
    return isinstance(polygon, Sequence | np.ndarray) and np.size(polygon) >= 6 and np.size(polygon) % 2 == 0


def coco_word(entry: Mapping[str, Any]) -> str | None:
    """What an object says, `None` where it is not told."""
    words = (entry[name] for name in _WORDS if entry.get(name) is not None)
    return next((str(word).strip() or None for word in words), None)


def coco_ignored(entry: Mapping[str, Any]) -> bool:
    """Whether an object does not count."""
    legible = str(entry.get("legibility") or "legible").lower() == "legible"
    return bool(entry.get("ignore") or entry.get("iscrowd")) or not legible or is_illegible(coco_word(entry) or "")
