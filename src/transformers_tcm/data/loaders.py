"""Annotated photos on disk as `datasets.Dataset`: the ICDAR-2015 text format and JSON lines."""

import json
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..icdar import is_illegible
from ..images import find_file, image_suffixes, list_images, subfolders_with_images
from ..instances import TextInstances
from ..text_files import read_text

if TYPE_CHECKING:
    import datasets

__all__ = [
    "build_dataset",
    "load_icdar2015",
    "load_jsonl",
    "load_named_dataset",
    "photos_of",
    "read_json",
    "row_to_instances",
    "save_jsonl",
    "stream_dataset",
    "text_features",
    "with_random_access",
]


def text_features() -> "datasets.Features":
    """The columns of every dataset of this module.

    `image` (decoded on access, stored as a path), `image_id` (file name), and of equal length for each image `polygons`
    (N, K_i, 2) in pixels of the upright image, `texts` (`None` where unknown) and `ignore`.
    """
    try:
        from datasets import Features, List, Value
        from datasets import Image as ImageColumn
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "annotated photos are loaded with the package datasets: pip install 'transformers-tcm[train]'"
        ) from error

    return Features(
        {
            "image": ImageColumn(),
            "image_id": Value("string"),
            "polygons": List(List(List(Value("float32"), length=2))),
            "texts": List(Value("string")),
            "ignore": List(Value("bool")),
        }
    )


def row_to_instances(row: Mapping[str, Any]) -> TextInstances:
    """The annotation of one row of a dataset, the accents of its words composed (Unicode NFC).

    Args:
        row: with the columns of `text_features`, or with `objects` in the manner of COCO, see `transformers_tcm.coco`.

    Raises:
        ValueError: for a row with neither.
    """
    if row.get("polygons") is not None:
        instances = TextInstances(list(row["polygons"]), texts=row["texts"], ignore=row["ignore"])
    elif row.get("objects") is not None:
        instances = TextInstances.from_coco(row["objects"])
    else:
        raise ValueError(f"expected a row with `polygons`, `texts` and `ignore`, or with `objects`; got {sorted(row)}")
    texts = instances.texts or [None] * len(instances)
    instances.texts = [None if text is None else unicodedata.normalize("NFC", text) for text in texts]
    return instances


def load_icdar2015(
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    include: str | os.PathLike[str] | Iterable[str] | None = None,
    exclude: str | os.PathLike[str] | Iterable[str] | None = None,
) -> "datasets.Dataset":
    """Photos with annotations in the ICDAR-2015 text format.

    Args:
        images: folder of the photos.
        annotations: folder of the annotations; that of `X.jpg` is `gt_X.txt`, with a line
            `x1,y1,x2,y2,x3,y3,x4,y4,word` for each word, `###` for illegible ones, nothing after the eighth comma
            where the word is unknown. The other forms of `transformers_tcm.icdar` are told from each file's lines.
        include: only these photos: a list of file names, with or without suffix, or the path of a text file with one
            name a line.
        exclude: all but these photos, in the same forms.

    Returns:
        A dataset with the columns of `text_features`, sorted by file name.

    Raises:
        FileNotFoundError: if a folder, a listed photo or an annotation file is missing, or no photo is left.
        ValueError: for a line that cannot be read; file and line are named.
    """
    images, annotations = _folder(images, "images"), _folder(annotations, "annotations")
    paths = {path.name: path for path in list_images(images)}
    names = set(paths)
    if include is not None:
        names &= _listed_names(include, paths, images)
    if exclude is not None:
        names -= _listed_names(exclude, paths, images)
    if not names:
        raise FileNotFoundError(_nothing_chosen(images, len(paths)))
    chosen = [path for name, path in paths.items() if name in names]
    if unreadable := [path.name for path in chosen if path.suffix.lower() not in image_suffixes()]:
        raise ValueError(
            f"{len(unreadable)} photos in {images} are HEIC, which Pillow reads with a plug-in: `pip install "
            f"pillow-heif` and register it, convert them, or leave them out with `exclude`: {', '.join(unreadable[:5])}"
        )
    return build_dataset(chosen, [_read_icdar(annotations / f"gt_{path.stem}.txt", path) for path in chosen])


def _nothing_chosen(images: Path, there: int) -> str:
    if there:
        return f"no photo to load from {images}: {there} there, all left out by include/exclude"
    below = subfolders_with_images(images)
    hint = f"; there are some in its subfolders, such as {below[0]}: give one of these" if below else ""
    return f"no photo to load from {images}: 0 there{hint}"


