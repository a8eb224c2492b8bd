"""RapidOCR as a process that `compare_accuracy.py` talks to; it runs in RapidOCR's own environment.

    python rapidocr_worker.py --threads 2

When the models are loaded it writes a line {"versions": {package: version}, "model_bytes": size}. Then it takes the
path of an image from each line of its input and answers with a line: {"seconds": time, "lines": [{"text": what the line
says, "words": [[text, four corners, score], …]}, …]}, or {"error": message}. Lines that stand on their head are turned
by its orientation classifier before they are read.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import cv2
import rapidocr
from PIL import Image, ImageOps

PACKAGES = ("rapidocr", "onnxruntime")


def answers_alone() -> TextIO:
    """Standard output for the answers, in place of which anything else that is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def lines_of(result: Any) -> list[dict[str, Any]]:
    """Lines and their words; `None` as the text of each line where RapidOCR does not say which words belong to which.

    It leaves lines without words out of `word_results` only, and returns a placeholder there if nothing was found.
    """
    if result.boxes is None:
        return []
    told = len(result.txts) == len(result.word_results)
    texts = result.txts if told else [None] * len(result.word_results)
    return [
        {"text": text, "words": [[word, [[float(x), float(y)] for x, y in box], float(p)] for word, p, box in line]}
        for text, line in zip(texts, result.word_results, strict=True)
    ]


def answer(engine: rapidocr.RapidOCR, path: str) -> dict[str, Any]:
    """What is in an image, and the seconds from the decoded picture to the result."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        start = time.perf_counter()
        result = engine(image)
        return {"seconds": time.perf_counter() - start, "lines": lines_of(result)}
    except Exception as error:  # whatever it is, the process that asked has to hear of it
        return {"error": f"{path}: {type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    answers = answers_alone()
    cv2.setNumThreads(threads)
    settings = {"Global.return_word_box": True, "Global.use_cls": True, "Global.log_level": "error"}
    engine = rapidocr.RapidOCR(params={**settings, "EngineConfig.onnxruntime.intra_op_num_threads": threads})
    models = Path(rapidocr.__file__).parent.glob("models/*.onnx")  # detection, direction, recognition
    hello = {
        "versions": {name: version(name) for name in PACKAGES},
        "model_bytes": sum(path.stat().st_size for path in models),
    }
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(engine, line.rstrip("\n"))), file=answers, flush=True)


if __name__ == "__main__":
    main()
