"""What a model finds and reads of everything that people photograph: by letter height, by turn, without text.

    python benchmarks/robustness.py --set validation_set [--model fasttcm-spotter-tiny] [--rapidocr PYTHON] \
        [--output robustness.json]

The set is that of `make_validation_set.py`. A word is found when a detection with an IoU of 0.5 or more lies on it,
each detection on one word, the largest overlaps first; read when their texts are equal but for the case, read exactly
when they are equal. Heights are those of the labels' outlines (`geometry.word_height`). False words are readings on no
word; those on ignored words do not count for anything.

Reliability is about all readings: how many of those with a score of 0.9 or more are right (found and read), and the
expected calibration error (M. P. Naeini et al., AAAI 2015), the mean distance between score and share of right readings
over ten bins of equal width, weighed by their readings.

RapidOCR runs with its orientation classifier in the Python given, see `compare_accuracy.py`, which can install it; its
word boxes are joined between spaces.

The whole set takes long. Parts of it (`--groups`) can run side by side, each with an `--output`; given
these as `--known`, a last run looks at no picture again and prints the table of all of them.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compare_accuracy import WORKER, parts_of_words, started

from transformers_tcm import TextInstances, load_image
from transformers_tcm.evaluation.matching import overlap
from transformers_tcm.geometry import min_area_quad, word_height

IOU = 0.5
HEIGHTS = (0, 10, 14, 20, 32, 64, 128, 256)
# Letters from these heights on together, as the aims are put.
AT_LEAST = (14, 64)
PHOTOS, RENDERED = ("val", "val_half", "val_double"), ("sign", "scene")
SURE = 0.9
CALIBRATION_BINS = 10
WORD_COLUMNS = ("line", "system", "pictures", "words", "found", "read", "read exactly", "false words per picture")
RELIABILITY_COLUMNS = ("readings of", "system", "readings", f"score ≥ {SURE}", "of these right", "calibration error")

# Finds and reads the words of the picture of a path.
Run = Callable[[Path], TextInstances]


@dataclass(frozen=True)
class Picture:
    """A picture of the set, its labels, its kind, its turn in degrees, and the picture that was turned."""

    path: Path
    truth: TextInstances
    group: str
    turn: int = 0
    source: Path | None = None


@dataclass(frozen=True)
class Word:
    """What became of a labelled word of a height in pixels; `read` disregards the case."""

    height: float
    found: bool
    read: bool
    exact: bool


@dataclass(frozen=True)
class Reading:
    """A word that a system reports: how sure it is, whether it lies on a word at all, whether it is right, and which
    one it is of those that the system found in the picture."""

    score: float
    on_word: bool
    right: bool
    place: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a system made of a picture."""

    picture: Picture
    words: list[Word]
    readings: list[Reading]


def load_set(
    folder: Path, every: int = 1, groups: Sequence[str] | None = None, largest: float = np.inf
) -> list[Picture]:
    """The pictures of a set, or one in `every` of each group, whose longest edge is at most `largest` pixels.

    Raises:
        FileNotFoundError: if there is no set.
        ValueError: if no picture is left.
    """
    labels = folder / "labels.jsonl"
    if not labels.is_file():
        raise FileNotFoundError(f"{labels} is missing; expected a folder that make_validation_set.py has written")
    pictures, seen = [], dict[str, int]()
    for line in filter(str.strip, labels.read_text(encoding="utf-8").split("\n")):
        row = json.loads(line)
        group = row["group"]
        seen[group] = seen.get(group, 0) + 1
        chosen = (seen[group] - 1) % every == 0 and (groups is None or group in groups)
        if chosen and (largest == np.inf or max(load_image(folder / row["image"]).size) <= largest):
            source = folder / row["source"] if "source" in row else None
            truth = TextInstances.from_json(row)
            pictures.append(Picture(folder / row["image"], truth, group, row["turn"], source))
    if not pictures:
        raise ValueError(f"{labels} has no picture of the groups {', '.join(groups or [])}; it has {', '.join(seen)}")
    return pictures


def judge(picture: Picture, found: TextInstances) -> Outcome:
    """Compare what was found in a picture with its labels."""
    truth = picture.truth
    areas = overlap(truth, found, mend=True)
    # (N, M) overlaps of labels and detections; nothing is matched to an ignored label.
    partner = dict(_closest_pairs(np.where(truth.ignored[:, None], 0.0, areas.iou)))
    wanted, texts = truth.texts or [None] * len(truth), found.texts or [None] * len(found)
    words, right = [], set()
    for index in np.flatnonzero(~truth.ignored):
        label, text = wanted[index] or "", texts[partner[index]] if index in partner else None
        read = text is not None and text.casefold() == label.casefold()
        words.append(Word(word_height(truth.polygons[index]), index in partner, read, text == label))
        right |= {partner[index]} if read else set()
    # A detection may cover a word and, mostly, an ignored one beside it: the word wins.
    taken = set(partner.values())
    on_ignored = areas.inside_any(truth.ignored, 0.5)
    scores = found.text_scores if found.text_scores is not None else found.scores
    readings = [
        Reading(1.0 if scores is None else float(scores[j]), j in taken, j in right, j)
        for j in range(len(found))
        if j in taken or not on_ignored[j]
    ]
    return Outcome(picture, words, readings)


