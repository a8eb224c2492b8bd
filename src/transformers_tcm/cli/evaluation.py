"""What `evaluate` does, apart from its options: photos, protocols, lexicons, figures."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..images import load_image
from ..instances import TextInstances
from ..lexicon import Lexicon, LexiconRule, checked_limit
from .support import reading_settings

if TYPE_CHECKING:
    from ..evaluation import EvaluationResult
    from ..evaluation.protocols import Judge
    from ..pipelines import TextDetectionPipeline

__all__ = [
    "Evaluation",
    "Reading",
    "annotated_rows",
    "evaluate_rows",
    "judges_of",
    "needs_words",
    "protocol_of",
    "reading_of",
    "write_failure_report",
]


def annotated_rows(
    images: Path | None,
    annotations: Path | None,
    include: Path | None,
    jsonl: Path | None,
    with_words: bool,
    dataset: tuple[str, Path | None, str] | None = None,
) -> Any:
    """Rows with `image` and its text; `dataset` is a public one, its name, root and split.

    Raises:
        ValueError: if neither folders nor a file are given, or a word that counts has no transcription although
            `with_words` asks for it.
    """
    from ..data.loaders import load_icdar2015, load_jsonl

    if dataset is not None:
        rows = _public_rows(*dataset, include)
    elif jsonl is not None:
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


def _public_rows(name: str, root: Path | None, split: str, include: Path | None) -> Any:
    from ..data.known_datasets import load_text_dataset

    if root is None:
        raise ValueError("--dataset names a public data set: say with --root where it lies")
    rows = load_text_dataset(name, root, split, include)
    if not hasattr(rows, "__len__"):
        raise ValueError(f"{name} is streamed, for training: `transformers-tcm convert-dataset` makes JSON lines of it")
    return rows


@dataclass(frozen=True)
class Reading:
    """How an evaluation reads.

    Args:
        settings: arguments of the spotting pipeline.
        lexicons: one for each photo.
        lexicon: how words are replaced by those of a lexicon, for the record.
    """

    settings: dict[str, Any]
    lexicons: list[Lexicon] | None = None
    lexicon: str = "none"

    def of_photo(self, index: int) -> dict[str, Lexicon]:
        """Arguments of the pipeline for one photo."""
        return {} if self.lexicons is None else {"lexicon": self.lexicons[index]}


def reading_of(
    lexicon: str | None,
    dataset: tuple[str, Path | None, str] | None,
    image_ids: Sequence[str],
    *,
    text_threshold: float | None,
    rule: LexiconRule | None,
    max_distance: float | None,
    language_model: bool,
) -> Reading:
    """How to read, with a lexicon in a file or with one that is published with the data set.

    Args:
        lexicon: a file, the name of a published one, or `"none"`.
        dataset: a public one, its name, root and split.
        image_ids: the names of the photos.
        text_threshold: lowest score of a reading.
        rule: how words replace readings; that of the papers for a published lexicon.
        max_distance: and its limit.
        language_model: whether one has a say.

    Raises:
        FileNotFoundError: if there is no such lexicon.
        ValueError: if it is empty, or the other options do not fit.
    """
    if lexicon is None or lexicon == "none":
        return Reading(reading_settings(text_threshold, None, rule, max_distance, language_model))
    if dataset is None or Path(lexicon).is_file():
        settings = reading_settings(text_threshold, Path(lexicon), rule, max_distance, language_model)
        words = f"{len(settings['lexicon'])} words"
        return Reading(settings, lexicon=f"{words}, {_rule_text(rule or 'within', max_distance)}")
    from ..data.known_datasets import lexicon_of

    name, root, _ = dataset
    published = lexicon_of(lexicon, name, root or Path(), image_ids)
    if rule is None:
        rule, max_distance = published.rule, published.max_distance if max_distance is None else max_distance
    settings = reading_settings(text_threshold, None, None, None, language_model) | {"lexicon_rule": rule}
    settings |= {} if max_distance is None else {"max_distance": max_distance}
    text = f"{lexicon}, {_rule_text(rule, max_distance)}"
    if isinstance(published.lexicon, list):
        return Reading(settings, published.lexicon, text)
    return Reading({**settings, "lexicon": published.lexicon}, lexicon=text)


def _rule_text(rule: LexiconRule, max_distance: float | None) -> str:
    limit = checked_limit(rule, max_distance)
    return rule if limit is None else f"{rule} {limit:g}"


@dataclass(frozen=True)
class Evaluation:
    """A model on annotated photos.

    Args:
        results: totals of each protocol, by its name.
        seconds: median for an image, from the decoded picture to the result.
        found: what was found in each image.
        rules: what each figure was computed by, and with which lexicon, by the same names.
    """

    results: dict[str, "EvaluationResult"]
    seconds: float
    found: list[TextInstances]
    rules: dict[str, str]

    def summary(self) -> str:
        """A line of figures for each protocol, and one on the run."""
        lines = []
        for name, result in self.results.items():
            figures = f"precision {result.precision:.4f}  recall {result.recall:.4f}  hmean {result.hmean:.4f}"
            figures += f"  ({self.rules[name]})"
            lines.append(figures if len(self.results) == 1 else f"{name.replace('_', ' '):<15}{figures}")
        return "\n".join([*lines, f"{len(self.found)} images, {self.seconds:.3f} s each (median)"])

    def to_dict(self) -> dict[str, Any]:
        """Every figure of every image, ready for `json.dumps`: those of the detection, the others by name."""
        others = {name: result.to_dict() for name, result in self.results.items() if name != "detection"}
        detection = self.results["detection"].to_dict()
        return {**detection, **others, "protocols": self.rules, "seconds_per_image": self.seconds}


def judges_of(task: str, protocol: str | None, dataset: str | None) -> dict[str, "Judge"]:
    """The protocols of an evaluation by what they judge, detection first.

    Args:
        task: `"detection"` or `"spotting"`.
        protocol: the one to use; by default all that fit the task.
        dataset: public data set by whose rules it is.

    Raises:
        ValueError: if the protocol fits neither the task nor the data set.
    """
    from ..evaluation import DetectionIoU, EndToEnd, WordSpotting
    from ..evaluation.protocols import READING_PROTOCOLS

    if protocol is None:
        spotting = {"end_to_end": EndToEnd(), "word_spotting": WordSpotting()} if task == "spotting" else {}
        return {"detection": DetectionIoU(), **spotting}
    judge = protocol_of(protocol, dataset)
    if protocol not in READING_PROTOCOLS:
        return {"detection": judge}
    if task != "spotting":
        raise ValueError(f"--protocol {protocol} is for models that read: name a spotter with --model")
    return {"detection": DetectionIoU(), READING_PROTOCOLS[protocol]: judge}


def protocol_of(protocol: str, dataset: str | None = None) -> "Judge":
    """A new judge of a protocol, as published figures on a data set use it.

    Args:
        protocol: a name in `transformers_tcm.evaluation.protocols.CONVENTIONS`, such as `"iou"` or `"e2e"`.
        dataset: a public data set; without one the form of ICDAR 2015.

    Raises:
        ValueError: if figures on the data set are not published by that protocol; the message lists those that are.
    """
    from ..data.known_datasets import KNOWN_DATASETS, known_dataset
    from ..evaluation.protocols import CONVENTIONS

    known = CONVENTIONS["icdar2015" if dataset is None else known_dataset(dataset).conventions]
    if protocol not in known:
        sets = [name for name, entry in KNOWN_DATASETS.items() if protocol in CONVENTIONS[entry.conventions]]
        raise ValueError(
            f"there is no protocol {protocol!r} {'without a data set' if dataset is None else f'for {dataset}'}, only "
            f"{', '.join(known)}; it is known for {', '.join(sets) or 'no data set'}"
        )
    return known[protocol]()


def needs_words(judges: Mapping[str, "Judge"]) -> bool:
    """Whether the photos have to come with transcriptions."""
    from ..evaluation import CLEval

    return len(judges) > 1 or isinstance(judges["detection"], CLEval)


def evaluate_rows(
    pipeline: "TextDetectionPipeline", rows: Any, judges: Mapping[str, "Judge"], reading: Reading
) -> Evaluation:
    """Run the model on every row and judge what it finds."""
    from ..data.loaders import row_to_instances
    from ..evaluation.protocols import figures_of

    seconds, detections = [], []
    for index, row in enumerate(tqdm(rows, unit="image", disable=None)):
        image, options = row["image"], reading.of_photo(index)
        start = time.perf_counter()
        found = pipeline(image, **options)
        seconds.append(time.perf_counter() - start)
        detections.append(TextInstances.from_detections(found))
        for judge in judges.values():
            judge.update(row_to_instances(row), detections[-1], row["image_id"])
    reads = pipeline.task == "text-spotting"
    results, rules = dict[str, "EvaluationResult"](), dict[str, str]()
    for name, judge in judges.items():
        figures, rule = figures_of(name, judge)
        results |= {name: totals for name, totals in figures.items() if reads or name == "detection"}
        rules |= dict.fromkeys(figures, f"{rule}, lexicon: {reading.lexicon}" if reads else rule)
    return Evaluation(results, statistics.median(seconds), detections, {name: rules[name] for name in results})


def write_failure_report(
    folder: Path,
    pipeline: "TextDetectionPipeline",
    rows: Any,
    evaluation: Evaluation,
    given: Mapping[str, Any],
    reading: Reading,
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
    progress = tqdm(rows, unit="image", desc="lower scores", disable=None)
    for index, (row, found) in enumerate(zip(progress, evaluation.found, strict=True)):
        truth = row_to_instances(row)
        images.append(classify(truth, found, row["image_id"], with_words=pipeline.task == "text-spotting"))
        more = pipeline(row["image"], box_threshold=threshold / 2, **reading.of_photo(index))
        candidates.append((truth, TextInstances.from_detections(more)))
    title = f"{pipeline.task.replace('-', ' ').capitalize()}: figures and failures"
    shown = {name: _setting_text(value) for name, value in settings.items()}
    if reading.lexicons is not None:
        shown["lexicon"] = reading.lexicon
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
