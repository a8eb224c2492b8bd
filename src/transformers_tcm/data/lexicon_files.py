"""Lexicons that are published with data sets for text spotting, and the rules by which the papers use them.

ICDAR's are S (strong, 100 words for each photo), W (weak, all words of the test photos) and G (generic, 90,000 words);
the words of all test photos of Total-Text and CTW1500 are "Full". Beside the lists of the competition there are those
of ABCNet (Y. Liu et al., CVPR 2020), whose pairs `UPPER original-form` are preferred.

TCM follows TESTR (X. Zhang et al., CVPR 2022): Full and G take the nearest word always, S and W only below a distance
of 2.5. Other papers differ, so that a figure tells nothing without its rule.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..lexicon import Lexicon, LexiconRule

__all__ = ["FULL_LEXICON", "LexiconFiles", "PublishedLexicon", "icdar_lexicons", "read_lexicon"]

_PHOTO = "{stem}"  # of the name of a photo
_TESTR_DISTANCE = 2.5


@dataclass(frozen=True)
class LexiconFiles:
    """Where a lexicon lies in the folder of a data set, and how it is used.

    Args:
        pairs: names of files with lines `UPPER original-form`; the first that matches counts.
        words: of files with a word a line, where there are no pairs. `{stem}` in either is that of a photo.
        rule: how words replace readings.
        max_distance: and its limit.
    """

    pairs: tuple[str, ...]
    words: tuple[str, ...]
    rule: LexiconRule = "nearest"
    max_distance: float | None = None

    @property
    def for_each_photo(self) -> bool:
        """Whether there is one for each photo."""
        return any(_PHOTO in pattern for pattern in (*self.pairs, *self.words))


@dataclass(frozen=True)
class PublishedLexicon:
    """A lexicon as read.

    Args:
        lexicon: one for all photos, or one for each.
        rule: how the papers use it.
        max_distance: and their limit.
    """

    lexicon: Lexicon | list[Lexicon]
    rule: LexiconRule
    max_distance: float | None


def icdar_lexicons(challenge: str) -> Mapping[str, LexiconFiles]:
    """Those of a challenge (`ch2`, `ch4`) of the Robust Reading Competition."""
    return {
        "strong": LexiconFiles(
            ("pair_voc_{stem}.txt",), ("new_voc_{stem}.txt", "voc_{stem}.txt"), "within", _TESTR_DISTANCE
        ),
        "weak": LexiconFiles(
            (f"{challenge}_test_vocabulary_pair_list.txt",),
            (f"{challenge}_test_vocabulary_new.txt", f"{challenge}_test_vocabulary.txt"),
            "within",
            _TESTR_DISTANCE,
        ),
        "generic": LexiconFiles(
            ("GenericVocabulary_pair_list.txt",), ("GenericVocabulary_new.txt", "GenericVocabulary.txt")
        ),
    }


FULL_LEXICON: Mapping[str, LexiconFiles] = {
    "full": LexiconFiles(("weak_voc_pair_list.txt", "*lexicon_pair_list.txt"), ("weak_voc*.txt",))
}


def read_lexicon(files: LexiconFiles, folder: Path, image_ids: Sequence[str]) -> PublishedLexicon:
    """Read a lexicon, for each of the photos where it has one for each.

    Raises:
        FileNotFoundError: if there are no such files in the folder or below it.
        ValueError: if one is empty or cannot be read; it is named.
    """
    names = {path.name: path for path in sorted(folder.rglob("*.txt"))}
    if files.for_each_photo:
        words: Lexicon | list[Lexicon] = [_read(files, names, folder, Path(photo).stem) for photo in image_ids]
    else:
        words = _read(files, names, folder, "")
    return PublishedLexicon(words, files.rule, files.max_distance)


def _read(files: LexiconFiles, names: Mapping[str, Path], folder: Path, stem: str) -> Lexicon:
    patterns = [(pattern.replace(_PHOTO, stem), pattern in files.pairs) for pattern in (*files.pairs, *files.words)]
    for pattern, pairs in patterns:
        if found := fnmatch.filter(names, pattern):
            return Lexicon.from_file(names[found[0]], pairs=pairs)
    wanted = " or ".join(pattern for pattern, _ in patterns)
    raise FileNotFoundError(f"there is no lexicon {wanted} in {folder} or below it")
