"""What is written: words of the street, names, prices, times, numbers, made-up words."""

from importlib.resources import files

import numpy as np

__all__ = ["PlainWordSampler", "WordSampler", "street_words"]

_CONSONANTS = ["b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "ch", "sh", "st", "tr"]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "o", "ee", "oo", "ai"]
_CURRENCIES = ["$", "$", "S$", "US$", "£", "€", "RM"]
_PUNCTUATION = ["!", ".", ",", ":", "?", "...", "!!", "'s", "&", "-"]


def street_words() -> list[str]:
    """The package's list of common English words, in small letters."""
    text = files("transformers_tcm.data.rendering").joinpath("street_words.txt").read_text(encoding="utf-8")
    return text.split()


class WordSampler:
    """Draws lines of words that consist of a charset's characters only.

    Args:
        charset: the allowed characters.
        words: a vocabulary that replaces the package's list and all generated words; written in any case.

    Raises:
        ValueError: if none of `words` consists of the charset's characters.
    """

    def __init__(self, charset: str, words: list[str] | None = None):
        self.charset = "".join(sorted(set(charset) - set(" \t\n")))
        self._allowed = frozenset(self.charset)
        self._given = words is not None
        vocabulary = street_words() if words is None else words
        self._words = [word for word in vocabulary if self.accepts(word) or self.accepts(word.upper())]
        if self._given and not self._words:
            raise ValueError(f"none of the {len(vocabulary)} words consists of characters of {self.charset!r} only")

    def accepts(self, word: str) -> bool:
        """Whether the charset has all of its characters."""
        return bool(word) and self._allowed.issuperset(word)

    def line(self, rng: np.random.Generator, count: int) -> list[str]:
        """`count` words that share their case."""
        case = rng.choice(["upper", "title", "lower", "mixed"], p=[0.45, 0.3, 0.17, 0.08])
        return [self._word(rng, str(case)) for _ in range(count)]

    def _word(self, rng: np.random.Generator, case: str) -> str:
        for _ in range(4):
            word = self._words[rng.integers(len(self._words))] if self._given else self._draw(rng)
            word = _with_case(word, case, rng)
            if self.accepts(word):
                return word
        # A script the generators do not write: any characters of it make a word for a detector.
        length = int(rng.integers(1, 9))
        return "".join(self.charset[i] for i in rng.integers(len(self.charset), size=length))

    def _draw(self, rng: np.random.Generator) -> str:
        kind = rng.random()
        if kind < 0.62 and self._words:
            word = self._words[rng.integers(len(self._words))]
            return word + str(rng.choice(_PUNCTUATION)) if rng.random() < 0.08 else word
        if kind < 0.76:
            return _made_up(rng)
        if kind < 0.94:
            return _number(rng)
        return "".join(self.charset[i] for i in rng.integers(len(self.charset), size=int(rng.integers(1, 6))))


class PlainWordSampler(WordSampler):
    """Words as people write them: common ones, prices, times and numbers, in capitals, small letters or titles.

    No random characters and no random case, of which nobody could tell an `l` from an `I`.
    """

    def line(self, rng: np.random.Generator, count: int) -> list[str]:
        """`count` words that share their case."""
        case = rng.choice(["upper", "title", "lower"], p=[0.4, 0.3, 0.3])
        return [self._word(rng, str(case)) for _ in range(count)]

    def _draw(self, rng: np.random.Generator) -> str:
        if rng.random() < 0.2 or not self._words:
            return _number(rng)
        word = self._words[rng.integers(len(self._words))]
        return word + str(rng.choice([".", ",", "!", "?", ":"])) if rng.random() < 0.05 else word


def _with_case(word: str, case: str, rng: np.random.Generator) -> str:
    if case == "mixed":
        return "".join(c.upper() if up else c for c, up in zip(word, rng.random(len(word)) < 0.5, strict=True))
    return {"upper": word.upper, "title": word.capitalize, "lower": lambda: word}[case]()


def _made_up(rng: np.random.Generator) -> str:
    """A pronounceable name of one to four syllables."""
    syllables = [
        str(rng.choice(_CONSONANTS)) + str(rng.choice(_VOWELS)) + ("", "", "n", "r", "l", "s")[rng.integers(6)]
        for _ in range(rng.integers(1, 5))
    ]
    return "".join(syllables)


def _number(rng: np.random.Generator) -> str:
    """A price, time, phone number, unit, year, percentage or plain number."""

    def digits(low: int, high: int) -> str:
        return "".join(map(str, rng.integers(10, size=int(rng.integers(low, high + 1)))))

    kind = rng.integers(8)
    if kind == 0:
        return f"{rng.choice(_CURRENCIES)}{rng.integers(1, 200)}{rng.choice(['', '.00', '.90', '.50', '.99'])}"
    if kind == 1:
        return f"{rng.integers(1, 24)}:{rng.integers(60):02d}{rng.choice(['', '', 'am', 'pm'])}"
    if kind == 2:
        return f"{digits(3, 4)}{rng.choice(['-', '', '.'])}{digits(4, 4)}"
    if kind == 3:
        return f"#{rng.integers(1, 20):02d}-{rng.integers(1, 200):02d}"
    if kind == 4:
        return f"{rng.integers(1, 101)}{rng.choice(['%', 'km', 'm', 'th', 'kg', 'L', 'st'])}"
    if kind == 5:
        return f"{chr(rng.integers(65, 91))}{digits(1, 2)}"
    return digits(1, 4)
