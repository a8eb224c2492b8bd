"""Pipelines as a service uses them: from many threads, for a long time."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from spotting_fakes import BrightWords, tiny_spotter_config
from training_fakes import detector

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.pipelines import TextDetectionPipeline, TextSpottingPipeline

THREADS = 8
# A random model finds something nearly everywhere with these.
SETTINGS: dict[str, Any] = {"threshold": 0.5, "box_threshold": 0.0, "min_size": 1}


def random_detector(**size: Any) -> TextDetectionPipeline:
    model = detector(num_context_tokens=2)
    return TextDetectionPipeline(model=model, image_processor=TCMImageProcessor(**SETTINGS, **size), device="cpu")


def random_spotter(**size: Any) -> TextSpottingPipeline:
    torch.manual_seed(0)
    model = TCMForTextSpotting(tiny_spotter_config())
    # Few proposals, because reading them takes the time.
    processor = TCMImageProcessor(**SETTINGS, **size, text_threshold=0.0, max_candidates=3)
    return TextSpottingPipeline(model=model, image_processor=processor, device="cpu")


def bright_spotter(**size: Any) -> TextSpottingPipeline:
    processor = TCMImageProcessor(**size, text_threshold=0.0)
    return TextSpottingPipeline(model=BrightWords(), image_processor=processor, device="cpu")


def pictures(folder: Path, count: int) -> list[Path]:
    """Noise of a few sizes with one white word each."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        pixels = rng.integers(0, 120, (64, 48 + 32 * (index % 3), 3), dtype=np.uint8)
        x, y = rng.integers(4, 20, 2)
        pixels[y : y + 14, x : x + 22] = 255
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.mark.parametrize("make", [random_detector, random_spotter, bright_spotter])
def test_eight_threads_give_the_results_of_one(make: Callable[..., TextDetectionPipeline], tmp_path: Path) -> None:
    """Different settings in the threads at the same time; the text embedding is made while all of them wait for it."""
    paths = pictures(tmp_path, 16)
    calls = [{"image": path, "box_threshold": 0.1 * (index % 4)} for index, path in enumerate(paths)]
    serial = make(size={"longest_edge": 96})
    expected = [serial(call["image"], box_threshold=call["box_threshold"]) for call in calls]
    assert any(expected)
    shared = make(size={"longest_edge": 96})
    start = Barrier(THREADS)

    def work(offset: int) -> list[Any]:
        start.wait()
        order = [(offset + step) % len(calls) for step in range(len(calls))]
        results = {index: shared(calls[index]["image"], box_threshold=calls[index]["box_threshold"]) for index in order}
        return [results[index] for index in range(len(calls))]

    with ThreadPoolExecutor(THREADS) as pool:
        for results in pool.map(work, range(0, 2 * THREADS, 2)):
            assert results == expected


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [random_detector, random_spotter])
def test_memory_does_not_grow(make: Callable[..., TextDetectionPipeline], count: int) -> None:
    """Three sizes of input: the convolutions of a CPU keep kernels for every size they have seen."""
    model = make(do_resize=False)
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (64, width, 3), dtype=np.uint8) for width in (32, 64, 96)]

    def run(times: int) -> None:
        for index in range(times):
            model(photos[index % len(photos)] ^ np.uint8(index % 251))
        gc.collect()

    run(100)
    before = resident_bytes()
    run(count)
    assert resident_bytes() - before < 20e6
