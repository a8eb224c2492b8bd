"""Words that were found as one, told apart by how they read."""

from collections.abc import Callable, Sequence

import numpy as np

from ....bezier import bezier_section
from ..heads.base import Regions
from .proposals import regions_at, regions_to_bezier
from .reading import WordReading

__all__ = [
    "LIKELIER",
    "Likelihoods",
    "Read",
    "Sections",
    "letters_score",
    "split_at_boundaries",
    "split_at_spaces",
    "split_joined_words",
]

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
# They are one word if that is likelier by this factor: of words that stand close both are words.
LIKELIER = 1.4
_FEWEST_LETTERS_OF_SEVERAL = 2

# Reads regions, and fills their `char_logits`.
Read = Callable[[Regions], Sequence[WordReading]]
# How likely readings are words, by how clear they are and how they are spelled.
Likelihoods = Callable[[Sequence[WordReading]], Sequence[float]]
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
    found = read(parts)
    covers = _covers(sources, len(unclear))
    surer = [
        _gain([found[part] for part in cover], readings[index]) > _LEAST_GAIN
        for index, cover in zip(unclear, covers, strict=True)
    ]
    return _with_parts(regions, readings, unclear, parts, found, covers, surer)


def split_at_spaces(
    regions: Regions,
    readings: Sequence[WordReading],
    spaces: Sequence[Sections],
    read: Read,
    likelihoods: Likelihoods,
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with the words of a region in its place where it looks as if it held spaces.

    Args:
        regions: N regions that were read.
        readings: of each.
        spaces: of each, see `Recognizer.find_spaces`.
        read: reads regions, and fills their `char_logits`.
        likelihoods: of readings.
    """
    sections = []
    for found in spaces:
        ends = [0.0, *(share for space in found for share in space), 1.0]
        sections.append(list(zip(ends[::2], ends[1::2], strict=True)))
    return _with_sections(regions, readings, sections, read, likelihoods, fewest_letters=1)


def split_at_boundaries(
    regions: Regions,
    readings: Sequence[WordReading],
    words: Sequence[Sections],
    read: Read,
    likelihoods: Likelihoods,
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with the words along a region in its place: one with other ends where that is
    likelier a word, several unless they read less sure, are much likelier one word, or one of them is a single letter,
    as those of wide lettering are.

    Args:
        regions: N regions that were read.
        readings: of each.
        words: of each, see `Recognizer.find_words`.
        read: reads regions, and fills their `char_logits`.
        likelihoods: of readings. How clear letters are does not tell a word from one that lacks its first.
    """
    return _with_sections(regions, readings, words, read, likelihoods, _FEWEST_LETTERS_OF_SEVERAL)


def _with_sections(
    regions: Regions,
    readings: Sequence[WordReading],
    sections: Sequence[Sections],
    read: Read,
    likelihoods: Likelihoods,
    fewest_letters: int,
) -> tuple[Regions, list[WordReading]]:
    """Regions and their readings, with sections of them in their place where these read well enough."""
    changed = [index for index, found in enumerate(sections) if list(found) != _WHOLE]
    if not changed:
        return regions, list(readings)
    parts, sources = _sections(regions.select(changed), [sections[index] for index in changed])
    found = read(parts)
    covers = _covers(sources, len(changed))
    of_wholes, of_parts = likelihoods([readings[index] for index in changed]), likelihoods(found)

    def better(candidate: int, cover: Sequence[int]) -> bool:
        whole, words = readings[changed[candidate]], [found[part] for part in cover]
        likelihood = letters_score(words, [of_parts[part] for part in cover])
        if len(words) == 1:
            # Spelling does not tell whether there is a full stop.
            return words[0].score > whole.score if _same_letters(words[0], whole) else likelihood > of_wholes[candidate]
        return (
            min(len(word.text) for word in words) >= fewest_letters
            and _gain(words, whole) > _LEAST_GAIN_OF_SEVERAL
            and LIKELIER * likelihood > of_wholes[candidate]
        )

    chosen = [better(candidate, cover) for candidate, cover in enumerate(covers)]
    return _with_parts(regions, readings, changed, parts, found, covers, chosen)


def _same_letters(one: WordReading, other: WordReading) -> bool:
    """Whether two readings differ by nothing but punctuation and case."""
    texts = ("".join(filter(str.isalnum, reading.text.casefold())) for reading in (one, other))
    return len(set(texts)) == 1


def _sections(regions: Regions, sections: Sequence[Sections]) -> tuple[Regions, Sequence[int]]:
    """Sections of regions as regions, and which region each is of."""
    sources, curves = [], []
    for index, (whole, found) in enumerate(zip(regions_to_bezier(regions).cpu().numpy(), sections, strict=True)):
        for first, last in found:
            curves.append(bezier_section(whole, first, last))
            sources.append(index)
    return regions_at(regions.select(sources), np.stack(curves)), sources


def _covers(sources: Sequence[int], count: int) -> list[list[int]]:
    """Which parts each of `count` candidates has, of parts that are of the candidates `sources`."""
    covers: list[list[int]] = [[] for _ in range(count)]
    for index, source in enumerate(sources):
        covers[source].append(index)
    return covers


def _with_parts(
    regions: Regions,
    readings: Sequence[WordReading],
    candidates: Sequence[int],
    parts: Regions,
    found: Sequence[WordReading],
    covers: Sequence[Sequence[int]],
    better: Sequence[bool],
) -> tuple[Regions, list[WordReading]]:
    """Regions and readings with parts, and what was `found` in them, in the place of the candidates that they are
    better than; `covers` are the parts of each candidate."""
    chosen: list[list[int]] = [[index] for index in range(len(readings))]
    for index, cover, take in zip(candidates, covers, better, strict=True):
        if take:
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
    return letters_score(parts, [part.score for part in parts]) - whole.score


def letters_score(words: Sequence[WordReading], scores: Sequence[float]) -> float:
    """Mean over the letters of words of the scores of these words."""
    letters = [len(word.text) for word in words]
    return sum(score * count for score, count in zip(scores, letters, strict=True)) / max(sum(letters), 1)
