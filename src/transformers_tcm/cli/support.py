"""What the commands do, apart from their options."""

import glob
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import typer
from tqdm import tqdm

from ..images import is_image_name, list_images, load_image, subfolders_with_images
from ..instances import TextInstances
from ..lexicon import Lexicon, LexiconRule, checked_limit
from .result_files import ResultWriter, lines_of_text

if TYPE_CHECKING:
    from ..evaluation import EvaluationResult
    from ..pipelines import TextDetectionPipeline

__all__ = [
    "Evaluation",
    "annotated_rows",
    "complain",
    "counted",
    "evaluate_rows",
    "find_images",
    "load_pipeline",
    "named_files",
    "prepare_transformers",
    "reading_settings",
    "run_on_images",
    "task_of",
    "usage_errors",
    "write_failure_report",
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
    # `None` shows the bar on a terminal only.
    for path in tqdm(writer.names, unit="image", disable=True if quiet or alone else None):
        try:
            image = load_image(path)
            with _counted_tiles(detector, shown=not quiet and alone):
                found = detector(image)
            writer.write(path, image, found)
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
    with tqdm(unit=" tiles", disable=None if shown else True, delay=2, leave=False) as bar:
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


def annotated_rows(
    images: Path | None, annotations: Path | None, include: Path | None, jsonl: Path | None, with_words: bool
) -> Any:
    """Rows with `image` and its text.

    Raises:
        ValueError: if neither folders nor a file are given, or a word that counts has no transcription although
            `with_words` asks for it.
    """
    from ..data.loaders import load_icdar2015, load_jsonl

    if jsonl is not None:
        rows = load_jsonl(jsonl)
    elif images is not None and annotations is not None:
        rows = load_icdar2015(images, annotations, include=include)
    else:
        raise ValueError("nothing to evaluate on: give --images and --annotations, or --jsonl")
    if not len(rows):
        raise ValueError(f"nothing to evaluate on: there is no photo in {jsonl or images}")
    for name, texts, ignore in zip(rows["image_id"], rows["texts"], rows["ignore"], strict=True) if with_words else ():
        if any(text is None and not skip for text, skip in zip(texts, ignore, strict=True)):
            raise ValueError(
                f"{name} has words without a transcription: mark illegible ones with ###, or use --task detection"
            )
    return rows


@dataclass(frozen=True)
class Evaluation:
    """A model on annotated photos.

    Args:
        results: totals of each protocol, by its name.
        seconds: median for an image, from the decoded picture to the result.
        found: what was found in each image.
    """

    results: dict[str, "EvaluationResult"]
    seconds: float
    found: list[TextInstances]

    def summary(self) -> str:
        """A line of figures for each protocol, and one on the run."""
        lines = []
        for name, result in self.results.items():
            figures = f"precision {result.precision:.4f}  recall {result.recall:.4f}  hmean {result.hmean:.4f}"
            lines.append(figures if len(self.results) == 1 else f"{name.replace('_', ' '):<15}{figures}")
        return "\n".join([*lines, f"{len(self.found)} images, {self.seconds:.3f} s each (median)"])

    def to_dict(self) -> dict[str, Any]:
        """Every figure of every image, ready for `json.dumps`: those of the detection, the others by name."""
        others = {name: result.to_dict() for name, result in self.results.items() if name != "detection"}
        return {**self.results["detection"].to_dict(), **others, "seconds_per_image": self.seconds}


def evaluate_rows(pipeline: "TextDetectionPipeline", rows: Any) -> Evaluation:
    """Run the model on every row and judge what it finds by the protocols that fit its task."""
    from ..data.loaders import row_to_instances
    from ..evaluation import DetectionIoU, EndToEnd, WordSpotting

    metrics: Mapping[str, DetectionIoU] = {"detection": DetectionIoU()}
    if pipeline.task == "text-spotting":
        metrics = {**metrics, "end_to_end": EndToEnd(), "word_spotting": WordSpotting()}
    seconds, detections = [], []
    for row in tqdm(rows, unit="image", disable=None):
        start = time.perf_counter()
        found = pipeline(row["image"])
        seconds.append(time.perf_counter() - start)
        detections.append(TextInstances.from_detections(found))
        for metric in metrics.values():
            metric.update(row_to_instances(row), detections[-1], row["image_id"])
    results = {name: metric.compute() for name, metric in metrics.items()}
    return Evaluation(results, statistics.median(seconds), detections)


def write_failure_report(
    folder: Path,
    pipeline: "TextDetectionPipeline",
    rows: Any,
    evaluation: Evaluation,
    given: Mapping[str, Any],
    worst: int,
) -> Path:
    """The page that shows where the model fails; returns its path.

    The figures stay those of the evaluation. For the scores below its threshold every photo goes through the model once
    more, with half of that threshold.
    """
    from ..data.loaders import row_to_instances
    from ..evaluation.failures import classify
    from ..evaluation.report import Report, write_report
    from ..evaluation.score_curve import score_curve

    settings = _settings_in_use(pipeline, given)
    threshold = settings["box_threshold"]
    images, candidates = [], []
    for row, found in zip(tqdm(rows, unit="image", desc="lower scores", disable=None), evaluation.found, strict=True):
        truth = row_to_instances(row)
        images.append(classify(truth, found, row["image_id"], with_words=pipeline.task == "text-spotting"))
        more = pipeline(row["image"], box_threshold=threshold / 2)
        candidates.append((truth, TextInstances.from_detections(more)))
    title = f"{pipeline.task.replace('-', ' ').capitalize()}: figures and failures"
    shown = {name: _setting_text(value) for name, value in settings.items()}
    shown["seconds per image"] = f"{evaluation.seconds:.3f} (median)"
    report = Report(title, evaluation.results, shown, images, score_curve(candidates), threshold)
    return write_report(folder, report, lambda index: load_image(rows[index]["image"]), worst)


def _settings_in_use(pipeline: "TextDetectionPipeline", given: Mapping[str, Any]) -> dict[str, Any]:
    """The model, and what its processor says unless it was given."""
    processor = pipeline.image_processor
    stored = {"size": processor.size, **asdict(processor.decoding_settings())}
    if pipeline.task == "text-spotting":
        stored["text_threshold"] = processor.text_threshold
    chosen = {name: value for name, value in given.items() if value is not None}
    if "tile" in chosen:
        # Tiles are cut from the photo as it is, or as `--size` makes it.
        stored.pop("size")
    return {"model": pipeline.model.name_or_path, **stored, **chosen}


def _setting_text(value: Any) -> str:
    if isinstance(value, Lexicon):
        return f"{len(value)} words"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Sizes of the processor have a number for each way to resize, most of them none.
    if is_dataclass(value) and not isinstance(value, type):
        numbers = asdict(value).items()
        return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers if number is not None)
    return str(value)
