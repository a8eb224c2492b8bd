"""What the commands do, apart from their options."""

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import typer
from PIL import Image
from tqdm import tqdm

from ..images import ReducedImage, is_image_name, list_images, subfolders_with_images
from ..lexicon import Lexicon, LexiconRule, checked_limit
from ..results import lines_of_text
from .overlap import overlapped, workers_for
from .result_files import ResultWriter

if TYPE_CHECKING:
    from ..pipelines import TextDetectionPipeline

__all__ = [
    "complain",
    "counted",
    "find_images",
    "load_pipeline",
    "named_files",
    "prepare_transformers",
    "reading_settings",
    "run_on_images",
    "task_of",
    "usage_errors",
]

_NAMED_FILES = 4  # in the last line that a command says
_ADDRESS = re.compile(r"(https?|data|ftp|s3|gs|hf)://|data:", re.IGNORECASE)


def complain(message: object) -> None:
    """One line on stderr, above the progress bar where there is one; its head is red on a terminal."""
    in_color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    head = typer.style("error:", fg="red", bold=True) if in_color else "error:"
    text = str(message).strip()
    if "Traceback (most recent call last):" in text:  # transformers quotes whole tracebacks; what counts comes last
        text = text.splitlines()[-1]
    tqdm.write(f"{head} {' '.join(text.split())}", file=sys.stderr)


def find_images(arguments: Sequence[str]) -> tuple[list[Path], int]:
    """The images that the arguments mean, each once, and how many arguments meant none."""
    paths: dict[Path, None] = {}
    failures = 0
    for argument in arguments:
        try:
            paths.update(dict.fromkeys(_expand(argument)))
        except OSError as error:
            complain(error)
            failures += 1
    return list(paths), failures


def _expand(argument: str) -> list[Path]:
    """A file as it is, which need not exist; the images in a folder; the files that match a pattern."""
    if os.path.isdir(argument):
        return _images_of_folder(argument)
    if argument.lower().startswith("file://"):
        return [Path(url2pathname(urlsplit(argument).path))]
    if _ADDRESS.match(argument):
        raise FileNotFoundError(f"{argument[:100]!r} is an address; the commands read files: download it first")
    if not glob.has_magic(argument) or os.path.exists(argument):
        return [Path(argument)]
    files = sorted(path for path in map(Path, glob.glob(argument, recursive=True)) if path.is_file())
    if not files:
        raise FileNotFoundError(f"no images in {argument!r}")
    return files


def _images_of_folder(folder: str) -> list[Path]:
    """The images in it; those of its subfolders are hinted at."""
    files, below = list_images(folder), subfolders_with_images(folder)
    hint = ""
    if below:
        pattern = os.path.join(folder, "**", f"*{_an_image_in(below[0]).suffix}")
        hint = f"there are images in its subfolders, such as {str(below[0])!r}, which the pattern {pattern!r} reads"
    if not files:
        raise FileNotFoundError(f"no images in {folder!r}" + (f"; {hint}" if hint else ""))
    if hint:
        tqdm.write(f"note: {folder}: {hint}", file=sys.stderr)
    return files


def _an_image_in(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if is_image_name(path))


@contextmanager
def usage_errors() -> Iterator[None]:
    """One line and exit code 2 for whatever keeps a command from starting.

    What is no model, or a damaged one, makes its readers raise anything from JSONDecodeError to SafetensorError.
    """
    try:
        yield
    except Exception as error:
        complain(error)
        raise typer.Exit(2) from error


def reading_settings(
    text_threshold: float | None,
    lexicon: Path | None,
    rule: LexiconRule | None,
    max_distance: float | None,
    language_model: bool,
) -> dict[str, Any]:
    """The arguments of a spotting pipeline that were given.

    Raises:
        FileNotFoundError: if there is no such lexicon.
        ValueError: if it is empty, or the other options do not fit.
    """
    given: dict[str, Any] = {"text_threshold": text_threshold, "lexicon_rule": rule, "max_distance": max_distance}
    given["use_language_model"] = None if language_model else False
    given = {name: value for name, value in given.items() if value is not None}
    if lexicon is not None:
        checked_limit(rule or "within", max_distance)
        return {**given, "lexicon": Lexicon.from_file(lexicon)}
    if rule is not None or max_distance is not None:
        raise ValueError("--lexicon-rule and --max-distance say how a lexicon is used: give it with --lexicon")
    return given


