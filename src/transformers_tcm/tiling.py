"""Large photos in overlapping tiles, and one result made from those of the tiles.

Tiles are of one size and spread evenly, so that neighbours share at least the overlap; what is no longer than that in
either direction lies whole in one of them. A tile *holds* an outline that lies in it and keeps away from its borders by
half the shorter side of the outline's smallest rectangle, 4 pixels at least; borders of the photo do not count. The
photo as a whole, made smaller, is the overview. Then:

1. A detection that its tile does not hold, but another one does, is dropped: the other tile sees all of it, and how it
   goes on. One that no tile holds is a piece of a word that is too long for the overlap.
2. The overview only counts for what no tile holds, and there only where whole words of the tiles cover no more than
   half of it, as they cover a line that the overview takes for a word.
3. What is left is taken in turn: from the overview; whole words whose centre is nearer to the middle of their own tile
   than to that of a neighbour; other whole words; pieces. Within a turn it is by falling score, pieces by falling area.
   One that shares more than half of the smaller area with one already taken is left out, unless both are of one tile.

So a word is reported once, and whole wherever a tile or the overview sees it whole. A word that is too long for the
tiles and too small for the overview may still come out as pieces.

Looks at a whole picture, a fine one and a coarser one after it, join more simply, by `merge_levels`: where they see the
same word the surer one counts, and rather the coarse one if the word is large enough to be read in it, otherwise the
fine one. `may_hold_larger` and `holds_large` tell of a fine look whether a coarse one is worth its time: what is too
large for it is seen in pieces, large ones as well. `worth_reading` tells which regions of a coarse look are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from . import geometry
from .instances import TextInstances

__all__ = [
    "Box",
    "TileGrid",
    "holds_large",
    "may_hold_larger",
    "merge_levels",
    "merge_tiles",
    "stitch_maps",
    "worth_reading",
]

Box = tuple[int, int, int, int]

# Pixels that an outline keeps away from the border of a tile at least, however low the word.
_SMALLEST_MARGIN = 4.0
# Of the smaller of two areas.
_SAME_WORD = 0.5
# Pixels that a word is high in a coarse look for its letters to be as clear there as in a fine one.
_CLEAR_HEIGHT = 28.0
# Pixels that the highest word of a fine look would be high in a coarse one for that to show more (docs/accuracy.md).
_LARGE_HEIGHT = 24.0
# What the look counts, beside a score, that shows letters of a size as large as the network reads best.
_CLEARER = 0.3
# What is found may also be specks of letters that are too large.
_FEW_WORDS = 2
# The share of a region that words cover if it is nothing but these: two words that were found as one are more.
_COVERED = 0.7
# Of the height of a region, how far away other pieces of the same word are at most, as where these are joined.
_NEAR = 0.8
# The turns of the module's third rule.
_OVERVIEW, _CENTRAL, _WHOLE, _PIECE = range(4)


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles of a photo.

    Args:
        width: of the photo in pixels.
        height: of the photo in pixels.
        tile: side of a tile in pixels; a photo that is shorter in one direction has tiles as short.
        overlap: pixels that neighbours share at least, at most half of `tile`.

    Raises:
        TypeError: if a number is none of whole pixels.
        ValueError: if it is out of range.
    """

    width: int
    height: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise ValueError(f"the photo has {self.width} x {self.height} pixels; expected at least one")
        if not all(isinstance(number, int) for number in (self.tile, self.overlap)):
            raise TypeError(f"`tile` and `tile_overlap` are {self.tile!r} and {self.overlap!r}; expected whole pixels")
        if self.tile < 64:
            raise ValueError(f"`tile` is {self.tile}; expected at least 64 pixels, or 0 for none")
        if not 0 <= self.overlap <= self.tile // 2:
            raise ValueError(
                f"`tile_overlap` is {self.overlap}; expected 0 to {self.tile // 2} pixels, half of `tile` at most"
            )

    @property
    def whole(self) -> Box:
        """The box of the photo."""
        return 0, 0, self.width, self.height

    @property
    def tiles(self) -> list[Box]:
        """Boxes x_min, y_min, x_max, y_max of all tiles, row by row."""
        columns, rows = self._spans(self.width), self._spans(self.height)
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    @property
    def cores(self) -> list[Box]:
        """For each of `tiles` the part of the photo that is nearer to its middle; these cover the photo once."""
        columns, rows = _middles(self._spans(self.width)), _middles(self._spans(self.height))
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """Start and end of the tiles in one direction."""
        if length <= self.tile:
            return [(0, length)]
        last = -(-(length - self.overlap) // (self.tile - self.overlap)) - 1
        starts = [index * (length - self.tile) // last for index in range(last + 1)]
        return [(start, start + self.tile) for start in starts]

    def holds(self, tile: Box, boxes: np.ndarray, margins: np.ndarray) -> np.ndarray:
        """Which boxes (N, 4) lie in a tile and as far as `margins` (N,) from its borders, (N,) bool."""
        low = np.where(np.array(tile[:2]) > 0, tile[:2], -np.inf)
        high = np.where(np.array(tile[2:]) < [self.width, self.height], tile[2:], np.inf)
        margin = margins[:, None]
        return ((boxes[:, :2] - margin >= low) & (boxes[:, 2:] + margin <= high)).all(axis=1)


def _middles(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans up to the middle of what neighbours share."""
    cuts = [(end + start) // 2 for (_, end), (start, _) in pairwise(spans)]
    return list(zip([spans[0][0], *cuts], [*cuts, spans[-1][1]], strict=True))


def merge_tiles(grid: TileGrid, found: Sequence[tuple[Box, TextInstances]]) -> TextInstances:
    """One result for a photo, by the rules of the module.

    Args:
        grid: the tiles.
        found: the box of a tile, or `grid.whole` for the overview, and the detections in it with their scores, in
            pixels of the photo.

    Returns:
        The instances that remain, in the order in which they were taken.
    """
    instances = _joined([one for _, one in found])
    if not len(instances):
        return instances
    cores = dict(zip(grid.tiles, grid.cores, strict=True))
    sources = np.repeat(np.arange(len(found)), [len(one) for _, one in found])
    margins = np.array([_margin(polygon) for polygon in instances.polygons])
    held = np.any([grid.holds(tile, instances.boxes, margins) for tile in cores], axis=0)
    ranks = np.concatenate(
        [_ranks(grid, box, cores.get(box), one, margins[sources == i]) for i, (box, one) in enumerate(found)]
    )
    candidates = np.flatnonzero(~held | (ranks == _CENTRAL) | (ranks == _WHOLE))
    instances = instances.select(candidates)
    return instances.select(_taken(instances, sources[candidates], ranks[candidates]))


def may_hold_larger(fine: TextInstances, scale: float) -> bool:
    """Whether a picture may hold letters too large for a fine look: it found hardly anything, or something large.

    Args:
        fine: what was found, also what is no word to be reported, in pixels of the picture.
        scale: by how much the picture would be enlarged for a coarse look.
    """
    return len(fine) <= _FEW_WORDS or holds_large(fine, scale)


def holds_large(fine: TextInstances, scale: float) -> bool:
    """Whether a fine look found something large; arguments as for `may_hold_larger`."""
    return any(scale * geometry.word_height(polygon) >= _LARGE_HEIGHT for polygon in fine.polygons)


def worth_reading(fine: TextInstances, coarse: TextInstances, scale: float) -> list[int]:
    """Which regions of a coarse look `merge_levels` is likely to take words from: large ones, those of which a good
    part lies beside all words of the fine look, and what stands next to one of these, which may be a piece of the same
    word.

    Args:
        fine, coarse, scale: see `merge_levels`; scores do not count.
    """
    import shapely

    first, second, shared, areas = _overlaps(TextInstances([*coarse.polygons, *fine.polygons]))
    count = len(coarse)
    known = (first < count) & (second >= count)
    covered = np.bincount(first[known], shared[known], minlength=count) > _COVERED * areas[:count]
    heights = np.array([geometry.word_height(polygon) for polygon in coarse.polygons])
    outlines = np.array([shapely.Polygon(polygon) for polygon in coarse.polygons], object)
    near, neighbours = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=_NEAR * heights)
    kept = (scale * heights >= _CLEAR_HEIGHT) | ~covered
    for _ in range(count):
        if kept[neighbours[kept[near]]].all():
            break
        kept[neighbours[kept[near]]] = True
    return np.flatnonzero(kept).tolist()


def merge_levels(fine: TextInstances, coarse: TextInstances, scale: float) -> TextInstances:
    """One result from a fine and a coarse look at the same picture (levels of an image pyramid).

    Args:
        fine, coarse: what was found in each with scores, in pixels of the picture.
        scale: by how much the picture was enlarged for the coarse look.

    Returns:
        The surest first, where words that are large in the coarse look and small ones of the fine look have an
        advantage, each only where no word of the other look that shares more than half of the smaller area is taken.
    """
    instances = _joined([coarse, fine])
    if not len(coarse) or not len(fine):
        return instances
    is_coarse = np.repeat([True, False], [len(coarse), len(fine)])
    is_large = scale * np.array([geometry.word_height(polygon) for polygon in instances.polygons]) >= _CLEAR_HEIGHT
    scores = np.asarray(instances.scores if instances.text_scores is None else instances.text_scores, np.float32)
    order = np.argsort(-scores - _CLEARER * (is_coarse == is_large), kind="stable").tolist()
    rivals, *_ = _rivals(instances, is_coarse)
    return instances.select(_greedy_nms(order, rivals))


def _margin(polygon: np.ndarray) -> float:
    """How far a word has to be from a border for being seen whole."""
    quad = geometry.min_area_quad(polygon)
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    return max(_SMALLEST_MARGIN, float(sides.min()) / 2)


def _joined(parts: Sequence[TextInstances]) -> TextInstances:
    """All instances one after the other; what one part lacks is left out."""
    fields: dict[str, Any] = {}
    for name in ("scores", "labels", "text_scores", "texts"):
        values = [getattr(part, name) for part in parts]
        if all(value is not None for value in values):
            fields[name] = [entry for value in values for entry in value]
    return TextInstances([polygon for part in parts for polygon in part.polygons], **fields)


def _ranks(grid: TileGrid, box: Box, core: Box | None, instances: TextInstances, margins: np.ndarray) -> np.ndarray:
    """The turn (N,) of the instances of a tile; without a core it is the overview."""
    boxes = instances.boxes
    if core is None:
        return np.full(len(boxes), _OVERVIEW)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    central = ((centers >= core[:2]) & (centers < core[2:])).all(axis=1)
    return np.where(grid.holds(box, boxes, margins), np.where(central, _CENTRAL, _WHOLE), _PIECE)


def _taken(instances: TextInstances, sources: np.ndarray, ranks: np.ndarray) -> list[int]:
    """Indices of what is reported, in turn."""
    rivals, (first, second, shared, areas) = _rivals(instances, sources)
    scores = np.zeros(len(areas)) if instances.scores is None else instances.scores
    order = np.lexsort((np.where(ranks == _PIECE, -areas, -scores), ranks))
    words = np.isin(np.arange(len(areas)), _greedy_nms([i for i in order if ranks[i] in (_CENTRAL, _WHOLE)], rivals))
    in_overview = (ranks[first] == _OVERVIEW) & words[second]
    covered = np.bincount(first[in_overview], shared[in_overview], minlength=len(areas))
    possible = words | (ranks == _PIECE) | ((ranks == _OVERVIEW) & (covered <= _SAME_WORD * areas))
    return _greedy_nms([i for i in order if possible[i]], rivals)


def _rivals(instances: TextInstances, sources: np.ndarray) -> tuple[dict[int, list[int]], Any]:
    """For each instance those of other sources (N,) that are the same word, and the `_overlaps` that tell."""
    first, second, shared, areas = overlaps = _overlaps(instances)
    same = (sources[first] != sources[second]) & (shared > _SAME_WORD * np.minimum(areas[first], areas[second]))
    rivals: dict[int, list[int]] = {}
    for one, other in zip(first[same].tolist(), second[same].tolist(), strict=True):
        rivals.setdefault(one, []).append(other)
    return rivals, overlaps


def _greedy_nms(order: Sequence[int], rivals: dict[int, list[int]]) -> list[int]:
    """Those of `order` that have no rival taken before them."""
    taken: dict[int, None] = {}
    for index in order:
        if not any(rival in taken for rival in rivals.get(index, ())):
            taken[index] = None
    return list(taken)


def _overlaps(instances: TextInstances) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices (P,) of both instances of each pair that overlaps, either way round, the area that they share, and the
    areas (N,) of all."""
    import shapely

    outlines = np.array([shapely.Polygon(polygon) for polygon in instances.polygons])
    # An outline that crosses itself has no area that could be shared.
    shapes = shapely.make_valid(outlines, method="structure", keep_collapsed=False)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    first, second = first[first != second], second[first != second]
    return first, second, shapely.area(shapely.intersection(shapes[first], shapes[second])), shapely.area(shapes)


def stitch_maps(grid: TileGrid, maps: Sequence[tuple[Box, np.ndarray]]) -> np.ndarray:
    """One map (height, width) float32 of a photo from those of its tiles, every pixel from the tile it is deepest in.

    Args:
        grid: the tiles.
        maps: for each tile its box and its map, as large as the box.
    """
    stitched = np.zeros((grid.height, grid.width), np.float32)
    cores = dict(zip(grid.tiles, grid.cores, strict=True))
    for tile, values in maps:
        left, top, right, bottom = cores[tile]
        stitched[top:bottom, left:right] = values[top - tile[1] : bottom - tile[1], left - tile[0] : right - tile[0]]
    return stitched
