"""This package's bundled models and RapidOCR on the same photos: accuracy, seconds per image, size.

    python benchmarks/compare_accuracy.py --images photos --annotations labels [--include val.txt] [--output out.json]

RapidOCR (PP-OCRv6 small, with its word boxes) is installed with pip into a virtual environment of its own, once, and
runs there as a process that stays; `--environment` says where. All systems see each photo one after the other, in
turning order, so that a machine whose speed drifts treats them alike. Times are from the decoded picture to the
result, after one photo to warm up; accuracy is that of `transformers_tcm.evaluation`: detection by IoU above 0.5, and
end to end, where a word has to be read as well, but for its case.

RapidOCR reads lines and cuts them into words, also at wide gaps within a word, and into single characters where a line
has Chinese ones. It has two rows: its word boxes as they come, and those that no space separates joined into one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transformers_tcm import TextInstances
from transformers_tcm.evaluation import DetectionIoU, EndToEnd

RAPIDOCR = "3.10.0"
WORKER = Path(__file__).with_name("rapidocr_worker.py")
COLUMNS = ("system", "precision", "recall", "hmean", "end-to-end hmean", "s per image", "model MB")

# Words found in an image, once for each row of the table, and the seconds it took.
Found = tuple[list[TextInstances], float]


@dataclass
class System:
    """What is compared: the names of its rows in the table, the size of its weights, and how it is run."""

    rows: list[str]
    megabytes: float
    run: Callable[[Path], Found]
    reads: bool = True
    seconds: list[float] = field(default_factory=list)


class Scores:
    """The protocols of one row."""

    def __init__(self, reads: bool):
        self.detection, self.end_to_end = DetectionIoU(), EndToEnd() if reads else None

    def update(self, truth: TextInstances, found: TextInstances, image_id: str) -> None:
        """Add an image."""
        for metric in filter(None, (self.detection, self.end_to_end)):
            metric.update(truth, found, image_id)

    def to_dict(self) -> dict[str, Any]:
        """Totals and results of each image of both protocols."""
        end_to_end = None if self.end_to_end is None else self.end_to_end.compute().to_dict()
        return {"detection": self.detection.compute().to_dict(), "end_to_end": end_to_end}


def default_environment() -> Path:
    """A folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "transformers_tcm" / f"rapidocr-{RAPIDOCR}"


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed_version(python: Path, engines: Sequence[str]) -> str | None:
    """The RapidOCR that an interpreter can import together with what it runs on, or `None`."""
    code = f"import {', '.join(engines)}, rapidocr, importlib.metadata as m; print(m.version('rapidocr'))"
    if not python.exists():
        return None
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def install_rapidocr(environment: Path, engines: Sequence[str] = ("onnxruntime",)) -> Path:
    """The interpreter of a virtual environment with RapidOCR, which is created and filled where it is not there yet.

    RapidOCR runs in `engines`, of "onnxruntime" and "openvino"; it cannot do without the first.

    Raises:
        RuntimeError: if it cannot be created, or pip fails.
    """
    python = python_of(environment)
    if installed_version(python, engines) == RAPIDOCR:
        return python
    print(f"installing rapidocr {RAPIDOCR} into {environment}", file=sys.stderr)
    remedy = (
        "this needs a connection to a package index once; where there is none, give --environment the folder of a "
        f"virtual environment that has rapidocr=={RAPIDOCR} and {' and '.join(engines)}"
    )
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(environment)], [*pip, f"rapidocr=={RAPIDOCR}", *engines]):
        done = subprocess.run(command, stdout=sys.stderr)
        if done.returncode:
            name = "pip" if "pip" in command else "venv"
            raise RuntimeError(f"RapidOCR was not installed, {name} failed with exit code {done.returncode}: {remedy}")
    if (found := installed_version(python, engines)) != RAPIDOCR:
        raise RuntimeError(
            f"{environment} has rapidocr {found} after the installation, {RAPIDOCR} was wanted: {remedy}"
        )
    return python


