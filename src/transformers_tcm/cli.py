"""The command `transformers-tcm`."""

import glob
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from tqdm import tqdm

from .images import load_image
from .result_files import ResultFormat, ResultWriter

if TYPE_CHECKING:
    from .evaluation import EvaluationResult
    from .pipelines import TextDetectionPipeline

__all__ = ["app", "main"]

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# Plain help and plain errors: they can be piped, and the examples keep their line breaks.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"transformers-tcm {__version__}")
        raise typer.Exit


@app.callback()
def _commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find text in photos with TCM and FastTCM.

    `transformers-tcm COMMAND --help` explains a command.
    """


@app.command()
def detect(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders of images, or patterns.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a detector. [default: the bundled one]")
    ] = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")] = Path("detections"),
    form: Annotated[ResultFormat, typer.Option("--format", help="See above.")] = "json",
    draw: Annotated[bool, typer.Option(help="Also write NAME_text.png, the picture with its text outlined.")] = False,
    size: Annotated[int | None, typer.Option(min=1, help="Longer side in pixels to which images are resized.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="A pixel with a higher probability is text.")
    ] = None,
    box_threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a result.")] = None,
    unclip_ratio: Annotated[float | None, typer.Option(min=0, help="How far outlines grow beyond the cores.")] = None,
    min_size: Annotated[float | None, typer.Option(min=0, help="Shortest side of a core in resized pixels.")] = None,
    polygon: Annotated[bool | None, typer.Option(help="Outlines that follow curved text, or four corners.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0. [default: the fastest there is]")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
) -> None:
    """Find the text in images and write where it is.

    What is not set comes from the model. The results go to the output folder, named after the images:

    \b
      json   NAME.json: image, width, height, and the instances with score, box and polygon
      icdar  res_NAME.txt: a line x1,y1,x2,y2,... of whole pixels for each instance
      jsonl  results.jsonl: a line for each image, as the data loaders of this package read it

    An image that cannot be read is reported and left out; the exit code is then 1.

    \b
    Examples:
      transformers-tcm detect photo.jpg --draw
      transformers-tcm detect photos/ --output results --format icdar
      transformers-tcm detect "scans/**/*.png" --size 1600 --box-threshold 0.7 --polygon
    """
    settings = {"size": size, "threshold": threshold, "box_threshold": box_threshold, "unclip_ratio": unclip_ratio}
    paths, failures = _find_images(images)
    if paths:
        with _usage_errors():
            detector = _load_detector(model, device, {**settings, "min_size": min_size, "polygon": polygon})
            writer = ResultWriter(output, form)
        failures += _detect_all(detector, paths, writer, draw, quiet)
    if failures:
        raise typer.Exit(1)


@app.command()
def evaluate(
    images: Annotated[Path | None, typer.Option(help="Folder of photos, with --annotations.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of gt_NAME.txt, ICDAR-2015 format.")] = None,
    include: Annotated[Path | None, typer.Option(help="Text file with the names of the photos to take.")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Or a JSON-lines file of photos.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder or Hub name of a detector. [default: bundled]")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Longer side in pixels to which images are resized.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="A pixel above this is text.")] = None,
    box_threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a result.")] = None,
    unclip_ratio: Annotated[float | None, typer.Option(min=0, help="How far outlines grow beyond the cores.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0. [default: the fastest there is]")] = None,
    output: Annotated[Path | None, typer.Option(dir_okay=False, help="JSON file for totals and every image.")] = None,
) -> None:
    """Compare a detector with annotations: precision, recall and hmean by the ICDAR-2015 protocol (IoU above 0.5).

    What is not set comes from the model: one fixed setting for all images.

    \b
    Examples:
      transformers-tcm evaluate --images photos --annotations labels --include val.txt
      transformers-tcm evaluate --jsonl photos.jsonl --model my_detector --output evaluation.json
    """
    settings = {"size": size, "threshold": threshold, "box_threshold": box_threshold, "unclip_ratio": unclip_ratio}
    with _usage_errors():
        rows = _load_annotated(images, annotations, include, jsonl)
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
        result, seconds = _evaluate_all(_load_detector(model, device, settings), rows)
    typer.echo(f"precision {result.precision:.4f}  recall {result.recall:.4f}  hmean {result.hmean:.4f}")
    typer.echo(f"{len(result.images)} images, {seconds:.3f} s each (median)")
    if output is not None:
        report = {**result.to_dict(), "seconds_per_image": seconds}
        output.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _load_annotated(images: Path | None, annotations: Path | None, include: Path | None, jsonl: Path | None) -> Any:
    """Rows with `image` and its text."""
    from .data.loaders import load_icdar2015, load_jsonl

    if jsonl is not None:
        return load_jsonl(jsonl)
    if images is None or annotations is None:
        raise ValueError("nothing to evaluate on: give --images and --annotations, or --jsonl")
    return load_icdar2015(images, annotations, include=include)


def _evaluate_all(detector: "TextDetectionPipeline", rows: Any) -> tuple["EvaluationResult", float]:
    """Totals, and the median of the seconds for an image, from the decoded picture to polygons."""
    from .data.loaders import row_to_instances
    from .evaluation import DetectionIoU
    from .instances import TextInstances

    metric, seconds = DetectionIoU(), []
    for row in tqdm(rows, unit="image", disable=None):
        start = time.perf_counter()
        found = detector(row["image"])
        seconds.append(time.perf_counter() - start)
        metric.update(row_to_instances(row), TextInstances.from_detections(found), row["image_id"])
    return metric.compute(), statistics.median(seconds)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="CLIP ResNet (OpenAI or open_clip) or a released TCM-DBNet detector.")],
    output: Annotated[Path, typer.Argument(help="Folder for the converted model.")],
    config: Annotated[Path | None, typer.Option(help="JSON file with the settings that no tensor tells.")] = None,
    variant: Annotated[
        Literal["fasttcm", "tcm"] | None,
        typer.Option(help="Source of the language prompt; fasttcm for CLIP unless given."),
    ] = None,
    kind: Annotated[Literal["auto", "clip", "tcm"], typer.Option(help="What SOURCE is.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the parts that SOURCE lacks.")] = 0,
) -> None:
    """Convert a checkpoint into a folder that from_pretrained loads. Nothing in it is executed."""
    from .conversion import convert_checkpoint

    try:
        model = convert_checkpoint(source, output, config=config, variant=variant, kind=kind, seed=seed)
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    typer.echo(f"{output}: a {model.config.variant} detector with {millions:.1f} million parameters")


def _complain(message: object) -> None:
    """One line on stderr, above the progress bar where there is one."""
    tqdm.write(f"error: {' '.join(str(message).split())}", file=sys.stderr)


def _find_images(arguments: Sequence[str]) -> tuple[list[Path], int]:
    """The images that the arguments mean, each once, and how many arguments meant none."""
    paths: dict[Path, None] = {}
    failures = 0
    for argument in arguments:
        try:
            paths.update(dict.fromkeys(_expand(argument)))
        except OSError as error:
            _complain(error)
            failures += 1
    return list(paths), failures


def _expand(argument: str) -> list[Path]:
    """A file as it is, which need not exist; the images in a folder; the files that match a pattern."""
    if os.path.isdir(argument):
        found = [path for path in Path(argument).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    elif glob.has_magic(argument) and not os.path.exists(argument):
        found = [Path(path) for path in glob.glob(argument, recursive=True)]
    else:
        return [Path(argument)]
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise FileNotFoundError(f"no images in {argument!r}")
    return files


@contextmanager
def _usage_errors() -> Iterator[None]:
    """One line and exit code 2 for whatever keeps a command from starting.

    What is no model, or a damaged one, makes its readers raise anything from JSONDecodeError to SafetensorError.
    """
    try:
        yield
    except Exception as error:
        _complain(error)
        raise typer.Exit(2) from error


def _load_detector(model: str | None, device: str | None, settings: dict[str, Any]) -> "TextDetectionPipeline":
    """The pipeline, without the remarks of transformers on its way."""
    from transformers import pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return pipeline("text-detection", model=model, device=device, **settings)  # type: ignore[call-overload]


def _detect_all(
    detector: "TextDetectionPipeline", paths: list[Path], writer: ResultWriter, draw: bool, quiet: bool
) -> int:
    """Write the results of all images; returns how many of them failed."""
    instances = failures = 0
    names = writer.names(paths)
    # `None` shows the bar on a terminal only.
    for path, name in tqdm(names.items(), unit="image", disable=True if quiet or len(paths) == 1 else None):
        try:
            image = load_image(path)
            found = detector(image)
            writer.write(name, path, image, found, draw)
            instances += len(found)
        # Whatever is wrong with one image must not cost the results of the others.
        except Exception as error:
            _complain(error if str(path) in str(error) else f"{path}: {str(error) or type(error).__name__}")
            failures += 1
    if not quiet:
        done = len(paths) - failures
        typer.echo(f"{instances} text instances in {done} of {len(paths)} images; results in {writer.folder}")
    return failures


def main() -> None:
    """Entry point of the console script."""
    app()