def _closest_pairs(iou: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows and columns of (N, M) that overlap enough, the largest first, each row and column once."""
    iou = iou.copy()
    while iou.size and iou.max() >= IOU:
        row, column = np.unravel_index(int(iou.argmax()), iou.shape)
        yield int(row), int(column)
        iou[row], iou[:, column] = 0, 0  # both are taken


def word_row(line: str, outcomes: Sequence[Outcome], low: float = 0, high: float = np.inf) -> dict[str, Any]:
    """A line of the table: shares of the words from a height of `low` up to `high`; `None` without any."""
    words = [word for outcome in outcomes for word in outcome.words if low <= word.height < high]
    shares = {
        name: sum(getattr(word, name) for word in words) / len(words) if words else None
        for name in ("found", "read", "exact")
    }
    row = {"line": line, "pictures": len(outcomes), "words": len(words), **shares, "false": None}
    # A false word has no label, hence no height.
    if low == 0 and high == np.inf and outcomes:
        false = sum(not reading.on_word for outcome in outcomes for reading in outcome.readings)
        row["false"] = false / len(outcomes)
    return row


def word_table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """All lines for one system; those that no picture belongs to are left out."""
    by_group: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_group.setdefault(outcome.picture.group, []).append(outcome)
    rows = [word_row(f"group {group}", chosen) for group, chosen in by_group.items()]
    for name, groups in (("rendered", RENDERED), ("photos", PHOTOS)):
        chosen = [outcome for group in groups for outcome in by_group.get(group, [])]
        for low, high in zip(HEIGHTS, (*HEIGHTS[1:], np.inf), strict=True):
            label = f"{name}, {low} to {high} px" if high < np.inf else f"{name}, {low} px and more"
            rows.append(word_row(label, chosen, low, high))
        rows += [word_row(f"{name}, all from {low} px", chosen, low) for low in AT_LEAST]
    turned = by_group.get("turned", [])
    # Compared with the same pictures upright, not with all: which ones are turned makes a difference.
    sources = {outcome.picture.source for outcome in turned}
    upright = [outcome for outcome in outcomes if outcome.picture.path in sources]
    rows.append(word_row("turned by 0°, the same pictures", upright))
    for degrees in sorted({outcome.picture.turn for outcome in turned}):
        chosen = [outcome for outcome in turned if outcome.picture.turn == degrees]
        rows.append(word_row(f"turned by {degrees}°", chosen))
    return [row for row in rows if row["words"] or row["false"] is not None]


def reliability_row(line: str, readings: Sequence[Reading]) -> dict[str, Any]:
    """How far scores can be trusted; `None` where there is nothing to judge."""
    sure = [reading.right for reading in readings if reading.score >= SURE]
    return {
        "line": line,
        "readings": len(readings),
        "sure": len(sure),
        "sure_right": float(np.mean(sure)) if sure else None,
        "calibration_error": calibration_error(readings) if readings else None,
    }


def calibration_error(readings: Sequence[Reading]) -> float:
    """Expected calibration error over ten bins."""
    scores = np.array([reading.score for reading in readings])
    right = np.array([reading.right for reading in readings], np.float64)
    # (R,) bins; a score of 1 belongs to the last.
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(scores[bins == b].sum() - right[bins == b].sum()) for b in range(CALIBRATION_BINS)]
    return float(sum(gaps) / len(readings))


def reliability_table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """All readings, and those of some kinds of pictures."""
    kinds = {"photos": ("val",), "rendered": RENDERED, "turned": ("turned",), "no text": ("no_text",)}
    kept = {"all pictures": list(outcomes)}
    kept |= {name: [o for o in outcomes if o.picture.group in groups] for name, groups in kinds.items()}
    rows = [reliability_row(name, [r for o in chosen for r in o.readings]) for name, chosen in kept.items()]
    return [row for row in rows if row["readings"]]


def own_system(model: str, device: str, settings: dict[str, Any]) -> tuple[str, Run]:
    """A spotter of this package: a bundled one by its name, or a folder."""
    from transformers import pipeline

    from transformers_tcm import bundled_model_path

    folder = Path(model) if Path(model).is_dir() else bundled_model_path(model)
    spotter = pipeline("text-spotting", model=str(folder), device=device)  # type: ignore[call-overload]

    def run(path: Path) -> TextInstances:
        return TextInstances.from_detections(spotter(load_image(path), **settings))

    return folder.resolve().name, run


def rapidocr_words(lines: Iterable[dict[str, Any]]) -> TextInstances:
    """The words between spaces of RapidOCR's lines, in boxes around all their parts, as sure as the least sure part."""
    words = [parts for line in lines for parts in parts_of_words(line)]
    scores = np.array([min(score for _, _, score in parts) for parts in words], np.float32)
    # Boxes of lines that run down or stand on their head begin at any corner.
    polygons = [min_area_quad(np.concatenate([np.array(box, np.float32) for _, box, _ in parts])) for parts in words]
    texts: list[str | None] = ["".join(text.strip() for text, _, _ in parts) for parts in words]
    return TextInstances(polygons, scores=scores, texts=texts, text_scores=scores)


def known_detections(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What each system found in each picture by earlier runs, of which `files` are the outputs.

    Raises:
        ValueError: for a file that is no output of this script.
    """
    known: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            for system, found in json.loads(file.read_text(encoding="utf-8"))["detections"].items():
                known.setdefault(system, {}).update(found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is no output of this script: {error!r}") from error
    return known


def recalling(run: Run, known: Mapping[str, Any]) -> Run:
    """`run`, which only looks at pictures that `known` has nothing of."""
    return lambda path: TextInstances.from_json(known[path.name]) if path.name in known else run(path)


def measure(
    systems: dict[str, Run], pictures: Sequence[Picture]
) -> tuple[dict[str, list[Outcome]], dict[str, dict[str, Any]]]:
    """Outcomes of each system, and what it found in each picture, by the picture's name."""
    from tqdm import tqdm

    outcomes: dict[str, list[Outcome]] = {name: [] for name in systems}
    detections: dict[str, dict[str, Any]] = {name: {} for name in systems}
    for picture in tqdm(pictures, unit="image", disable=None):
        for name, run in systems.items():
            found = run(picture.path)
            outcomes[name].append(judge(picture, found))
            detections[name][picture.path.name] = found.to_json()
    return outcomes, detections


def markdown(columns: Sequence[str], tables: dict[str, list[dict[str, Any]]]) -> str:
    """Rows of all systems under one another, line by line."""
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for rows in _side_by_side(tables):
        for system, row in zip(tables, rows, strict=True):
            if row is not None:
                values = [_cell(value) for name, value in row.items() if name != "line"]
                lines.append(f"| {' | '.join([row['line'], system, *values])} |")
    return "\n".join(lines)


def _side_by_side(tables: dict[str, list[dict[str, Any]]]) -> Iterator[list[dict[str, Any] | None]]:
    """The rows that all systems have for a line; `None` where one has none."""
    named = [{row["line"]: row for row in rows} for rows in tables.values()]
    for line in dict.fromkeys(line for rows in named for line in rows):
        yield [rows.get(line) for rows in named]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Set the systems up and measure them: the rows of both tables and the detections of each system."""
    import cv2
    import torch

    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    pictures = load_set(arguments.set, arguments.every, arguments.groups, arguments.largest)
    with ExitStack() as stack:
        systems = dict([own_system(arguments.model, arguments.device, arguments.settings)])
        if arguments.rapidocr is not None:
            command = [arguments.rapidocr, "-I", WORKER, "--threads", str(arguments.threads)]
            worker = stack.enter_context(started(command))
            name = f"RapidOCR {worker.hello['versions']['rapidocr']}"
            systems[name] = lambda path: rapidocr_words(worker.ask(path)["lines"])
        known = known_detections(arguments.known)
        systems = {name: recalling(run, known.get(name, {})) for name, run in systems.items()}
        outcomes, detections = measure(systems, pictures)
    return {
        "pictures": len(pictures),
        "words": {name: word_table(own) for name, own in outcomes.items()},
        "reliability": {name: reliability_table(own) for name, own in outcomes.items()},
        "detections": detections,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="folder that make_validation_set.py has written")
    parser.add_argument("--model", default="fasttcm-spotter-tiny", help="bundled spotter or folder (%(default)s)")
    parser.add_argument("--rapidocr", type=Path, metavar="PYTHON", help="a Python that has RapidOCR, to compare with")
    parser.add_argument("--device", default="cpu", help="of the model (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each system (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take one picture in so many of each group (default: all)")
    parser.add_argument("--groups", nargs="+", help="take these groups only")
    parser.add_argument("--largest", type=float, default=np.inf, help="take pictures of at most so many pixels only")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON of arguments of the pipeline's calls")
    parser.add_argument("--output", type=Path, help="JSON file for the tables and all detections")
    parser.add_argument(
        "--known",
        type=Path,
        nargs="+",
        default=[],
        help="outputs of earlier runs on this set, of this model and settings",
    )
    arguments = parser.parse_args()
    try:
        if arguments.output is not None:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
        report = evaluate(arguments)
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(markdown(WORD_COLUMNS, report["words"]))
    print()
    print(markdown(RELIABILITY_COLUMNS, report["reliability"]))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
