"""Many photos in parts: each part is read by one worker and written to one Parquet file, whole or not at all.

A photo has a name that stays the same from run to run: the path of its file below the folder, or `file.parquet#7` for
the row of a Parquet file. A part is called after the names of its photos. So a worker that is killed leaves nothing
that counts, the worker that repeats its part writes the same file, and a later run leaves out every photo that is in a
file already.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transformers_tcm.images import is_image_name
from transformers_tcm.serving.reading import PhotoReader

__all__ = ["SCHEMA", "Part", "find_parts", "read_part", "results_in"]

Part = list[str]
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "polygons": pa.list_(pa.list_(pa.list_(pa.float32()))),
        "scores": pa.list_(pa.float32()),
        "texts": pa.list_(pa.string()),
        "text_scores": pa.list_(pa.float32()),
        "lines": pa.list_(pa.int32()),
        # Why the photo could not be read; null for one that was.
        "error": pa.string(),
    }
)


def results_in(output: Path) -> list[dict[str, Any]]:
    """All rows of a folder of results."""
    return [row for file in sorted(output.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def find_parts(source: Path, output: Path, size: int) -> list[Part]:
    """What is still to be read: names of photos, `size` of them to a part.

    Args:
        source: folder of photos, or of Parquet files with a column `image`; its subfolders too.
        output: folder of the results there are.
        size: what a killed worker loses at most, in photos.

    Raises:
        FileNotFoundError: if there are no photos.
        ValueError: if the results would be taken for photos.
    """
    if output.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{output} lies in {source}, where results would be taken for photos; choose another --output")
    names = [*_names(source)]
    if not names:
        raise FileNotFoundError(f"no photos and no Parquet files in {source}")
    done = {name for file in output.glob("*.parquet") for name in pq.read_table(file, columns=["id"])["id"].to_pylist()}
    left = [name for name in names if name not in done]
    return [left[start : start + size] for start in range(0, len(left), size)]


def _names(source: Path) -> Iterable[str]:
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        name = file.relative_to(source).as_posix()
        if file.suffix == ".parquet":
            yield from (f"{name}#{row}" for row in range(pq.read_metadata(file).num_rows))
        elif is_image_name(file):
            yield name


def read_part(part: Part, source: Path, output: Path, task: str, model: str | None, batch_size: int) -> int:
    """Read the photos of a part and write its file; returns how many could not be read."""
    reader = _reader(task, model)
    rows = []
    for start in range(0, len(part), batch_size):
        names = part[start : start + batch_size]
        rows += [_row(name, result) for name, result in zip(names, _results(reader, source, names), strict=True)]
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{hashlib.sha256(json.dumps(part).encode()).hexdigest()[:24]}.parquet"
    # Two workers may write it at the same time, if one of them was only thought to be dead.
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary)
    temporary.replace(file)
    return sum(row["error"] is not None for row in rows)


@cache
def _reader(task: str, model: str | None) -> PhotoReader:
    """One model for each process."""
    from transformers import pipeline

    import transformers_tcm  # noqa: F401  registers the task

    return PhotoReader(pipeline(task, model=model), max_pixels=40_000_000)


def _results(reader: PhotoReader, source: Path, names: Sequence[str]) -> list[Any]:
    """What is in photos, or what is wrong with them, in their order."""
    contents = _contents(source, names)
    found = iter(reader([content for content in contents if isinstance(content, bytes)]))
    return [content if isinstance(content, Exception) else next(found) for content in contents]


def _contents(source: Path, names: Sequence[str]) -> list[bytes | Exception]:
    """Bytes of the photos; rows of one Parquet file are read together."""
    rows: dict[str, list[int]] = defaultdict(list)
    for file, sign, row in (name.rpartition("#") for name in names):
        if sign and file.endswith(".parquet"):
            rows[file].append(int(row))
    stored = {f"{file}#{row}": content for file in rows for row, content in _stored(source / file, rows[file])}
    return [stored[name] if name in stored else _read_file(source / name) for name in names]


def _read_file(file: Path) -> bytes | Exception:
    try:
        return file.read_bytes()
    except OSError as error:
        return error


def _stored(file: Path, rows: Sequence[int]) -> Iterable[tuple[int, bytes | Exception]]:
    """Numbers and images of rows; only the row groups that they are in are read."""
    parquet, first = pq.ParquetFile(file), 0
    for group in range(parquet.num_row_groups):
        end = first + parquet.metadata.row_group(group).num_rows
        wanted = [row for row in rows if first <= row < end]
        if wanted:
            column = parquet.read_row_group(group, columns=["image"])["image"]
            yield from ((row, _image_bytes(column[row - first].as_py())) for row in wanted)
        first = end


def _image_bytes(value: Any) -> bytes | Exception:
    """As `datasets` stores images, `{"bytes": …}`, or the bytes alone."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else ValueError("the row holds no image")


def _row(name: str, result: Any) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"id": name, "error": str(result) or type(result).__name__}
    row = {"id": name, "width": result["width"], "height": result["height"], "error": None}
    columns = {"polygon": "polygons", "score": "scores", "text": "texts", "text_score": "text_scores", "line": "lines"}
    # A detector gives neither texts nor lines.
    for key, column in columns.items():
        values = [instance[key] for instance in result["instances"] if key in instance]
        row[column] = values if len(values) == len(result["instances"]) else None
    return row