def prepare_transformers() -> None:
    """Our models known; no remarks and no progress bars of its own: what a command says is for its user."""
    from transformers.utils import logging

    from .. import register

    register()
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_pipeline(
    task: str, model: str | None, device: str | None, settings: dict[str, Any]
) -> "TextDetectionPipeline":
    """The pipeline, without the remarks of transformers on its way.

    Raises:
        ValueError: if there is a lexicon in the settings with characters that the model cannot read.
    """
    from transformers import pipeline

    prepare_transformers()
    loaded: TextDetectionPipeline = pipeline(task, model=model, device=device, **settings)  # type: ignore[call-overload]
    if "lexicon" in settings:
        settings["lexicon"].check_charset(loaded.model.config.reading_settings.charset)
    return loaded


def run_on_images(detector: "TextDetectionPipeline", writer: ResultWriter, quiet: bool) -> int:
    """Write the results of all images, and say what they are; returns how many images failed."""
    instances, done = 0, list[Path]()
    alone = len(writer.names) == 1

    def read(path: Path) -> tuple[Image.Image | ReducedImage, list[dict[str, Any]]]:
        photo = detector.load_photo(path)
        with _counted_tiles(detector, shown=not quiet and alone):
            return photo, detector(photo)

    # `None` shows the bar on a terminal only.
    hidden = True if quiet or alone else None
    results = overlapped(read, writer.names, workers_for(detector, len(writer.names)))
    for path, result in tqdm(results, total=len(writer.names), unit="image", disable=hidden):
        try:
            photo, found = result.result()
            writer.write(path, photo, found)
        # Whatever is wrong with one image must not cost the results of the others.
        except Exception as error:
            complain(error if str(path) in str(error) else f"{path}: {str(error) or type(error).__name__}")
            continue
        instances += len(found)
        done.append(path)
        if not quiet:
            _tell(path, found, alone, reads=detector.task == "text-spotting")
    if not quiet:
        kind = "word" if detector.task == "text-spotting" else "region"
        files = [file.name for path in done for file in writer.files(writer.names[path])]
        found_in = f"{len(done)} of {counted(len(writer.names), 'image')}"
        typer.echo(f"{counted(instances, kind)} in {found_in}{named_files(writer.folder, files)}")
    return len(writer.names) - len(done)


def _tell(path: Path, found: list[dict[str, Any]], alone: bool, reads: bool) -> None:
    """The lines of words in an image, under its name where there are several, or how many regions it has."""
    if reads:
        head = [] if alone else [f"==> {path} <=="]
        said = [*head, *lines_of_text(found)]
    else:
        said = [] if alone else [f"{path}: {counted(len(found), 'region')}"]
    for line in said:
        tqdm.write(line)


def counted(number: int, name: str) -> str:
    """A number with its noun."""
    return f"{number} {name}{'s' * (number != 1)}"


def named_files(folder: Path, names: Sequence[str]) -> str:
    """The end of a summary: the folder of the results, and the first files in it; empty without any."""
    names = list(dict.fromkeys(names))
    if not names:
        return ""
    more = f" and {len(names) - _NAMED_FILES} more" if len(names) > _NAMED_FILES else ""
    return f"; results in {folder}: {', '.join(names[:_NAMED_FILES])}{more}"


@contextmanager
def _counted_tiles(detector: "TextDetectionPipeline", shown: bool) -> Iterator[None]:
    """On a terminal, what has been read of an image that takes several turns; it is gone afterwards."""
    if not shown:
        yield
        return
    with tqdm(unit=" tiles", disable=None, delay=2, leave=False) as bar:
        hook = detector.model.register_forward_hook(lambda module, inputs, output: bar.update(len(output.valid_sizes)))
        try:
            yield
        finally:
            hook.remove()


def task_of(model: str | None) -> Literal["detection", "spotting", "oriented"]:
    """What the architecture in a checkpoint is for; detection for the bundled default."""
    from transformers import AutoConfig

    prepare_transformers()
    architectures = [] if model is None else AutoConfig.from_pretrained(model).architectures or []
    if any(name.endswith("ForOrientedObjectDetection") for name in architectures):
        return "oriented"
    return "spotting" if any(name.endswith("ForTextSpotting") for name in architectures) else "detection"