def load_jsonl(path: str | os.PathLike[str]) -> "datasets.Dataset":
    """Photos with annotations in a JSON-lines file, polygons of any number of points.

    A line is `{"image": path, "polygons": [[[x, y], …], …], "texts": [str or null, …], "ignore": [bool, …]}`, the path
    relative to the file. Without `texts` all words are unknown, without `ignore` all but `###` count.

    Returns:
        A dataset with the columns of `text_features`, in the order of the file.

    Raises:
        FileNotFoundError: if the file or a photo is missing.
        ValueError: for a line that cannot be read; file and line are named.
    """
    path = Path(path)
    images, annotations = [], []
    # Not `splitlines`, which takes rare characters of a word for the end of a line.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                image, instances = _parse_json_line(line)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            photo = find_file(path.parent / image)
            if photo is None:
                raise FileNotFoundError(f"{path}, line {number}: no such image: {path.parent / image}")
            images.append(photo)
            annotations.append(instances)
    return build_dataset(images, annotations)


def load_named_dataset(
    name: str, split: str, config_name: str | None = None, streaming: bool = False
) -> "datasets.Dataset | datasets.IterableDataset":
    """A split of a data set of the Hub, or of a folder as `datasets.load_dataset` takes it.

    Args:
        name: on the Hub, or a folder.
        split: which part.
        config_name: which configuration, where there are several.
        streaming: read photos as they are needed, instead of all before.

    Returns:
        Rows with `image`, `polygons`, `texts` and `ignore`, which are made of `objects` in the manner of COCO where a
        data set has those instead, see `transformers_tcm.coco`, and in archives of WebDataset of the photo and the
        `json` of each sample, which holds what a line of `load_jsonl` does.

    Raises:
        ValueError: for a data set with other columns.
    """
    text_features()  # first, because it says what to install where datasets is missing
    from datasets import load_dataset

    rows = load_dataset(name, config_name, split=split, streaming=streaming)
    columns = set(rows.column_names or next(iter(rows)))
    if {"__key__", "json"} <= columns:
        return _samples_as_rows(rows)
    if {"image", "polygons", "texts", "ignore"} <= columns:
        return rows
    if not {"image", "objects"} <= columns:
        raise ValueError(
            f"{name}, split {split!r}: expected the columns `image`, `polygons`, `texts` and `ignore`, or `image` and "
            f"`objects` with `bbox`; got {sorted(columns)}"
        )
    return rows.map(_objects_as_columns, input_columns=["objects"], remove_columns=sorted(columns - {"image"}))


def _samples_as_rows(rows: Any) -> Any:
    """Rows of the samples of WebDataset, whose photo is in a column that is called as its files end."""
    import datasets

    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if len(images) != 1:
        raise ValueError(f"expected one photo and one .json for each sample of WebDataset; got {sorted(rows.features)}")

    def row(image: Any, labels: Any, key: str) -> dict[str, Any]:
        instances = TextInstances.from_json({name: labels.get(name) for name in ("polygons", "texts", "ignore")})
        return {"image": image, "image_id": key, **_columns_of(instances)}

    columns = [images[0], "json", "__key__"]
    return rows.map(row, input_columns=columns, remove_columns=list(rows.features), features=text_features())


def _objects_as_columns(objects: Any) -> dict[str, Any]:
    return _columns_of(TextInstances.from_coco(objects))


def _columns_of(words: TextInstances) -> dict[str, Any]:
    polygons = [polygon.tolist() for polygon in words.polygons]
    return {"polygons": polygons, "texts": words.texts or [None] * len(words), "ignore": words.ignored.tolist()}


def save_jsonl(
    path: str | os.PathLike[str], images: Iterable[str | os.PathLike[str]], annotations: Iterable[TextInstances]
) -> None:
    """Write what `load_jsonl` reads; the paths of the images become relative to the file's folder."""
    path = Path(path)
    with path.open("w", encoding="utf-8") as file:
        for image, instances in zip(images, annotations, strict=True):
            name = Path(os.path.relpath(image, path.parent)).as_posix()
            file.write(json.dumps({"image": name, **instances.to_json()}, ensure_ascii=False) + "\n")