class Worker:
    """A process that answers the path of an image with a line of JSON, see `rapidocr_worker.py`.

    Raises:
        RuntimeError: if it ends, or reports an error; its own messages go to standard error.
    """

    def __init__(self, command: Sequence[str | Path]):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8")
        self.hello = self._answer()

    def ask(self, path: Path) -> dict[str, Any]:
        """The answer for an image."""
        return self._request(str(path.resolve()))

    def read(self, words: Sequence[Path]) -> dict[str, Any]:
        """The answer of the recogniser alone, for images of single words."""
        return self._request(json.dumps([str(path.resolve()) for path in words]))

    def _request(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None  # a pipe
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which `_answer` finds out
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # a pipe
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of RapidOCR ended with exit code {self.process.wait()}, see above")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"RapidOCR failed on {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


@contextmanager
def started(command: Sequence[str | Path]) -> Iterator[Worker]:
    """A `Worker` for the length of a block."""
    worker = Worker(command)
    try:
        yield worker
    finally:
        worker.close()


def words_as_they_come(lines: Sequence[dict[str, Any]]) -> TextInstances:
    """Every word box of RapidOCR's lines."""
    return _instances([[word] for line in lines for word in line["words"]])


def joined_words(lines: Sequence[dict[str, Any]]) -> TextInstances:
    """The words between the spaces of RapidOCR's lines, each from the left edge of its first box to its last's right.

    The boxes of a line that do not add up to its text are taken as they come.
    """
    return _instances([parts for line in lines for parts in parts_of_words(line)])


def _instances(words: Sequence[Sequence[Any]]) -> TextInstances:
    """One instance for the parts of each word, each with its text and box."""
    polygons = [[parts[0][1][0], parts[-1][1][1], parts[-1][1][2], parts[0][1][3]] for parts in words]
    texts: list[str | None] = ["".join(text.strip() for text, *_ in parts) for parts in words]
    return TextInstances([np.array(polygon, np.float32) for polygon in polygons], texts=texts)


def parts_of_words(line: dict[str, Any]) -> list[list[list[Any]]]:
    """The parts of a line, each with its text, box and score, those of each word together."""
    singles = [[part] for part in line["words"]]
    words: list[list[list[Any]]] = []
    left = list(line["words"])
    for word in (line["text"] or "").split():
        parts: list[list[Any]] = []
        while left and len("".join(text for text, *_ in parts)) < len(word):
            parts.append(left.pop(0))
        if "".join(text for text, *_ in parts) != word:
            return singles
        words.append(parts)
    return singles if left else words


def rapidocr_system(worker: Worker) -> System:
    """RapidOCR in a process of its own, with two ways to look at its words."""

    def run(path: Path) -> Found:
        answer = worker.ask(path)
        return [words_as_they_come(answer["lines"]), joined_words(answer["lines"])], answer["seconds"]

    engine = " in OpenVINO" if "openvino" in worker.hello["versions"] else ""
    name = f"RapidOCR {worker.hello['versions']['rapidocr']}{engine}"
    rows = [f"{name}, word boxes", f"{name}, word boxes joined between spaces"]
    return System(rows, worker.hello["model_bytes"] / 1e6, run)


def own_system(task: str, folder: Path, backend: str = "torch") -> System:
    """A pipeline of this package on the CPU."""
    from transformers import pipeline

    from transformers_tcm import load_image

    model = pipeline(task, model=str(folder), device="cpu", backend=backend)  # type: ignore[call-overload]

    def run(path: Path) -> Found:
        image = load_image(path)
        start = time.perf_counter()
        found = model(image)
        return [TextInstances.from_detections(found)], time.perf_counter() - start

    files = [path for suffix in ("safetensors", "onnx", "xml", "bin") for path in folder.glob(f"*.{suffix}")]
    size = sum(path.stat().st_size for path in files) / 1e6
    return System([folder.resolve().name], size, run, reads=task == "text-spotting")


def measure(systems: Sequence[System], photos: Sequence[tuple[Path, TextInstances]]) -> dict[str, Scores]:
    """Run all systems on every photo, forwards and backwards in turn, and score the rows of each."""
    from tqdm import tqdm

    scores = {row: Scores(system.reads) for system in systems for row in system.rows}
    for system in systems:
        system.run(photos[0][0])  # warms up
    for number, (path, truth) in enumerate(tqdm(photos, unit="image", disable=None)):
        for system in systems if number % 2 == 0 else reversed(systems):
            views, seconds = system.run(path)
            system.seconds.append(seconds)
            for row, found in zip(system.rows, views, strict=True):
                scores[row].update(truth, found, path.name)
    return scores


def report(systems: Sequence[System], scores: dict[str, Scores]) -> list[dict[str, Any]]:
    """Everything that was measured, a dict for each row of the table."""
    return [
        {
            "system": row,
            "median_seconds": statistics.median(system.seconds),
            "seconds": system.seconds,
            "megabytes": system.megabytes,
            **scores[row].to_dict(),
        }
        for system in systems
        for row in system.rows
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A report in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for row in rows:
        detection, end_to_end = row["detection"], row["end_to_end"]
        cells = [f"{detection[name]:.3f}" for name in ("precision", "recall", "hmean")]
        cells.append("" if end_to_end is None else f"{end_to_end['hmean']:.3f}")
        cells += [f"{row['median_seconds']:.3f}", f"{row['megabytes']:.1f}"]
        lines.append(f"| {' | '.join([row['system'], *cells])} |")
    return "\n".join(lines)


def annotated_photos(images: Path, annotations: Path, include: Path | None) -> list[tuple[Path, TextInstances]]:
    """Paths and words of the photos.

    Raises:
        FileNotFoundError: if a folder, a file or all photos are missing.
        ValueError: for an annotation that cannot be read.
    """
    from transformers_tcm.data.loaders import load_icdar2015, row_to_instances

    rows = load_icdar2015(images, annotations, include=include).remove_columns("image")
    return [(images / row["image_id"], row_to_instances(row)) for row in rows]


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Set all systems up and measure them."""
    import cv2
    import torch

    from transformers_tcm import bundled_model_path

    photos = annotated_photos(arguments.images, arguments.annotations, arguments.include)
    python = install_rapidocr(arguments.environment)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    folders = {
        "text-spotting": arguments.spotter or bundled_model_path("fasttcm-spotter-tiny"),
        "text-detection": arguments.detector or bundled_model_path("fasttcm-dbnet-tiny"),
    }
    own = [own_system(task, Path(folder)) for task, folder in folders.items()]
    with started([python, "-I", WORKER, "--threads", str(arguments.threads)]) as worker:
        systems = [*own, rapidocr_system(worker)]
        return report(systems, measure(systems, photos))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of gt_NAME.txt, ICDAR-2015 format")
    parser.add_argument("--include", type=Path, help="text file with the names of the photos to take")
    parser.add_argument("--threads", type=int, default=2, help="of each system (default: 2)")
    parser.add_argument("--output", type=Path, help="JSON file for the totals and every image")
    parser.add_argument("--environment", type=Path, default=default_environment(), help="default: %(default)s")
    parser.add_argument("--spotter", type=Path, help="folder of another spotter than the bundled one")
    parser.add_argument("--detector", type=Path, help="folder of another detector than the bundled one")
    arguments = parser.parse_args()
    try:
        if arguments.output is not None:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
        rows = compare(arguments)
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(table(rows))
    count = len(rows[0]["seconds"])
    print(f"\n{count} images; times are medians, the systems taking turns, with --threads {arguments.threads}")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
