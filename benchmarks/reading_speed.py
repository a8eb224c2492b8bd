"""Milliseconds to read 10, 50 and 200 words that have been found, beside RapidOCR's recogniser.

    python benchmarks/reading_speed.py [--words 10 50 200] [--rapidocr] [--rounds 7] [--threads 2]

Words are printed on a page, on which the bundled spotter is given their places: timed are sampling, its recogniser and
the reading with its language model. RapidOCR's recogniser gets the same words cut out. Both take turns; printed are
medians, and how many words each reads exactly.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from compare_accuracy import WORKER, default_environment, install_rapidocr, started
from PIL import Image, ImageDraw, ImageFont
from transformers import pipeline

from transformers_tcm.data.rendering.words import PlainWordSampler
from transformers_tcm.data.synthetic import PRINTABLE_ASCII
from transformers_tcm.models.tcm.recognition.proposals import outlines_to_bezier

COLUMNS, MARGIN, LETTERS = 8, 16, 28
Read = Callable[[], tuple[float, list[str]]]


def page(count: int) -> tuple[Image.Image, list[tuple[int, int, int, int]], list[str]]:
    """A white page with words in columns, their boxes (left, top, right, bottom), and what they say."""
    texts = PlainWordSampler(PRINTABLE_ASCII).line(np.random.default_rng(0), count)
    font = ImageFont.load_default(LETTERS)
    cell = max(int(font.getlength(text)) for text in texts) + 2 * MARGIN, 2 * LETTERS
    rows = -(-count // COLUMNS)
    paper = Image.new("RGB", (COLUMNS * cell[0], rows * cell[1]), "white")
    pen = ImageDraw.Draw(paper)
    boxes = []
    for index, text in enumerate(texts):
        place = (index % COLUMNS * cell[0] + MARGIN, index // COLUMNS * cell[1] + LETTERS // 2)
        pen.text(place, text, "black", font)
        left, top, right, bottom = pen.textbbox(place, text, font)
        boxes.append((int(left) - 2, int(top) - 2, int(right) + 2, int(bottom) + 2))
    return paper, boxes, texts


def corners(box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    return np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])


def own_reading(spotter: Any, paper: Image.Image, boxes: Sequence[tuple[int, int, int, int]]) -> Read:
    """The reading of words whose places are given, as in the bundled spotter's pipeline."""
    model, processor = spotter.model, spotter.image_processor
    batch = processor(paper, do_resize=False).to(spotter.dtype)
    features = model._features(model.model(batch["pixel_values"], batch["pixel_mask"], return_dict=True))
    points, images = outlines_to_bezier([corners(box) for box in boxes]), torch.zeros(len(boxes), dtype=torch.int64)
    threshold = processor.text_threshold

    def read() -> tuple[float, list[str]]:
        start = time.perf_counter()
        logits = model.recognizer.test_time_augmentation(features, points, images, threshold)
        words = model.recognizer.decode(logits, True, threshold)
        return time.perf_counter() - start, [word.text for word in words]

    return read


def rapidocr_reading(worker: Any, files: Sequence[Path]) -> Read:
    """RapidOCR's recogniser on images of the same words."""

    def read() -> tuple[float, list[str]]:
        answer = worker.read(files)
        return answer["seconds"], answer["texts"]

    return read


def save_words(paper: Image.Image, boxes: Sequence[tuple[int, int, int, int]], folder: Path) -> list[Path]:
    """The words, cut out, as files."""
    files = [folder / f"{len(boxes)}_{index:03}.png" for index in range(len(boxes))]
    for file, box in zip(files, boxes, strict=True):
        paper.crop(box).save(file)
    return files


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--rapidocr", action="store_true", help="also RapidOCR's, in an environment of its own")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spotter = pipeline("text-spotting", model="fasttcm-spotter-tiny", device="cpu")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        worker = None
        if arguments.rapidocr:
            command = [install_rapidocr(default_environment()), "-I", WORKER, "--threads", str(arguments.threads)]
            worker = stack.enter_context(started(command))
        for count in arguments.words:
            paper, boxes, texts = page(count)
            readers = {"bundled spotter": own_reading(spotter, paper, boxes)}
            if worker is not None:
                readers["RapidOCR"] = rapidocr_reading(worker, save_words(paper, boxes, folder))
            print(f"{count} words:", ", ".join(told(readers, texts, arguments.rounds)), flush=True)


def told(readers: dict[str, Read], texts: Sequence[str], rounds: int) -> list[str]:
    """What each reader takes, all of them taking turns, and how much of it is right."""
    runs: dict[str, list[tuple[float, list[str]]]] = {name: [] for name in readers}
    for round_number in range(rounds + 1):
        for name, read in readers.items():
            run = read()
            if round_number:  # the first round warms up
                runs[name].append(run)
    parts = []
    for name, several in runs.items():
        right = sum(one == text for one, text in zip(several[-1][1], texts, strict=True))
        parts.append(f"{name} {1000 * statistics.median(time for time, _ in several):.0f} ms ({right} exactly)")
    return parts


if __name__ == "__main__":
    main()