def build_dataset(
    images: list[Path], annotations: list[TextInstances], as_stored: Collection[str] = ()
) -> "datasets.Dataset":
    """A dataset with the columns of `text_features` of photos and what is written in them.

    Args:
        images: files of the photos.
        annotations: in pixels of the upright photo.
        as_stored: names of photos whose EXIF orientation is wrong: their annotations are in the pixels of the file, and
            so are their rows, which hold a copy without the orientation.
    """
    features = text_features()  # first, because it says what to install where datasets is missing
    import datasets

    rows = [_row(path, words, as_stored) for path, words in zip(images, annotations, strict=True)]
    columns = {name: [row[name] for row in rows] for name in features}
    return datasets.Dataset.from_dict(columns, features=features)


def stream_dataset(rows: Callable[[], Iterator[tuple[Path, TextInstances]]]) -> "datasets.IterableDataset":
    """A streamed dataset with the columns of `text_features`; `rows` starts over the photos and their text."""
    features = text_features()
    import datasets

    return datasets.IterableDataset.from_generator(
        lambda: (_row(path, instances) for path, instances in rows()), features=features
    )


def with_random_access(rows: "datasets.Dataset | datasets.IterableDataset") -> "datasets.Dataset":
    """Rows as they are, streamed ones out of a table that is written to the cache of `datasets` first.

    The table holds the paths of the photos, not their pixels.
    """
    import datasets

    if isinstance(rows, datasets.Dataset):
        return rows
    paths = rows.cast_column("image", datasets.Image(decode=False))
    table = datasets.Dataset.from_generator(lambda: iter(paths), features=text_features())
    assert isinstance(table, datasets.Dataset)
    return table


def _row(path: Path, instances: TextInstances, as_stored: Collection[str] = ()) -> dict[str, Any]:
    return {
        "image": _without_orientation(path) if path.name in as_stored else str(path),
        "image_id": path.name,
        "polygons": [polygon.tolist() for polygon in instances.polygons],
        "texts": instances.texts or [None] * len(instances),
        "ignore": instances.ignored.tolist(),
    }


def _without_orientation(path: Path) -> dict[str, Any]:
    """The picture as PNG, which keeps every pixel."""
    buffer = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "PNG", exif=b"")
    return {"bytes": buffer.getvalue(), "path": None}


def photos_of(images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The photos in a folder, or in several, sorted by name.

    Raises:
        FileNotFoundError: if there is no such folder, or no photo.
    """
    folders = [images] if isinstance(images, str | os.PathLike) else images
    photos = [photo for folder in folders for photo in list_images(_folder(folder, "images"))]
    if not photos:
        raise FileNotFoundError(f"no photos in {', '.join(map(str, folders))}")
    return sorted(photos, key=lambda photo: photo.name)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON; the line is named.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error


def _folder(path: str | os.PathLike[str], name: str) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"`{name}`: no such folder: {path}")
    return Path(path)


def _listed_names(names: str | os.PathLike[str] | Iterable[str], known: Mapping[str, Path], folder: Path) -> set[str]:
    """The file names meant by a list or a text file, which may leave out the suffix; all have to be `known`."""
    if isinstance(names, str | os.PathLike):
        names = [line.strip() for line in read_text(Path(names)).splitlines()]
    # Accents in names of files are composed on some systems, decomposed on others.
    by_name = {_composed(path.stem): name for name, path in known.items()} | {_composed(name): name for name in known}
    listed = {by_name.get(_composed(name), name) for name in names if name}
    if missing := sorted(listed - set(known)):
        raise FileNotFoundError(f"{len(missing)} listed photos are not in {folder}: {', '.join(missing[:5])}")
    return listed


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _read_icdar(path: Path, image: Path) -> TextInstances:
    found = find_file(path)
    if found is None:
        raise FileNotFoundError(f"no annotation file for {image}: expected {path}")
    text = read_text(found)
    try:
        instances = TextInstances.from_icdar(text)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    instances.texts = [word or None for word in instances.texts or []]
    return instances


def _parse_json_line(line: str) -> tuple[str, TextInstances]:
    """Path of the image and its text."""
    row = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.get("image"), str) or not isinstance(row.get("polygons"), list):
        raise ValueError('expected an object with "image" (a path) and "polygons" (a list)')
    instances = TextInstances.from_json({key: row.get(key) for key in ("polygons", "texts", "ignore")})
    if any(not isinstance(word, str | None) for word in instances.texts or []):
        raise ValueError(f'"texts" holds {instances.texts}; expected strings and nulls')
    if instances.ignore is None and instances.texts is not None:
        instances.ignore = np.array([is_illegible(word or "") for word in instances.texts], dtype=bool)
    return row["image"], instances
