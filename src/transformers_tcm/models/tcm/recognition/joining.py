"""Words that were found in pieces, put together by how they read.

Prices and numbers fall apart at their separators, words where their lettering is wide. What `Recognizer.find_words`
takes for one word along both pieces, and what reads as one, takes their place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ....bezier import CORNERS, bezier_joined
from ..heads.base import Regions
from .proposals import regions_at, regions_to_bezier
from .reading import WordReading
from .sampling import quads_to_bezier, word_heights
from .splitting import LIKELIER, Likelihoods, Read, Sections, letters_score

__all__ = ["join_pieces"]

# In mean heights of two pieces: how far apart they may be, and beside each other's line.
_LARGEST_GAP, _LARGEST_OFFSET = 0.8, 0.45
# Heights that a piece reaches further than the other on its end.
_LEAST_ADVANCE = 0.15
# Of their heights, and between their directions.
_LARGEST_RATIO, _LEAST_COSINE = 1.8, 0.93
# As many pieces of a word as this number and one, from left to right.
_MOST_JOINS = 3
# What reads otherwise than its pieces side by side has a separator between them, or letters that both pieces have, and
# has to be this clear beside them; what reads the same may be two words that stand close, and has to be `LIKELIER`.
_CLEAR_ENOUGH = 0.75

Find = Callable[[Regions], Sequence[Sections]]


def join_pieces(
    regions: Regions, readings: Sequence[WordReading], find: Find, read: Read, likelihoods: Likelihoods
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with one region in the place of two that are pieces of a word, and without pieces
    of what was read whole.

    Args:
        regions: N regions that were read.
        readings: of each.
        find: the words along regions, see `Recognizer.find_words`.
        read: reads regions, and fills their `char_logits`.
        likelihoods: of readings.
    """
    readings = list(readings)
    fresh = set(range(len(readings)))  # of the others it is known what they are pieces of
    for _ in range(_MOST_JOINS):
        pairs = [pair for pair in _neighbours(regions) if not fresh.isdisjoint(pair)]
        if not pairs:
            break
        wholes = _joined(regions, pairs)
        single = [index for index, words in enumerate(find(wholes)) if len(words) == 1]
        if not single:
            break
        wholes, pairs = wholes.select(single), [pairs[index] for index in single]
        found = list(read(wholes))
        joined = _chosen(pairs, readings, found, likelihoods)
        if not joined:
            break
        order = _with_wholes(len(readings), joined)
        fresh = {place for place, index in enumerate(order) if index >= len(readings)}
        everything = [*readings, *found]
        regions, readings = Regions.joined([regions, wholes]).select(order), [everything[index] for index in order]
    return _without_scraps(regions, readings)


@dataclass(frozen=True)
class _Lines:
    """How regions lie beside each other, (N, N) each, in mean heights along the direction of the row's region."""

    on_line: torch.Tensor  # the column's region is on the line of the row's, and of its size
    gap: torch.Tensor  # from where the row's ends to where the column's begins
    later_begin: torch.Tensor  # by how much the column's begins and ends beyond where the row's does
    later_end: torch.Tensor


