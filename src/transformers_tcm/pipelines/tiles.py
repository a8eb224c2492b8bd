"""Photos cut for the pipelines: tiles pass through their batches as images do, each with its place in its photo."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers.image_utils import SizeDict

from ..instances import Instances, OrientedInstances, TextInstances
from ..models.tcm.image_processing_common_tcm import resized_size
from ..rotated_boxes import quads_to_boxes, rotated_nms
from ..tiling import Box, TileGrid, merge_tiles, stitch_maps

__all__ = ["Place", "Tile", "cut", "each", "merged_instances", "merged_objects", "merged_score_map", "size_policy"]

Size = tuple[int, int]
Found = TypeVar("Found", bound=Instances)


@dataclass(frozen=True)
class Place:
    """Where a tile lies.

    Args:
        box: x_min, y_min, x_max, y_max in the photo as it is read.
        grid: the tiles of that photo.
        photo: its original height and width.
        is_last: no other tile of it follows.
    """

    box: Box
    grid: TileGrid
    photo: Size
    is_last: bool


@dataclass(frozen=True)
class Tile:
    """A part of a photo, or its overview, and the settings of the image processor by which it is read."""

    image: Image.Image
    place: Place
    settings: dict[str, Any]


def each(inputs: Iterable[Any]) -> Iterable[Any]:
    """The images of a list, a generator or a dataset."""
    if isinstance(inputs, Dataset) and hasattr(inputs, "__len__"):
        return (inputs[index] for index in range(len(inputs)))
    return inputs


def cut(
    photo: Image.Image,
    processor: Any,
    size: dict[str, int] | int | None,
    tile: int,
    overlap: int,
    with_overview: bool = True,
) -> Iterator[Tile]:
    """The overview of a photo and its tiles; nothing where it is read as a whole.

    That is where it fits into a tile, or, with an overview and without a `size`, where it would not be made smaller to
    be read.

    Args:
        photo: upright.
        processor: the image processor of the model.
        size: to which photos are resized before they are cut; `None` leaves them as they are.
        tile, overlap: see `TileGrid`.
        with_overview: read the photo as a whole as well, made smaller.
    """
    own = (photo.height, photo.width)
    usual = resized_size(*own, SizeDict(**dict(processor.size))) if processor.do_resize else own
    read = own if size is None else resized_size(*own, size_policy(size))
    is_made_smaller = size is not None or not processor.do_resize or np.prod(usual) < np.prod(own)
    if max(read) <= tile or (with_overview and not is_made_smaller):
        return
    if read != own:
        photo = photo.resize(read[::-1], processor.resample)
    grid = TileGrid(width=read[1], height=read[0], tile=tile, overlap=overlap)
    if with_overview:
        # Half as large as the photo is read at most, or it would be no overview.
        height, width = (max(1, min(pair[0], pair[1] // 2)) for pair in zip(usual, read, strict=True))
        whole = Place(grid.whole, grid, own, is_last=False)
        yield Tile(photo, whole, {"do_resize": True, "size": {"height": height, "width": width}})
    tiles = grid.tiles
    for box in tiles:
        yield Tile(photo.crop(box), Place(box, grid, own, is_last=box == tiles[-1]), {"do_resize": False})


def size_policy(size: dict[str, int] | int) -> SizeDict:
    """As the image processor understands it.

    Raises:
        ValueError: if it does not.
    """
    edges = {"longest_edge": size} if isinstance(size, int) else dict(size)
    known = ({"longest_edge"}, {"shortest_edge", "longest_edge"}, {"height", "width"})
    if set(edges) not in known or min(edges.values()) < 1:
        raise ValueError(
            f"`size` is {size}; expected a number of pixels, or a dict with longest_edge, with shortest_edge and "
            "longest_edge, or with height and width"
        )
    return SizeDict(**edges)


def merged_instances(tiles: list[tuple[Place, TextInstances]]) -> TextInstances:
    """The text of a photo in pixels of the photo as it is read, from that of its tiles in pixels of theirs."""
    return merge_tiles(tiles[0][0].grid, [(place.box, _moved(place, found)) for place, found in tiles])


def merged_objects(tiles: list[tuple[Place, OrientedInstances]], nms_threshold: float) -> OrientedInstances:
    """The objects of a photo by falling score, as `merged_instances`, by class-wise non-maximum suppression."""
    parts = [_moved(place, found) for place, found in tiles]
    polygons = [polygon for part in parts for polygon in part.polygons]
    scores = np.concatenate([np.asarray(part.scores) for part in parts])
    labels = np.concatenate([np.asarray(part.labels) for part in parts])
    boxes = torch.from_numpy(quads_to_boxes(np.array(polygons, np.float32).reshape(-1, 4, 2)))
    kept = rotated_nms(boxes, torch.from_numpy(scores), torch.from_numpy(labels), nms_threshold)
    return OrientedInstances(polygons, scores=scores, labels=labels).select(kept.numpy())


def _moved(place: Place, found: Found) -> Found:
    """What was found in a tile, in pixels of the photo as it is read."""
    corner = np.array(place.box[:2], np.float32)
    return found.with_polygons([polygon + corner for polygon in found.polygons])


def merged_score_map(tiles: list[tuple[Place, np.ndarray | None]]) -> np.ndarray | None:
    """The score map (height, width) of a photo as it is read, from those of its tiles, the overview left out."""
    maps = [(place.box, values) for place, values in tiles if values is not None and place.box != place.grid.whole]
    return stitch_maps(tiles[0][0].grid, maps) if maps else None
