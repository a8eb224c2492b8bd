"""Decoded pictures on disk, memory-mapped: a start decodes nothing, and all processes share the pixels."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..images import load_image

__all__ = ["PictureCache", "decoded_pictures"]

# Decoded at once, which bounds the memory.
_CHUNK = 128


def decoded_pictures(
    files: Sequence[str | os.PathLike[str]], cache: str | os.PathLike[str] | None = None
) -> Sequence[np.ndarray]:
    """Pictures (H, W, 3) uint8 RGB of files: in memory, or in a folder that keeps them for the next start.

    Args:
        files: the pictures.
        cache: the folder, made where there is none. It may be deleted at any time; pictures whose path, size or time of
            change is another one are decoded again, and the former ones stay until somebody deletes them.

    Raises:
        FileNotFoundError: if a file is missing.
    """
    if cache is None:
        return list(_decode(files))
    pixels = Path(cache) / f"{_key(files)}.pixels"
    shapes = pixels.with_suffix(".npy")
    if not shapes.is_file():  # written last
        Path(cache).mkdir(parents=True, exist_ok=True)
        _write(files, pixels, shapes)
    return PictureCache(pixels, np.load(shapes))


class PictureCache(Sequence[np.ndarray]):
    """Pictures in one file of all their bytes, opened by each process for itself; they cannot be written to.

    Args:
        path: the file.
        shapes: (N, 2) height and width of each picture.
    """

    def __init__(self, path: Path, shapes: np.ndarray):
        self.path, self.shapes = path, shapes
        self._starts = np.concatenate([[0], 3 * shapes.astype(np.int64).prod(axis=1).cumsum()])
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Any) -> Any:
        if self._pixels is None:
            # As an array, which is sliced several times faster.
            self._pixels = np.asarray(np.memmap(self.path, np.uint8, "r"))
        height, width = self.shapes[index]
        start = self._starts[:-1][index]
        return self._pixels[start : start + 3 * int(height) * int(width)].reshape(height, width, 3)

    def __reduce__(self) -> tuple[Any, ...]:
        return PictureCache, (self.path, self.shapes)


def _decode(files: Sequence[str | os.PathLike[str]]) -> Iterator[np.ndarray]:
    """The pictures, several at once."""
    with ThreadPoolExecutor() as pool, tqdm(total=len(files), desc="Decoding", unit="picture", leave=False) as bar:
        for first in range(0, len(files), _CHUNK):
            for picture in pool.map(lambda file: np.asarray(load_image(file)), files[first : first + _CHUNK]):
                yield picture
                bar.update()


def _key(files: Sequence[str | os.PathLike[str]]) -> str:
    """What tells these pictures, in this order and as they are now, from all others."""
    digest = hashlib.sha256()
    for file in files:
        path = Path(file).resolve()
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _write(files: Sequence[str | os.PathLike[str]], pixels: Path, shapes: Path) -> None:
    """Both files of a cache, each complete or not there; processes that do it at once write the same."""
    sizes = []
    with tempfile.TemporaryDirectory(dir=pixels.parent) as folder:
        incomplete = Path(folder) / pixels.name
        with incomplete.open("wb") as output:
            for picture in _decode(files):
                sizes.append(picture.shape[:2])
                output.write(np.ascontiguousarray(picture).data)
        incomplete.replace(pixels)
        np.save(incomplete.with_suffix(".npy"), np.array(sizes, np.int64).reshape(-1, 2))
        incomplete.with_suffix(".npy").replace(shapes)
