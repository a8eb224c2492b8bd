"""Commands for labels of one's own: `validate-dataset` and `import-labels`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from .cli_support import usage_errors

__all__ = ["validate_dataset"]


def validate_dataset(
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos: with --annotations, or to be complete in --jsonl.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of gt_NAME.txt, ICDAR-2015 format.")] = None,
    include: Annotated[Path | None, typer.Option(help="Text file with the names of the photos to look at.")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Or a JSON-lines file of photos.")] = None,
    draw: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for pictures of the photos with wrong words.")
    ] = None,
    output: Annotated[Path | None, typer.Option(dir_okay=False, help="JSON file for the report.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Leave out problems of this kind; can be repeated.")
    ] = None,
) -> None:
    """Look for mistakes in labels: all problems of all files, grouped by kind, with file, line and word.

    \b
    Photos    missing-photo unreadable-photo missing-labels duplicate-photo
    Labels    unreadable-labels empty-word missing-word duplicate-word
    Outlines  too-few-points not-finite too-many-points zero-area self-intersection outside-photo
    Order     counter-clockwise reading-start

    Outlines run clockwise from the corner where the word starts. That another corner was taken is found where geometry
    tells it: a first side that is the short one of a longer word, or that points left.

    The exit code is 0 if nothing was found, 1 if something was, 2 if there is nothing to look at.

    \b
    Examples:
      transformers-tcm validate-dataset --images photos --annotations labels
      transformers-tcm validate-dataset --jsonl labels.jsonl --draw findings --output findings.json
      transformers-tcm validate-dataset --jsonl labels.jsonl --images photos --allow outside-photo --allow missing-word
    """
    with usage_errors():
        from .data.validation import KINDS, check_photos, read_icdar2015_labels, read_jsonl_labels

        if unknown := sorted(set(allow or ()) - set(KINDS)):
            raise ValueError(f"--allow {unknown[0]}: there is no such kind; the kinds are {', '.join(KINDS)}")
        if jsonl is not None and annotations is None and include is None:
            photos, findings = read_jsonl_labels(jsonl, images)
        elif jsonl is None and images is not None and annotations is not None:
            photos, findings = read_icdar2015_labels(images, annotations, include)
        else:
            raise ValueError("give either --images and --annotations (and --include), or --jsonl (and --images)")
        # `None` shows the bar on a terminal only.
        report = check_photos(tqdm(photos, unit="photo", disable=None), findings).without(set(allow or ()))
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
        if draw is not None:
            from .finding_pictures import draw_findings

            draw_findings(report, draw)
    typer.echo(report.to_text())
    if report.findings:
        raise typer.Exit(1)
