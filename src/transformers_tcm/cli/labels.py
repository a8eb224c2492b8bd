"""Commands for labels of one's own: `validate-dataset` and `import-labels`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from tqdm import tqdm

from .support import usage_errors

__all__ = ["import_labels", "validate_dataset"]


def import_labels(
    source: Annotated[Path, typer.Argument(help="The exported file, see above.")],
    images: Annotated[Path, typer.Option(help="Folder of the photos that were labelled.")],
    output: Annotated[Path, typer.Option(dir_okay=False, help="JSON-lines file for the labels.")] = Path(
        "labels.jsonl"
    ),
    form: Annotated[
        Literal["auto", "label-studio", "cvat", "paddleocr"],
        typer.Option("--format", help="auto tells it from the content."),
    ] = "auto",
    text_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Attribute or text area with the word. [default: see above]"),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Label, choice, NAME=VALUE or checkbox of words that do not count; can be repeated."
        ),
    ] = None,
    reorder: Annotated[bool, typer.Option("--reorder", help="Start every outline where upright text starts.")] = False,
) -> None:
    """Turn labels of Label Studio, CVAT or PPOCRLabel into the JSON lines that training and evaluation read.

    \b
      label-studio  project exported as JSON: rectangles and polygons, with a text area for each region
      cvat          annotations.xml of "CVAT for images 1.1": boxes and polygons, the word in a text attribute
                    (the only one, or the one named transcription, text or word), also without <meta>
      paddleocr     Label.txt of PPOCRLabel, or another list of labels for PaddleOCR's detection

    Words that read ### do not count, nor do those that PPOCRLabel calls difficult. Outlines that run counter-clockwise
    are turned round; --reorder also gives up the corner that the labeller started from, for upright text.

    What cannot be taken over is reported, the rest is written; the exit code is then 1. It is 2 if nothing can.

    \b
    Examples:
      transformers-tcm import-labels project-1.json --images photos --output labels.jsonl
      transformers-tcm import-labels annotations.xml --images photos --text-field plate --ignore illegible
      transformers-tcm import-labels photos/Label.txt --images photos
    """
    with usage_errors():
        from ..data.importing import import_photos, read_export
        from ..data.loaders import save_jsonl

        photos = read_export(source, form, text_field, ignore or ())
        # `None` shows the bar on a terminal only.
        labels = import_photos(tqdm(photos, unit="photo", disable=None), images, reorder)
        if unmatched := labels.unmatched(ignore or ()):
            known = ", ".join(sorted(labels.marks)) or "none"
            # No failure: a project may well have no such word.
            typer.echo(
                f"warning: {source}, --ignore {', '.join(unmatched)}: no word is marked so; the marks are: {known}",
                err=True,
            )
        for problem in labels.problems:
            typer.echo(f"error: {source}, {problem}", err=True)
        if not labels.images:
            raise ValueError(f"none of the {len(photos)} photos of {source} could be taken over")
        output.parent.mkdir(parents=True, exist_ok=True)
        save_jsonl(output, labels.images, labels.annotations)
    typer.echo(f"{labels.summary}; labels in {output}")
    if labels.problems:
        raise typer.Exit(1)


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
    Labels    unreadable-labels other-layout empty-word missing-word odd-word duplicate-word
    Outlines  too-few-points not-finite too-many-points zero-area self-intersection outside-photo
    Order     counter-clockwise reading-start

    Outlines run clockwise from the corner where the word starts. That another corner was taken is found where geometry
    tells it: a first side that is the short one of a longer word, or that points left.

    Files of labels may have more points than four, boxes, or a column for the script: it is told how they are read.

    The exit code is 0 if nothing was found, 1 if something was, 2 if there is nothing to look at.

    \b
    Examples:
      transformers-tcm validate-dataset --images photos --annotations labels
      transformers-tcm validate-dataset --jsonl labels.jsonl --draw findings --output findings.json
      transformers-tcm validate-dataset --jsonl labels.jsonl --images photos --allow outside-photo --allow missing-word
    """
    with usage_errors():
        from ..data.validation import KINDS, check_photos, read_icdar2015_labels, read_jsonl_labels

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
            output.write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
        if draw is not None:
            from ..visualization.findings import draw_findings

            draw_findings(report, draw)
    # Names of files need not be UTF-8.
    typer.echo(report.to_text().encode(errors="backslashreplace"))
    if report.findings:
        raise typer.Exit(1)
