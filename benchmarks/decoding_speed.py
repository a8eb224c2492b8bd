"""How long DBNet, PAN and FCENet take to turn the maps of one image into outlines: the processor's time, on one thread.

    python benchmarks/decoding_speed.py [--repeats 30]

The maps are those that a trained head gives for pages of made-up words, a little noise included. Prints medians.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch

from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads import dbnet, fcenet, pan

STRIDE = 4
# Logits of text and of background, clear but for the noise.
SURE, NOISE = 4.0, 0.5


def page(columns: int, rows: int, size: tuple[int, int], seed: int = 0) -> TextInstances:
    """Arched words of 14 points in a grid that fills an image of that height and width."""
    generator = np.random.default_rng(seed)
    cell_height, cell_width = size[0] / rows, size[1] / columns
    words = []
    for row in range(rows):
        for column in range(columns):
            along = np.linspace(0.05, 0.95, 7)
            bend = generator.uniform(-0.15, 0.15) * np.sin(np.pi * along)
            sides = [np.stack([along, level + bend], axis=1) for level in (0.25, 0.75)]
            outline = np.concatenate([sides[0], sides[1][::-1]])
            words.append((outline + np.array([column, row])) * np.array([cell_width, cell_height]))
    return TextInstances([word.astype(np.float32) for word in words])


def dbnet_maps(instances: TextInstances, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The probability map of an image as DBNet would give it."""
    shrunk = dbnet.DBNetHead.targets(instances, size, size, dbnet.DBNetConfig())["shrink_map"]
    logits = np.where(shrunk > 0, SURE, -SURE) + np.random.default_rng(0).normal(0, NOISE, shrunk.shape)
    return {"prob_map": torch.from_numpy(logits[None, None]).float().sigmoid()}


def pan_maps(instances: TextInstances, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Text, kernels and embedding of an image as PAN would give them."""
    targets = pan.PANHead.targets(instances, size, size, pan.PANConfig())
    generator = np.random.default_rng(0)
    # (H, W) -> (h, w)
    text, kernels = (targets[name][::STRIDE, ::STRIDE] for name in ("text_ids", "kernel_ids"))
    codes = generator.normal(0, 4, (len(instances) + 1, 4))
    embedding = np.moveaxis(codes[text], -1, 0) + generator.normal(0, 0.2, (4, *text.shape))
    logits = [np.where(ids > 0, SURE, -SURE) + generator.normal(0, NOISE, ids.shape) for ids in (text, kernels)]
    maps = {"text_logits": logits[0][None], "kernel_logits": logits[1][None], "embedding": embedding}
    return {name: torch.from_numpy(array[None]).float() for name, array in maps.items()}


def fcenet_maps(instances: TextInstances, size: tuple[int, int]) -> dict[str, tuple[torch.Tensor, ...]]:
    """Regions and Fourier series of an image as FCENet would give them."""
    targets = fcenet.FCENetHead.targets(instances, size, size, fcenet.FCENetConfig())
    generator = np.random.default_rng(0)
    levels = []
    for level, stride in enumerate(fcenet.STRIDES, start=fcenet.FINEST_LEVEL):
        words, center = targets[f"level{level}_words"], targets[f"level{level}_center"]
        yes = np.stack([words > 0, center > 0])
        logits = np.stack([np.where(yes, -SURE, SURE), np.where(yes, SURE, -SURE)], axis=1).reshape(4, *words.shape)
        series = np.moveaxis(targets["word_coefficients"][np.maximum(words - 1, 0)], (0, 1), (-2, -1)) / stride
        series[:, series.shape[1] // 2] -= np.indices(words.shape)[::-1]
        series = series + generator.normal(0, 0.05, series.shape)
        noisy = logits + generator.normal(0, NOISE, logits.shape)
        levels.append([torch.from_numpy(array[None]).float() for array in (noisy, series)])
    return {"class_logits": tuple(one for one, _ in levels), "coefficients": tuple(one for _, one in levels)}


def median_milliseconds(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return 1000 * float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    size = 736, 1280
    for columns, rows, polygon in ((10, 10, False), (20, 25, False), (10, 10, True)):
        probabilities, reading = dbnet_maps(page(columns, rows, size), size), dbnet.DBNetDecoding(polygon=polygon)
        decode = partial(dbnet.DBNetHead.decode, probabilities, torch.tensor([size]), reading)
        found, kind = len(decode()), "polygons" if polygon else "quads"
        print(f"DBNet: {found} {kind} on {size[0]} x {size[1]} pixels in {median_milliseconds(decode, repeats):.1f} ms")

    maps, decoding = pan_maps(page(10, 20, size), size), pan.PANDecoding(polygon=True)
    found = len(pan.PANHead.decode(maps, torch.tensor([size]), decoding))
    milliseconds = median_milliseconds(lambda: pan.PANHead.decode(maps, torch.tensor([size]), decoding), repeats)
    print(f"PAN: {found} words on {size[0] // STRIDE} x {size[1] // STRIDE} cells in {milliseconds:.1f} ms")

    series, settings = fcenet_maps(page(4, 4, size), size), fcenet.FCENetDecoding(polygon=True)
    score_maps = [fcenet._score_map(logits[0].numpy(), settings) for logits in series["class_logits"]]
    cells = [fcenet._candidates(score_map, settings)[0] for score_map in score_maps]
    found = len(fcenet.FCENetHead.decode(series, torch.tensor([size]), settings))
    milliseconds = median_milliseconds(
        lambda: fcenet.FCENetHead.decode(series, torch.tensor([size]), settings), repeats
    )
    print(f"FCENet: {found} words of {sum(map(len, cells))} candidates in {milliseconds:.1f} ms")


if __name__ == "__main__":
    main()
