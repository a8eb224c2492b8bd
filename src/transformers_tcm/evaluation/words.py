"""When two transcriptions are the same word: the rules of the Robust Reading Competition."""

import unicodedata

from ..instances import TextInstances

__all__ = ["composed", "dictionary_form", "read_texts", "required_texts", "same_but_for_ends"]

SPECIAL_CHARACTERS = "'!?.:,*\"()·[]/"
_LETTER_RANGES = (("a", "z"), ("A", "Z"), ("À", "ƿ"), ("Ǆ", "ɿ"), ("Ά", "Ͽ"), ("-", "-"))
_NOT_LETTERS = "×÷·"
_SHORTEST_WORD = 3


def composed(word: str) -> str:
    """The word with composed accents (Unicode NFC); some systems write them composed, others decomposed."""
    return unicodedata.normalize("NFC", word)


def read_texts(detections: TextInstances) -> list[str]:
    """Readings as they are compared, empty where there is none."""
    return [composed(text or "").strip() for text in detections.texts or [None] * len(detections)]


def required_texts(ground_truth: TextInstances) -> list[str]:
    """Transcriptions of a ground truth as they are compared, empty for ignored instances without one.

    Raises:
        ValueError: if an instance that counts has no transcription.
    """
    texts = ground_truth.texts or [None] * len(ground_truth)
    for index, (text, ignored) in enumerate(zip(texts, ground_truth.ignored, strict=True)):
        if text is None and not ignored:
            raise ValueError(f"ground truth {index} has no transcription; give its text or mark it as ignored")
    return [composed(text or "").strip() for text in texts]


def same_but_for_ends(truth: str, read: str) -> bool:
    """Equality without case, where one special character at either end of a ground truth need not be read.

    An empty ground truth equals nothing.
    """
    truth, read = composed(truth.upper()), composed(read.upper())
    starts = (0, 1) if truth[:1] in SPECIAL_CHARACTERS else (0,)
    ends = (0, 1) if truth[-1:] in SPECIAL_CHARACTERS else (0,)
    return bool(truth) and any(read == truth[start : len(truth) - end] for start in starts for end in ends)


def dictionary_form(word: str) -> str | None:
    """A word as a dictionary lists it, `None` where it belongs in none.

    Drops a final 's, hyphens at the ends and special characters. What then holds a space, anything but letters (digits
    among them) or fewer than three characters is no word.
    """
    word = composed(word)
    word = word[:-2] if word.endswith(("'s", "'S")) else word
    word = word.strip("-").translate(dict.fromkeys(map(ord, SPECIAL_CHARACTERS), " ")).strip()
    return word if len(word) >= _SHORTEST_WORD and all(map(_is_letter, word)) else None


def _is_letter(character: str) -> bool:
    """Latin and Greek letters and the hyphen."""
    return character not in _NOT_LETTERS and any(low <= character <= high for low, high in _LETTER_RANGES)