def _lines(regions: Regions) -> _Lines:
    points = regions_to_bezier(regions).cpu()
    heights, middle = word_heights(points), (points[:, :4] + points[:, 4:].flip(1)) / 2  # (N,), (N, 4, 2)
    begins, ends = middle[:, 0], middle[:, 3]
    onward = functional.normalize(ends - middle[:, 2], dim=-1)  # (N, 2), the direction at the end
    entering = functional.normalize(middle[:, 1] - begins, dim=-1)
    unit = ((heights[:, None] + heights) / 2).clamp(min=1e-3)  # (N, N)

    def along(places: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        return ((others - places[:, None]) * onward[:, None]).sum(dim=-1) / unit

    gap = begins - ends[:, None]  # (N, N, 2)
    offset = (gap[..., 0] * onward[:, None, 1] - gap[..., 1] * onward[:, None, 0]).abs() / unit
    on_line = (
        (regions.batch_indices[:, None] == regions.batch_indices).cpu()
        & (offset < _LARGEST_OFFSET)
        & (torch.maximum(heights[:, None], heights) < _LARGEST_RATIO * torch.minimum(heights[:, None], heights))
        & (onward @ entering.T > _LEAST_COSINE)
    ).fill_diagonal_(False)
    return _Lines(on_line, along(ends, begins), along(begins, begins), along(ends, ends))


def _neighbours(regions: Regions) -> list[tuple[int, int]]:
    """Pairs of regions of which the second goes on, in the reading direction, where the first ends."""
    lines = _lines(regions)
    goes_on = torch.minimum(lines.later_begin, lines.later_end) > _LEAST_ADVANCE
    pairs: list[tuple[int, int]] = (lines.on_line & goes_on & (lines.gap < _LARGEST_GAP)).nonzero().tolist()
    return pairs


def _without_scraps(regions: Regions, readings: Sequence[WordReading]) -> tuple[Regions, list[WordReading]]:
    """Without regions that lie within another and say a part of what that says."""
    lines = _lines(regions)
    within = lines.on_line & (lines.later_begin > -_LEAST_ADVANCE) & (lines.later_end < _LEAST_ADVANCE)
    scraps = {
        inner
        for outer, inner in within.nonzero().tolist()
        if len(readings[inner].text) < len(readings[outer].text)
        and readings[inner].text.casefold() in readings[outer].text.casefold()
    }
    kept = [index for index in range(len(readings)) if index not in scraps]
    return (regions.select(kept), [readings[index] for index in kept]) if scraps else (regions, list(readings))


def _joined(regions: Regions, pairs: Sequence[tuple[int, int]]) -> Regions:
    """A region from where the first of each pair begins to where the second ends."""
    points = regions_to_bezier(regions).cpu().numpy()
    firsts, seconds = (regions.select(indices) for indices in zip(*pairs, strict=True))
    curves = []
    for first, second in pairs:
        if regions.counts[first] == regions.counts[second] == len(CORNERS):
            left, right = points[first], points[second]
            corners = np.stack([left[0], right[3], right[4], left[7]])
            curves.append(quads_to_bezier(torch.from_numpy(corners)).numpy())
        else:
            curves.append(bezier_joined(points[first], points[second]))
    wholes = regions_at(firsts, np.stack(curves))
    wholes.scores = torch.maximum(firsts.scores, seconds.scores)
    return wholes


def _chosen(
    pairs: Sequence[tuple[int, int]],
    readings: Sequence[WordReading],
    found: Sequence[WordReading],
    likelihoods: Likelihoods,
) -> dict[int, tuple[int, int]]:
    """Which of the wholes that were `found` to say something are better than their pair, the surest first, and that
    pair; no piece is of two."""
    of_pieces, of_wholes = likelihoods(readings), likelihoods(found)
    taken: set[int] = set()
    chosen = {}
    for index in sorted(range(len(found)), key=lambda index: -found[index].score):
        pieces = [readings[piece] for piece in pairs[index]]
        if found[index].text.casefold() == "".join(piece.text for piece in pieces).casefold():
            likelihood = letters_score(pieces, [of_pieces[piece] for piece in pairs[index]])
            better = of_wholes[index] > LIKELIER * likelihood
        else:
            better = found[index].score > _CLEAR_ENOUGH * letters_score(pieces, [piece.score for piece in pieces])
        if better and taken.isdisjoint(pairs[index]):
            taken.update(pairs[index])
            chosen[index] = pairs[index]
    return chosen


def _with_wholes(count: int, joined: dict[int, tuple[int, int]]) -> list[int]:
    """Indices of `count` regions, with those of wholes, which come after them, in the place of their pairs."""
    kept = {index: index for index in range(count)}
    for whole, (first, second) in joined.items():
        kept[first] = count + whole
        del kept[second]
    return list(kept.values())
