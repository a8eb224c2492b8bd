"""RapidOCR as a process that `compare_accuracy.py` talks to; it runs in RapidOCR's own environment.

    python rapidocr_worker.py --threads 2 [--engine openvino]

When the models are loaded it writes a line {"versions": {package: version}, "model_bytes": size}. Then it takes the
path of an image from each line of its input and answers with a line: {"seconds": time, "lines": [{"text": what the line
says, "words": [[text, four corners, score], …]}, …]}, or {"error": message}. Lines that stand on their head are turned
by its orientation classifier before they are read. A JSON list of paths are images of single words, which go to its
recogniser alone: {"seconds": time, "texts": […]}.
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
import numpy as np
import rapidocr
from PIL import Image, ImageOps
from rapidocr.ch_ppocr_rec.typings import TextRecInput

MODELS = Path(rapidocr.__file__).parent / "models"
PARTS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}


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


def answer(engine: rapidocr.RapidOCR, request: str) -> dict[str, Any]:
    """What is in an image or in images of words, and the seconds from the decoded pictures to the result."""
    try:
        return read_words(engine, json.loads(request)) if request.startswith("[") else read_image(engine, request)
    except Exception as error:  # whatever it is, the process that asked has to hear of it
        return {"error": f"{request}: {type(error).__name__}: {error}"}


def read_image(engine: rapidocr.RapidOCR, path: str) -> dict[str, Any]:
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    start = time.perf_counter()
    result = engine(image)
    return {"seconds": time.perf_counter() - start, "lines": lines_of(result)}


def read_words(engine: rapidocr.RapidOCR, paths: list[str]) -> dict[str, Any]:
    words = [np.asarray(Image.open(path).convert("RGB"))[..., ::-1] for path in paths]
    if engine.text_rec is None:  # it is loaded when it is first needed
        engine(words[0], use_det=False, use_cls=False, use_rec=True)
    start = time.perf_counter()
    result = engine.text_rec(TextRecInput(img=words))
    return {"seconds": time.perf_counter() - start, "texts": list(result.txts)}


def engine_settings(engine: str, threads: int) -> dict[str, Any]:
    """Parameters of RapidOCR that run its own models in an engine; onnxruntime is its default."""
    if engine == "onnxruntime":
        return {"EngineConfig.onnxruntime.intra_op_num_threads": threads}
    chosen: dict[str, Any] = {"EngineConfig.openvino.inference_num_threads": threads}
    for part, model in PARTS.items():
        chosen[f"{part}.engine_type"] = rapidocr.EngineType(engine)
        chosen[f"{part}.model_path"] = str(MODELS / model)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engine", default="onnxruntime", choices=["onnxruntime", "openvino"])
    arguments = parser.parse_args()
    answers = answers_alone()
    cv2.setNumThreads(arguments.threads)
    settings = {"Global.return_word_box": True, "Global.use_cls": True, "Global.log_level": "error"}
    settings |= engine_settings(arguments.engine, arguments.threads)
    engine = rapidocr.RapidOCR(params=settings)
    hello = {
        "versions": {name: version(name) for name in ("rapidocr", arguments.engine)},
        "model_bytes": sum((MODELS / name).stat().st_size for name in PARTS.values()),
    }
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(engine, line.rstrip("\n"))), file=answers, flush=True)


if __name__ == "__main__":
    main()
