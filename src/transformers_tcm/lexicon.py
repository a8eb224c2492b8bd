"""Lexicons: the word of a list that a reading most likely stands for.

Three rules are in use, and a figure "with lexicon" means nothing without the name of its rule:

- `nearest`: the nearest word by plain edit distance, always (TESTR and TCM on Total-Text; generic lexicons);
- `within`: the nearest word if its distance is below a limit, otherwise the reading is dropped (1.5 in ABCNet and
  DeepSolo, 2.5 in TESTR and TCM for the strong and weak lexicons of ICDAR 2015);
- `weighted`: edits cost what the recogniser's own probabilities say of them (Mask TextSpotter v3, Liao et al., 2020).

Words are compared in upper case, with composed accents (Unicode NFC) and without the blanks around them, and come back
as the list wrote them, without those blanks.
"""

import logging
import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Literal, TypeAlias, get_args

import numpy as np

from .text_files import read_text, stripped

# Not that of transformers, which `--help` does not wait for.
logger = logging.getLogger(__name__)

__all__ = [
    "DEFAULT_MAX_DISTANCE",
    "Lexicon",
    "LexiconArgument",
    "LexiconRule",
    "checked_limit",
    "is_per_image",
    "lexicon_per_image",
    "weighted_distances",
]

LexiconRule: TypeAlias = Literal["nearest", "within", "weighted"]

# Of the rule `within`, as in ABCNet: at most one edit. TESTR's 2.5 takes any word of two letters for any other one.
DEFAULT_MAX_DISTANCE = 1.5

# Readings compared at once: 64 x 90,000 distances are 23 MB.
_CHUNK = 64
# The weighted distance is computed for words whose plain distance exceeds the smallest one by at most this much, as in
# Mask TextSpotter v3, and of those for so many, the nearest first.
_SLACK = 2
_MOST_CANDIDATES = 2000
# A character replaces another for nothing once it is a fifth as probable.
_REPLACEMENT_FACTOR = 5


