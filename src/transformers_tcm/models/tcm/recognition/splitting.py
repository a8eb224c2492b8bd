"""Words that were found as one, told apart by how they read."""

from collections.abc import Callable, Sequence

from ..heads.base import Regions
from .reading import WordReading

__all__ = ["split_joined_words"]

# What reads surer is one word.
_UNCLEAR = 0.7
# By how much surer parts have to read: what looks clear in half of a word may be another letter in the whole.
_LEAST_GAIN = 0.2
# A region of several words falls into two first, and these into more.
_MOST_SPLITS = 3


def split_joined_words(
    regions: Regions,
    readings: Sequence[WordReading],
    split: Callable[[Regions], tuple[Regions, Sequence[int]]],
    read: Callable[[Regions], Sequence[WordReading]],
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with the parts of a region in its place where these read surer than the whole.

    Args:
        regions: N regions that were read.
        readings: of each.
        split: gives M parts of some regions, and the index of the region that each is of: `DetectionHead.split`.
        read: reads parts, and fills their `char_logits`.
    """
    readings, parents = list(readings), [-1] * len(regions)
    latest = range(len(regions))
    for _ in range(_MOST_SPLITS):
        unclear = [index for index in latest if readings[index].score < _UNCLEAR]
        parts, sources = split(regions.select(unclear)) if unclear else (regions, [])
        if not sources:
            break
        latest = range(len(readings), len(readings) + len(sources))
        parents += [unclear[source] for source in sources]
        readings += read(parts)
        regions = Regions.joined([regions, parts])
    chosen = _surest(readings, parents)
    chosen.sort(key=regions.batch_indices.tolist().__getitem__)
    return regions.select(chosen), [readings[index] for index in chosen]


def _surest(readings: Sequence[WordReading], parents: Sequence[int]) -> list[int]:
    """Of each tree its root, or parts that make it up, as indices; parents (N,) stand before their parts, -1 for none.

    Sure is how the mean letter reads.
    """
    covers: list[list[int]] = [[] for _ in readings]
    roots: list[int] = []
    for index in reversed(range(len(readings))):
        letters = [len(readings[part].text) for part in covers[index]]
        total = sum(readings[part].score * count for part, count in zip(covers[index], letters, strict=True))
        if total <= (readings[index].score + _LEAST_GAIN) * sum(letters):
            covers[index] = [index]
        cover = roots if parents[index] < 0 else covers[parents[index]]
        cover[:0] = covers[index]
    return roots
