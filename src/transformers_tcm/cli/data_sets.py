"""Commands for public data sets: `datasets` and `convert-dataset`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .support import counted, usage_errors

__all__ = ["convert_dataset", "list_datasets"]


def list_datasets(
    root: Annotated[Path | None, typer.Argument(help="Folder with a subfolder for each data set.")] = None,
) -> None:
    """List the public data sets that are known, and what of each lies in ROOT.

    A subfolder is called like the data set, up to case and marks (total-text, TotalText), and holds what the archives
    of the set unpack to. Words that are ignored neither count as found nor as missed.

    \b
    Examples:
      transformers-tcm datasets
      transformers-tcm datasets /data/text
    """
    with usage_errors():
        from ..data.known_datasets import KNOWN_DATASETS, folder_of, missing_parts

        for name, known in KNOWN_DATASETS.items():
            typer.echo(f"{name:<24}{known.title}; ignored: {known.ignored}; {known.url}")
            folder = None if root is None else folder_of(name, root)
            if folder is None:
                typer.echo(f"{'':<24}{', '.join(known.splits)}" + ("" if root is None else ": not there"))
                continue
            for split in known.splits:
                missing = missing_parts(name, folder, split)
                state = f"no {' and no '.join(missing)} in {folder}" if missing else "there"
                typer.echo(f"{'':<24}{split}: {state}")


def convert_dataset(
    name: Annotated[str, typer.Argument(help="Of `transformers-tcm datasets`.")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set, or the one above it.")],
    output: Annotated[Path, typer.Argument(help="Folder for the converted data set.")],
    split: Annotated[str, typer.Option(help="Which part.")] = "train",
    form: Annotated[Literal["parquet", "jsonl"], typer.Option("--format", help="See above.")] = "parquet",
    include: Annotated[Path | None, typer.Option(help="Text file with the names of the photos to take.")] = None,
) -> None:
    """Convert a part of a public data set to the files that training and evaluation read.

    \b
      parquet  SPLIT-00000.parquet and so on, with the photos inside: --dataset_name FOLDER of the training scripts
      jsonl    SPLIT.jsonl with the paths of the photos, which stay where they are: --train_jsonl, evaluate --jsonl

    \b
    Examples:
      transformers-tcm convert-dataset icdar2015 /data/text converted --split train
      transformers-tcm convert-dataset total-text /data/text/Total-Text labels --split test --format jsonl
    """
    with usage_errors():
        from ..data.exporting import write_jsonl, write_parquet
        from ..data.known_datasets import load_text_dataset

        rows = load_text_dataset(name, root, split, include)
        files = [write_jsonl(rows, output, split)] if form == "jsonl" else write_parquet(rows, output, split)
    typer.echo(f"{counted(len(files), 'file')} in {output}: {', '.join(file.name for file in files)}")