class Lexicon:
    """A list of words, indexed once for any number of readings.

    Args:
        words: the words, whole numbers among them, or a mapping from the form that is compared to the form that is
            returned. Of words that differ in case only the first stays.

    Raises:
        TypeError: if `words` is a single string, a path or something else than words, or holds anything but strings
            and whole numbers.
        ValueError: if there are no words, or one is blank.
    """

    def __init__(self, words: Iterable[str | int] | Mapping[str | int, str | int]) -> None:
        if isinstance(words, str | bytes | bytearray) or not isinstance(words, Iterable):
            raise TypeError(f"expected a list of words, got {words!r}; `Lexicon.from_file` reads a file")
        pairs = words.items() if isinstance(words, Mapping) else ((word, word) for word in words)
        self._returned: dict[str, str] = {}
        for number, (compared, returned) in enumerate(pairs):
            if not _is_word(compared) or not _is_word(returned):
                raise TypeError(f"expected strings, got {compared!r} -> {returned!r} as word {number} of the lexicon")
            if not stripped(str(compared)):
                raise ValueError(f"word {number} of the lexicon is blank; leave it out")
            self._returned.setdefault(_compared_form(str(compared)), stripped(str(returned)))
        if not self._returned:
            raise ValueError("the lexicon is empty; give at least one word, or no lexicon at all")
        self._compared = list(self._returned)
        phrases = [word for word in self._compared if len(word.split()) > 1]
        if phrases:
            logger.warning(
                f"{len(phrases)} of {len(self._compared)} entries of the lexicon are several words, such as "
                f"{self._returned[phrases[0]]!r}; words are read one by one, so list them one by one"
            )
        self._characters = set("".join(self._compared))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], pairs: bool = False) -> "Lexicon":
        """Read a UTF-8 text file with a word in each line; blank lines are skipped.

        Args:
            path: the file.
            pairs: lines are `UPPER original-form`, as in the pair lists of the benchmarks: the first is compared, the
                second, which may hold spaces, is returned.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it holds no words, is not UTF-8, or a line is not a pair; the file is named.
        """
        text = read_text(path)
        # Not `splitlines`, which takes rare characters of a word for the end of a line.
        lines = [(number, stripped(line)) for number, line in enumerate(text.split("\n"), start=1) if stripped(line)]
        if not lines:
            raise ValueError(f"the lexicon {path} is empty; expected one word a line")
        if not pairs:
            return cls(line for _, line in lines)
        forms: dict[str, str] = {}
        for number, line in lines:
            compared, *rest = line.split(maxsplit=1)
            if not rest:
                raise ValueError(f"{path}, line {number}: expected `UPPER original-form`, got {line!r}")
            forms.setdefault(compared, rest[0])
        return cls(forms)

    def __len__(self) -> int:
        return len(self._compared)

    def __iter__(self) -> Iterator[str]:
        """The words as they are returned."""
        return iter(self._returned.values())

    def check_charset(self, charset: Iterable[str]) -> None:
        """Make sure that a recogniser can read every word, but for upper and lower case.

        Raises:
            ValueError: naming the characters that it cannot read, and words with them.
        """
        known = {upper for character in charset for upper in character.upper()}
        # A charset may hold accents of their own.
        known |= {word for word in self._characters if known.issuperset(unicodedata.normalize("NFD", word))}
        unknown = sorted(self._characters - known)
        if unknown:
            affected = [word for word, key in zip(self, self._compared, strict=True) if not known.issuperset(key)]
            raise ValueError(
                f"{len(affected)} of {len(self)} words of the lexicon hold characters that the recogniser cannot read: "
                f"{_some(unknown)} in {_some(affected)}; remove these words, or use a recogniser with these characters"
            )

    def match(
        self,
        word: str,
        rule: LexiconRule = "nearest",
        *,
        max_distance: float | None = None,
        probabilities: np.ndarray | None = None,
        charset: Sequence[str] | None = None,
    ) -> str | None:
        """`match_all` for a single reading; `probabilities` is one array (L, C) for L characters."""
        rows = None if probabilities is None else [probabilities]
        return self.match_all([word], rule, max_distance=max_distance, probabilities=rows, charset=charset)[0]

    def match_all(
        self,
        words: Sequence[str],
        rule: LexiconRule = "nearest",
        *,
        max_distance: float | None = None,
        probabilities: Sequence[np.ndarray] | None = None,
        charset: Sequence[str] | None = None,
    ) -> list[str | None]:
        """The word of the lexicon for each reading, `None` where it is dropped.

        Of words at the same distance the first of the list wins. The weighted rule prefers among them the one that is
        nearer by plain edit distance, so that a reading which is in the lexicon always stays. It looks at the words
        whose plain distance is at most 2 above the smallest one, and at no more than the nearest 2,000 of them.

        Args:
            words: the readings, N of them.
            rule: `"nearest"`, `"within"` or `"weighted"`, see above.
            max_distance: accept distances strictly below: required by `"within"`, refused by `"nearest"`.
            probabilities: for `"weighted"`: for each reading of L characters an array (L, C) with the recogniser's
                probability of each character of the charset where it read this one. Other rules need none.
            charset: for `"weighted"`: the C characters that the columns stand for.

        Raises:
            ValueError: if the rule is unknown, or `max_distance` or the probabilities do not fit.
        """
        _check_limit(rule, max_distance)
        weighted = _checked_probabilities(words, probabilities, charset) if rule == "weighted" else None
        matches = [self._returned.get(_compared_form(word)) for word in words]
        unlisted = [index for index, match in enumerate(matches) if match is None]
        plain = self._plain_distances([_compared_form(words[index]) for index in unlisted])
        for index, distances in zip(unlisted, plain, strict=True):
            candidates = self._compared
            if weighted is not None:
                candidates = [self._compared[near] for near in _nearest(distances)]
                distances = weighted_distances(words[index], candidates, *weighted[index])
            best = int(distances.argmin())
            if max_distance is None or distances[best] < max_distance:
                matches[index] = self._returned[candidates[best]]
        return matches

    def _plain_distances(self, readings: list[str]) -> Iterator[np.ndarray]:
        """For each upper-case reading its distances (N,) to all words."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        for start in range(0, len(readings), _CHUNK):
            chunk = readings[start : start + _CHUNK]
            yield from cdist(chunk, self._compared, scorer=Levenshtein.distance, dtype=np.int32)


_OneLexicon: TypeAlias = Lexicon | Mapping[str | int, str | int] | Sequence[str | int]
LexiconArgument: TypeAlias = _OneLexicon | Sequence[_OneLexicon | None] | None


def is_per_image(lexicon: LexiconArgument) -> bool:
    """Whether it is a list with a lexicon for each image, and not one lexicon for all."""
    if isinstance(lexicon, str | Mapping | Lexicon) or not isinstance(lexicon, Collection):
        return False
    several = (Lexicon, Mapping, Iterable)
    no_list = (str, bytes, bytearray)
    return any(entry is None or (isinstance(entry, several) and not isinstance(entry, no_list)) for entry in lexicon)


def lexicon_per_image(lexicon: LexiconArgument, images: int) -> list[Lexicon | None]:
    """One lexicon for each image, out of the forms that a caller may give.

    Args:
        lexicon: `None`, one lexicon for all images, or a list with one lexicon, or `None`, for each image. A lexicon is
            a `Lexicon`, a list of words, or a mapping as in `Lexicon`.
        images: number of images.

    Raises:
        TypeError: if it is none of these, such as a list that mixes words and lists.
        ValueError: if a lexicon is empty, or there are more or fewer lexicons than images.
    """
    if lexicon is None or isinstance(lexicon, Lexicon):
        return [lexicon] * images
    if not is_per_image(lexicon):
        return [Lexicon(lexicon)] * images  # type: ignore[arg-type]  # what is not, is one lexicon
    if words := [entry for entry in lexicon if _is_word(entry)]:
        raise TypeError(f"expected a list of words or a list of lexicons, got a list of both, with {_some(words)}")
    if len(lexicon) != images:
        raise ValueError(f"{len(lexicon)} lexicons for {images} images; expected one for each, or a single one for all")
    return [entry if entry is None or isinstance(entry, Lexicon) else Lexicon(entry) for entry in lexicon]  # type: ignore[arg-type]  # words are told above


def _is_word(value: object) -> bool:
    """A string, or a whole number such as that of a house; 12.50 would lose its last digit."""
    return isinstance(value, str | Integral) and not isinstance(value, bool)


def _compared_form(word: str) -> str:
    return unicodedata.normalize("NFC", stripped(word).upper())


def checked_limit(rule: LexiconRule, max_distance: float | None) -> float | None:
    """`max_distance`, or the one that the rule has by default: 1.5 for `"within"`, none for the others.

    Raises:
        ValueError: if the rule is unknown, or takes no such limit.
    """
    limit = DEFAULT_MAX_DISTANCE if rule == "within" and max_distance is None else max_distance
    _check_limit(rule, limit)
    return limit


def weighted_distances(
    word: str, candidates: Sequence[str], probabilities: np.ndarray, charset: Iterable[str]
) -> np.ndarray:
    """Edit distances (K,) from a reading to candidates, without case, by how sure the recogniser was.

    To delete a character costs its probability, to insert one the mean probability of the characters beside it, to
    replace one by another `max(1 - 5 p(new) / p(old), 0)`, where upper and lower case add up. At the very beginning of
    the word deletions and insertions cost 1, as in the published implementations. A read character that is not in the
    charset has the probability that its row leaves over.

    Args:
        word: the reading.
        candidates: K words.
        probabilities: (characters of the reading, C), see `Lexicon.match_all`.
        charset: C characters.
    """
    candidates = [candidate.upper() for candidate in candidates]
    alphabet = sorted({"\0"}.union(word.upper(), *candidates))
    delete, insert, replace = _edit_costs(word, alphabet, probabilities, charset)
    # numpy keeps strings as rows of code points, filled up with zeros.
    points = np.array(candidates, dtype=np.str_).view(np.uint32).reshape(len(candidates), -1)  # (K, longest)
    letters = np.searchsorted([ord(letter) for letter in alphabet], points)
    lengths = np.array([len(candidate) for candidate in candidates])
    # Row j: the distance from the first j characters of the reading to the first i of each candidate, i = 0 for now.
    previous = np.repeat(np.arange(len(delete) + 1.0)[:, None], len(candidates), axis=1)  # (M + 1, K)
    distances = previous[-1]
    for i in range(1, points.shape[1] + 1):
        current = np.full_like(previous, i)  # of which row 0 stays
        current[1:] = np.minimum(previous[:-1] + replace[:, letters[:, i - 1]], previous[1:] + insert[:, None])
        for j, cost in enumerate(delete, start=1):
            np.minimum(current[j], current[j - 1] + cost, out=current[j])
        distances = np.where(lengths == i, current[-1], distances)
        previous = current
    return distances


def _edit_costs(
    word: str, alphabet: Sequence[str], probabilities: np.ndarray, charset: Iterable[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """To delete the M characters of the upper-case reading (M,), to insert after them (M,), to replace them (M, A)."""
    # A character such as ß has two in upper case, which share its row.
    read = [(upper, row) for row, character in enumerate(word) for upper in character.upper()]
    place = {letter: index for index, letter in enumerate(alphabet)}
    letters = [place[upper] for upper, _ in read]
    rows = np.asarray(probabilities, dtype=np.float64)[[row for _, row in read]]  # (M, C)
    is_letter = np.zeros((rows.shape[1], len(alphabet)))  # (C, A)
    for column, character in enumerate(charset):
        for upper in character.upper():
            if upper in place:
                is_letter[column, place[upper]] = 1
    new = rows @ is_letter  # (M, A)
    left_over = (1 - rows.sum(axis=1)).clip(min=0)
    old = np.where(is_letter.sum(axis=0)[letters] > 0, new[np.arange(len(read)), letters], left_over)  # (M,)
    insert = (old + np.append(old[1:], old[-1:])) / 2
    replace = np.maximum(1 - _REPLACEMENT_FACTOR * new / np.maximum(old, 1e-12)[:, None], 0)
    replace[np.arange(len(read)), letters] = 0
    return old, insert, replace


def _nearest(distances: np.ndarray) -> np.ndarray:
    """Indices of the smallest distances of (N,), the smallest first, equal ones in their order."""
    smallest = distances.min()
    levels = [np.flatnonzero(distances == smallest + more) for more in range(_SLACK + 1)]
    return np.concatenate(levels)[:_MOST_CANDIDATES]


def _check_limit(rule: str, max_distance: float | None) -> None:
    """A known rule, with a limit where it takes one."""
    if rule not in get_args(LexiconRule):
        raise ValueError(f"unknown lexicon rule {rule!r}; expected one of {', '.join(get_args(LexiconRule))}")
    if rule == "within" and max_distance is None:
        raise ValueError('the lexicon rule "within" needs `max_distance`, for instance 1.5 (ABCNet) or 2.5 (TESTR)')
    if rule == "nearest" and max_distance is not None:
        raise ValueError('the lexicon rule "nearest" takes every distance; use "within" with `max_distance`')
    if max_distance is not None and not max_distance > 0:
        raise ValueError(f"`max_distance` must be positive, got {max_distance}: distances have to lie below it")


def _checked_probabilities(
    words: Sequence[str], probabilities: Sequence[np.ndarray] | None, charset: Sequence[str] | None
) -> list[tuple[np.ndarray, Sequence[str]]]:
    """What `weighted_distances` needs to know of each reading."""
    if probabilities is None or charset is None:
        raise ValueError('the lexicon rule "weighted" needs `probabilities` and `charset`, see `Lexicon.match_all`')
    if len(probabilities) != len(words):
        raise ValueError(f"{len(probabilities)} arrays of probabilities for {len(words)} readings")
    checked = []
    for word, array in zip(words, probabilities, strict=True):
        rows = np.asarray(array, dtype=np.float64)
        if rows.shape != (len(word), len(charset)):
            raise ValueError(
                f"the probabilities of {word!r} have shape {rows.shape}; expected {(len(word), len(charset))}: "
                "a row for each of its characters, a column for each of the charset"
            )
        if not ((rows >= 0) & (rows <= 1.001)).all():
            raise ValueError(
                f"the probabilities of {word!r} are not all between 0 and 1; apply a softmax to logits first"
            )
        checked.append((rows, charset))
    return checked


def _some(values: Sequence[object]) -> str:
    """The first few of a list, quoted."""
    return ", ".join(map(repr, values[:8])) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
