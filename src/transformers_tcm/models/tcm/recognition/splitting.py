"""Words that were found as one, told apart by how they read."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ....bezier import CORNERS, bezier_section, bezier_to_polygon
from ..heads.base import Regions
from .proposals import regions_to_bezier
from .reading import WordReading

__all__ = ["split_at_boundaries", "split_at_spaces", "split_joined_words"]

# What reads surer is one word.
_UNCLEAR = 0.7
# Of two words.
_FEWEST_LETTERS = 4
# By how much surer parts have to read: what looks clear in half of a word may be another letter in the whole.
_LEAST_GAIN = 0.2
# At first sight, without spelling, they may look a little less clear: joined words can be clear letter by letter.
_LEAST_GAIN_AT_SIGHT = -0.1
# A region of several words falls into two first, and these into more.
_MOST_SPLITS = 3

# Several words may read a little less sure than the whole, whose spelling may have left the space out.
_LEAST_GAIN_OF_SEVERAL = -0.1
_FEWEST_LETTERS_OF_SEVERAL = 2

Read = Callable[[Regions], Sequence[WordReading]]
Split = Callable[[Regions], tuple[Regions, Sequence[int]]]

# Where words along a region begin and end, in shares of its length.
Sections = Sequence[tuple[float, float]]
_WHOLE = [(0.0, 1.0)]


def split_joined_words(
    regions: Regions, readings: Sequence[WordReading], split: Split, glance: Read, read: Read
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with the parts of a region in its place where these read surer than the whole.

    Args:
        regions: N regions that were read.
        readings: of each.
        split: gives M parts of some regions, and the index of the region that each is of: `DetectionHead.split`.
        glance: first looks at regions. Most regions that are hard to read are no words, and neither are their parts:
            what looks worse at first sight is not read.
        read: reads regions, and fills their `char_logits`.
    """
    unclear = [
        index
        for index, reading in enumerate(readings)
        if reading.score < _UNCLEAR and len(reading.text) >= _FEWEST_LETTERS
    ]
    parts, sources = _likely_parts(regions.select(unclear), split, glance)
    if not sources:
        return regions, list(readings)
    return _with_parts(regions, readings, unclear, parts, sources, read(parts), [_LEAST_GAIN] * len(unclear))


