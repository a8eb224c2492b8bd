"""Rows of annotated photos written to Parquet, with the photos inside, and to JSON lines."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .loaders import row_to_instances, save_jsonl, text_features

if TYPE_CHECKING:
    import datasets
    import pyarrow

__all__ = ["write_jsonl", "write_parquet"]

# Photos in memory at a time.
_BATCH_SIZE = 64


def write_parquet(
    rows: "datasets.Dataset | datasets.IterableDataset",
    folder: str | os.PathLike[str],
    split: str,
    rows_per_file: int = 5000,
) -> list[Path]:
    """Write `SPLIT-00000.parquet` and so on, with the files of the photos inside.

    `load_named_dataset(folder, split)`, `datasets.load_dataset` and the Hub's viewer read them.

    Args:
        rows: with the columns of `text_features`, streamed or not.
        folder: made where it does not exist; files of the same names are replaced.
        split: which part it is.
        rows_per_file: photos of a file, in batches of 64.

    Returns:
        The files.

    Raises:
        ValueError: if there is no row.
    """
    from pyarrow.parquet import ParquetWriter

    Path(folder).mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with ExitStack() as stack:
        written = rows_per_file
        for table in _tables(rows):
            if written >= rows_per_file:
                stack.close()
                files.append(Path(folder) / f"{split}-{len(files):05d}.parquet")
                writer, written = stack.enter_context(ParquetWriter(files[-1], table.schema)), 0
            writer.write_table(table)
            written += len(table)
    if not files:
        raise ValueError("there is no photo to write")
    return files


def _tables(rows: "datasets.Dataset | datasets.IterableDataset") -> Iterator["pyarrow.Table"]:
    """Batches with the bytes of the photos, whose schema tells `datasets` what the columns are."""
    from datasets.table import embed_table_storage

    schema = text_features().arrow_schema
    for table in rows.with_format("arrow").iter(batch_size=_BATCH_SIZE):
        yield embed_table_storage(table.cast(schema))


def write_jsonl(
    rows: "datasets.Dataset | datasets.IterableDataset", folder: str | os.PathLike[str], split: str
) -> Path:
    """Write `SPLIT.jsonl`, which `load_jsonl` reads, with the paths of the photos where they lie.

    Photos that have none, and those that had to be changed, are written to the folder `images` beside it.

    Args:
        rows: with the columns of `text_features`, streamed or not.
        folder: made where it does not exist.
        split: which part it is.

    Raises:
        ValueError: if there is no row.
    """
    from datasets import Image

    Path(folder).mkdir(parents=True, exist_ok=True)
    # Each iterator is one row ahead of the other at most.
    first, second = tee(rows.cast_column("image", Image(decode=False)))
    file = Path(folder) / f"{split}.jsonl"
    save_jsonl(file, (_photo(row, Path(folder) / "images") for row in first), map(row_to_instances, second))
    if not file.stat().st_size:
        file.unlink()
        raise ValueError("there is no photo to write")
    return file


def _photo(row: dict[str, Any], folder: Path) -> Path:
    """The photo's file; the bytes of a row are written to one."""
    if row["image"]["bytes"] is None:
        return Path(row["image"]["path"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / row["image_id"]
    path.write_bytes(row["image"]["bytes"])
    return path
