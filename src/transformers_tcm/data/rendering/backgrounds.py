"""Which photographs are for training, and which are kept for pictures that models are judged by."""

import re
from collections.abc import Sequence
from pathlib import Path

from ...images import image_suffixes

__all__ = ["split_backgrounds"]

_VALIDATION_DIGIT = "9"


def split_backgrounds(folder: str | Path, exclude: Sequence[str] = ()) -> tuple[list[Path], list[Path]]:
    """The photographs below a folder to train on, and those to judge by; both sorted by path.

    Those to judge by are a fixed tenth, the ones whose last number ends with a 9 (`0009.jpg`, `street_119_b.jpg`). What
    is rendered to train on has to leave them out.

    Args:
        folder: searched recursively.
        exclude: names without suffix of photographs to leave out of both.

    Raises:
        FileNotFoundError: if there is no image, or a name to exclude is not there.
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in image_suffixes())
    if not paths:
        raise FileNotFoundError(f"no image found in {folder}; expected photographs to render text onto")
    if unknown := sorted(set(exclude) - {path.stem for path in paths}):
        raise FileNotFoundError(f"backgrounds to exclude that are not in {folder}: {', '.join(unknown)}")
    kept = [path for path in paths if path.stem not in exclude]
    validation = [path for path in kept if _is_for_validation(path)]
    return [path for path in kept if not _is_for_validation(path)], validation


def _is_for_validation(path: Path) -> bool:
    numbers = re.findall(r"\d+", path.stem)
    return bool(numbers) and numbers[-1].endswith(_VALIDATION_DIGIT)