def split_at_spaces(
    regions: Regions, readings: Sequence[WordReading], spaces: Sequence[Sequence[tuple[float, float]]], read: Read
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with the words of a region in its place where it looks as if it held spaces.

    Args:
        regions: N regions that were read.
        readings: of each.
        spaces: of each, see `Recognizer.find_spaces`.
        read: reads regions, and fills their `char_logits`.
    """
    sections = []
    for found in spaces:
        ends = [0.0, *(share for space in found for share in space), 1.0]
        sections.append(list(zip(ends[::2], ends[1::2], strict=True)))
    return _with_sections(regions, readings, sections, read, fewest_letters=1)


def split_at_boundaries(
    regions: Regions, readings: Sequence[WordReading], words: Sequence[Sections], read: Read
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with the words along a region in its place: one with other ends where that reads
    surer, several unless they read less sure or one of them is a single letter, as those of wide lettering are.

    Args:
        regions: N regions that were read.
        readings: of each.
        words: of each, see `Recognizer.find_words`.
        read: reads regions, and fills their `char_logits`.
    """
    return _with_sections(regions, readings, words, read, _FEWEST_LETTERS_OF_SEVERAL)


def _with_sections(
    regions: Regions,
    readings: Sequence[WordReading],
    sections: Sequence[Sections],
    read: Read,
    fewest_letters: int,
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with sections of them in their place where these read well enough."""
    changed = [index for index, found in enumerate(sections) if list(found) != _WHOLE]
    if not changed:
        return regions, list(readings)
    parts, sources = _sections(regions.select(changed), [sections[index] for index in changed])
    found = read(parts)
    gains = [0.0 if len(sections[index]) == 1 else _LEAST_GAIN_OF_SEVERAL for index in changed]
    for source, reading in zip(sources, found, strict=True):
        if len(sections[changed[source]]) > 1 and len(reading.text) < fewest_letters:
            gains[source] = np.inf
    return _with_parts(regions, readings, changed, parts, sources, found, gains)


def _sections(regions: Regions, sections: Sequence[Sections]) -> tuple[Regions, Sequence[int]]:
    """Sections of regions as regions, and which region each is of."""
    sources, curves, outlines = [], [], []
    four_cornered = (regions.counts == len(CORNERS)).tolist()
    for index, (whole, found) in enumerate(zip(regions_to_bezier(regions).cpu().numpy(), sections, strict=True)):
        for first, last in found:
            part = bezier_section(whole, first, last)
            curves.append(part)
            outlines.append(part[CORNERS] if four_cornered[index] else bezier_to_polygon(part))
            sources.append(index)
    parts = regions.select(sources)
    parts.char_logits = None  # those of the whole regions
    parts.points = torch.from_numpy(np.concatenate(outlines)).to(regions.points)
    parts.counts = torch.tensor([len(outline) for outline in outlines]).to(regions.counts)
    if regions.control_points is not None:
        parts.control_points = torch.from_numpy(np.stack(curves)).to(regions.control_points)
    return parts, sources


def _with_parts(
    regions: Regions,
    readings: Sequence[WordReading],
    candidates: Sequence[int],
    parts: Regions,
    sources: Sequence[int],
    found: Sequence[WordReading],
    least_gains: Sequence[float],
) -> tuple[Regions, list[WordReading]]:
    """Regions and readings with parts, and what was `found` in them, in the place of candidates that they read surer
    than by a least gain each; `sources` are the candidates, counted from 0, that parts are of."""
    covers: list[list[int]] = [[] for _ in candidates]
    for index, source in enumerate(sources):
        covers[source].append(index)
    chosen: list[list[int]] = [[index] for index in range(len(readings))]
    for index, cover, least_gain in zip(candidates, covers, least_gains, strict=True):
        if _gain([found[part] for part in cover], readings[index]) > least_gain:
            chosen[index] = [len(readings) + part for part in cover]
    kept = [index for cover in chosen for index in cover]
    everything = [*readings, *found]
    return Regions.joined([regions, parts]).select(kept), [everything[index] for index in kept]


def _likely_parts(regions: Regions, split: Split, glance: Read) -> tuple[Regions, list[int]]:
    """Parts that look no worse than the region they are of, and the index of that region for each."""
    # Trees, whole regions first, then what these fall into, and so on.
    nodes, looks, parents = regions, list(glance(regions)), [-1] * len(regions)
    latest = list(range(len(regions)))
    for _ in range(_MOST_SPLITS):
        parts, sources = split(nodes.select(latest)) if latest else (nodes, [])
        if not sources:
            break
        parents += [latest[source] for source in sources]
        looks += glance(parts)
        nodes = Regions.joined([nodes, parts])
        latest = _worth_splitting(looks, parents, len(parts))
    covers: list[list[int]] = [[] for _ in looks]
    # Parts come before what they are of.
    for index in reversed(range(len(looks))):
        if _gain([looks[part] for part in covers[index]], looks[index]) <= _LEAST_GAIN_AT_SIGHT:
            covers[index] = [index]
        if parents[index] >= 0:
            covers[parents[index]][:0] = covers[index]
    split_ones = [index for index in range(len(regions)) if covers[index] != [index]]
    chosen = [(part, index) for index in split_ones for part in covers[index]]
    return nodes.select([part for part, _ in chosen]), [index for _, index in chosen]


def _worth_splitting(looks: Sequence[WordReading], parents: Sequence[int], count: int) -> list[int]:
    """Which of the last `count` parts look unclear, but with their siblings no worse than what they are of."""
    latest = range(len(looks) - count, len(looks))
    siblings = {parent: [looks[index] for index in latest if parents[index] == parent] for parent in parents[-count:]}
    better = {parent for parent, parts in siblings.items() if _gain(parts, looks[parent]) > _LEAST_GAIN_AT_SIGHT}
    return [index for index in latest if parents[index] in better and looks[index].score < _UNCLEAR]


def _gain(parts: Sequence[WordReading], whole: WordReading) -> float:
    """How much surer the mean letter of the parts is."""
    letters = sum(len(part.text) for part in parts)
    return sum(part.score * len(part.text) for part in parts) / max(letters, 1) - whole.score
