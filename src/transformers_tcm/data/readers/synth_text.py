"""SynthText (Gupta et al., 2016): 858,750 rendered pictures, one file of Matlab for all of them.

`gt.mat` has `imnames` (1, N), paths below the folder of the pictures; `wordBB` (1, N), corners (2, 4, words) or, of a
single word, (2, 4); `txt` (1, N), pieces of text, whose words are parted by blanks and line ends.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...images import find_file
from ...instances import TextInstances
from ..loaders import stream_dataset

if TYPE_CHECKING:
    import datasets

__all__ = ["load_synth_text"]

_COLUMNS = ("imnames", "wordBB", "txt")


def load_synth_text(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> "datasets.IterableDataset":
    """Pictures of SynthText, streamed: rows are made as they are asked for.

    Args:
        images: folder of the pictures, which lie in its subfolders.
        annotations: `gt.mat`, read with scipy; the boxes of single letters, most of the file, are skipped.

    Returns:
        A streamed dataset with the columns of `text_features`, in the order of the file. All words count.

    Raises:
        FileNotFoundError: if the file is missing, or, once its row is asked for, a picture.
        ValueError: for what cannot be read; file and picture are named.
    """
    file, folder = Path(annotations), Path(images)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    return stream_dataset(lambda: _rows(file, folder))


def _rows(file: Path, folder: Path) -> Iterator[tuple[Path, TextInstances]]:
    for name, boxes, texts in zip(*_table(file), strict=True):
        path = str(np.asarray(name).reshape(-1)[0])
        picture = find_file(folder / path)
        if picture is None:
            raise FileNotFoundError(f"{file}: no such image: {folder / path}")
        yield picture, _instances(f"{file}, {path}", boxes, texts)


def _table(file: Path) -> list[np.ndarray]:
    """Names, boxes and texts, each (N,)."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(file, variable_names=_COLUMNS)
        columns = [content[name].reshape(-1) for name in _COLUMNS]
    except (MatReadError, ValueError, KeyError, NotImplementedError) as error:
        raise ValueError(f"{file}: expected a file of Matlab with {', '.join(_COLUMNS)}: {error}") from error
    if len({len(column) for column in columns}) != 1:
        lengths = dict(zip(_COLUMNS, map(len, columns), strict=True))
        raise ValueError(f"{file}: the columns differ in length: {lengths}")
    return columns


def _instances(place: str, boxes: Any, texts: Any) -> TextInstances:
    corners = np.asarray(boxes, dtype=np.float32)
    corners = corners[..., None] if corners.ndim == 2 else corners  # (2, 4) -> (2, 4, 1)
    words: list[str | None] = [word for text in np.asarray(texts).reshape(-1) for word in str(text).split()]
    if corners.shape != (2, 4, len(words)):
        raise ValueError(f"{place}: expected boxes (2, 4, {len(words)}) for {len(words)} words, got {corners.shape}")
    return TextInstances(list(corners.transpose(2, 1, 0)), texts=words, ignore=np.zeros(len(words), dtype=bool))
