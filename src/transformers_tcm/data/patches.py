"""DOTA's large images cut into patches on disk, as its released tools do, and what is found in them as submissions.

`splitting` says which windows there are and which objects belong to them; this module reads and writes files.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from ..dota import DotaObject, parse_dota
from ..images import list_images, load_image
from ..instances import OrientedInstances
from ..saving import atomic_write
from ..text_files import read_text
from .splitting import intersection_over_foreground, objects_in_window, patch_name, split_windows

__all__ = ["PatchSettings", "read_task1", "split_images", "write_task1"]

# What lies beyond the image, red, green and blue: about the mean of all photos.
PADDING = (124, 116, 104)
TASK1 = "Task1_{}.txt"
# An object that its patch cuts off.
TRUNCATED = 2


@dataclass(frozen=True)
class PatchSettings:
    """How images are cut.

    Args:
        sizes: side of the square windows of each scale.
        gaps: overlap of neighbouring windows of each scale.
        min_image_share: share of a window that lies in the image.
        min_object_share: share of an object that lies in a window it belongs to.
    """

    sizes: tuple[int, ...] = (1024,)
    gaps: tuple[int, ...] = (200,)
    min_image_share: float = 0.6
    min_object_share: float = 0.7


def split_images(
    images: Path,
    annotations: Path | None,
    output: Path,
    settings: PatchSettings | None = None,
    num_workers: int = 1,
) -> Iterator[tuple[str, int]]:
    """Cut all images of a folder; gives the name of each image that is done, and how many patches were written.

    Patches go to `output/images`, their labels to `output/labelTxt`. What is there already is left alone, so that a run
    that was interrupted goes on; a file appears when it is complete.

    Args:
        images: folder of images.
        annotations: folder of their `NAME.txt`; `None` for images without labels.
        output: folder.
        settings: how to cut.
        num_workers: processes.

    Raises:
        FileNotFoundError: if there are no images, or a label file is missing.
        ValueError: for a label file that cannot be read; it is named.
    """
    paths = list_images(images)
    if not paths:
        raise FileNotFoundError(f"no images in {images}")
    for folder in ("images", *(() if annotations is None else ("labelTxt",))):
        (output / folder).mkdir(parents=True, exist_ok=True)
    work = partial(_split_image, annotations=annotations, output=output, settings=settings or PatchSettings())
    if num_workers <= 1:
        yield from map(work, paths)
        return
    with get_context("spawn").Pool(num_workers) as pool:
        yield from pool.imap_unordered(work, paths)


def _split_image(path: Path, annotations: Path | None, output: Path, settings: PatchSettings) -> tuple[str, int]:
    """Cut one image; its name and how many patches were new."""
    objects = None if annotations is None else _objects(path, annotations)
    with Image.open(path) as opened:
        windows = split_windows(*opened.size, settings.sizes, settings.gaps, settings.min_image_share)
    names = [patch_name(path.stem, window) for window in windows]
    last = [output / (f"images/{name}.png" if objects is None else f"labelTxt/{name}.txt") for name in names]
    missing = [index for index, file in enumerate(last) if not file.exists()]
    if not missing:
        return path.name, 0
    image = load_image(path)
    polygons = [] if objects is None else [one.polygon for one in objects]
    shares = intersection_over_foreground(polygons, windows)
    for index in missing:
        window = windows[index]
        patch = Image.new("RGB", (int(window[2] - window[0]), int(window[3] - window[1])), PADDING)
        inside = (*window[:2].tolist(), *np.minimum(window[2:], image.size).tolist())
        patch.paste(image.crop(inside))
        _write_whole(output / "images" / f"{names[index]}.png", patch)
        if objects is not None:
            text = _label_text(objects, shares[:, index], window, settings.min_object_share)
            _write_whole(last[index], text)
    return path.name, len(missing)


def _objects(path: Path, annotations: Path) -> list[DotaObject]:
    file = annotations / f"{path.stem}.txt"
    try:
        return parse_dota(read_text(file))
    except FileNotFoundError:
        raise FileNotFoundError(f"no annotation file for {path}: expected {file}") from None
    except ValueError as error:
        raise ValueError(f"{file}, {error}") from error


def _label_text(objects: Sequence[DotaObject], shares: np.ndarray, window: np.ndarray, min_share: float) -> str:
    """The objects of a window as a label file; those that it cuts off are of difficulty 2."""
    inside = objects_in_window([one.polygon for one in objects], shares, window, min_share)
    lines = []
    for index, polygon, truncated in zip(inside.indices.tolist(), inside.polygons, inside.truncated, strict=True):
        numbers = " ".join(str(float(value)) for value in polygon.reshape(-1))
        difficult = TRUNCATED if truncated else objects[index].difficult
        lines.append(f"{numbers} {objects[index].name} {difficult}\n")
    return "".join(lines)


def _write_whole(path: Path, content: Image.Image | str) -> None:
    """A file that appears when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    if isinstance(content, str):
        unfinished.write_text(content, encoding="utf-8")
    else:
        content.save(unfinished, format="PNG")
    unfinished.replace(path)


def write_task1(folder: Path, found: Iterable[tuple[str, OrientedInstances]], id2label: Mapping[int, str]) -> Path:
    """Write what was found in full images as DOTA's server takes it: `Task1_CLASS.txt` for each class, and the zip.

    A line is `image score x1 y1 … x4 y4`, the score in full precision, since it decides the order.

    Args:
        folder: is created where missing; files of an earlier run are replaced.
        found: names of images without suffix, and their objects with scores and labels.
        id2label: names of the classes, each of which has a file, if an empty one.

    Returns:
        The zip file.
    """
    lines: dict[int, list[str]] = {label: [] for label in id2label}
    for image, objects in found:
        for polygon, label, score in zip(objects.polygons, objects.labels, objects.scores, strict=True):  # type: ignore[arg-type]
            corners = " ".join(f"{value:.2f}" for value in polygon.reshape(-1).tolist())
            lines[int(label)].append(f"{image} {float(score):.9g} {corners}\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as written:
        for label, name in id2label.items():
            (Path(written) / TASK1.format(name)).write_text("".join(lines[label]), encoding="utf-8")
        with zipfile.ZipFile(Path(written) / "Task1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in id2label.values():
                archive.write(Path(written) / TASK1.format(name), TASK1.format(name))
    return folder / "Task1.zip"


def read_task1(folder: Path) -> tuple[dict[str, OrientedInstances], list[str]]:
    """Objects of each image in the `Task1_CLASS.txt` of a folder, and the names of the classes.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: for a line that is of another form; file and line are named.
    """
    files = sorted(folder.glob(TASK1.format("*")))
    if not files:
        raise FileNotFoundError(f"no files {TASK1.format('CLASS')} in {folder}")
    names = [file.stem.removeprefix("Task1_") for file in files]
    found: dict[str, list[tuple[np.ndarray, float, int]]] = {}
    for label, file in enumerate(files):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            fields = line.split()
            if len(fields) != 10:
                raise ValueError(f"{file}, line {number}: expected `image score x1 y1 x2 y2 x3 y3 x4 y4`")
            quad = np.array(fields[2:], np.float32).reshape(4, 2)
            found.setdefault(fields[0], []).append((quad, float(fields[1]), label))
    return {image: _instances(objects) for image, objects in found.items()}, names


def _instances(objects: Sequence[tuple[np.ndarray, float, int]]) -> OrientedInstances:
    polygons, scores, labels = zip(*objects, strict=True)
    return OrientedInstances(list(polygons), scores=np.array(scores), labels=np.array(labels, np.int64))
