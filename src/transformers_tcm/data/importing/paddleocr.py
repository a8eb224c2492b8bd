"""PaddleOCR's labels for detection, which PPOCRLabel saves as `Label.txt`: `path<tab>[{"transcription": …}, …]`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...text_files import decoded, read_text
from .exports import ExportedPhoto, ExportedWord, flag, word_or_none

__all__ = ["read_paddleocr"]

# What PaddleOCR leaves out in training.
ILLEGIBLE_TEXTS = ("###", "*")
# The flag has either name.
DIFFICULT = ("difficult", "difficulty", "ignore", "illegibility")
# What PPOCRLabel calls a new box until it is given a word.
UNNAMED = "TEMPORARY"
STATES = "fileState.txt"


def read_paddleocr(source: Path) -> list[ExportedPhoto]:
    """The photos of all lines, see `read_export`.

    Where PPOCRLabel's `fileState.txt` lies beside the file, photos that nobody confirmed there are left out.

    Raises:
        ValueError: if no line is of this form.
    """
    lines = read_text(source).split("\n")
    fields = [(number, *line.partition("\t")) for number, line in enumerate(lines, start=1) if line.strip()]
    if not any(labels.lstrip().startswith("[") for *_, labels in fields):
        raise ValueError(
            f"{source}: no line is `path<tab>[{{…}}]`; a list of words such as rec_gt.txt needs no import: "
            "--train_words of the recipes for spotters takes it as it is"
        )
    confirmed = _confirmed(source.with_name(STATES))
    return [_photo(number, name.strip(), labels, confirmed) for number, name, _, labels in fields]


def _confirmed(states: Path) -> set[str] | None:
    """Folder and name of the photos with state 1; `None` without the file."""
    if not states.is_file():
        return None
    fields = [line.partition("\t") for line in decoded(states.read_bytes(), errors="replace").split("\n")]
    return {_folder_and_name(name) for name, _, state in fields if state.strip() == "1"}


def _folder_and_name(path: str) -> str:
    """By these PPOCRLabel knows a photo; the rest of the path is that of the labeller's computer."""
    return "/".join(path.strip().replace("\\", "/").split("/")[-2:])


def _photo(number: int, name: str, labels: str, confirmed: set[str] | None) -> ExportedPhoto:
    place = f"line {number} ({name})"
    if confirmed is not None and _folder_and_name(name) not in confirmed:
        return ExportedPhoto(place, problem=f"nobody confirmed its labels in PPOCRLabel ({STATES})")
    try:
        regions = json.loads(labels)
    except (ValueError, RecursionError) as error:
        return ExportedPhoto(place, problem=f"no JSON after the tab: {error}")
    if not isinstance(regions, list):
        return ExportedPhoto(place, problem=f"expected a list after the tab, got {type(regions).__name__}")

    def words(width: int, height: int) -> Iterator[ExportedWord]:
        for index, region in enumerate(regions, start=1):
            yield _word(region, f"word {index}")

    return ExportedPhoto(place, (name,), words)


def _word(region: Any, name: str) -> ExportedWord:
    try:
        points, text = np.array(region["points"], dtype=np.float64), region["transcription"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return ExportedWord(name, problem=f'expected "transcription" and "points" ({error!r})')
    try:
        difficult = flag(next((region[key] for key in region if key.casefold() in DIFFICULT), False))
    except ValueError as error:
        return ExportedWord(name, problem=f'"difficult" is {error}')
    # What PPOCRLabel calls the class of a field, in documents.
    marks = frozenset({region["key_cls"]} if isinstance(region.get("key_cls"), str) else ())
    word = None if text == UNNAMED else word_or_none(text)
    return ExportedWord(name, points, word, difficult or word in ILLEGIBLE_TEXTS, marks=marks)
