"""Seconds per crop of a training step (forward, backward, AdamW) on the CPU, in the ways that matter.

    python benchmarks/training_speed.py [--preset tiny] [--batch-size 16] [--crop-size 320] [--rounds 3] [--steps 4]

The ways take turns within each round. Printed are the medians over all rounds and the ratio to the first way.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from transformers_tcm import TCMConfig, TCMForTextDetection, TextInstances
from transformers_tcm.training import parameter_groups

WAYS = ["float32", "bfloat16", "bfloat16 channels_last"]


def labelled_batch(model: TCMForTextDetection, batch_size: int, crop_size: int) -> dict:
    """Noise with four words in each crop."""
    rng = np.random.default_rng(0)
    origins = rng.uniform(0, crop_size - 90, (4, 2))
    words = [np.float32([[0, 0], [80, 4], [80, 28], [0, 24]]) + origin for origin in origins]
    settings = model.config.head_settings
    size = crop_size, crop_size
    targets = model.head.targets(TextInstances(words), size, size, settings)
    labels = {name: torch.from_numpy(np.stack([array] * batch_size)) for name, array in targets.items()}
    return {"pixel_values": torch.randint(0, 256, (batch_size, 3, *size), dtype=torch.uint8), "labels": labels}


def time_steps(way: str, preset: str, batch_size: int, crop_size: int, steps: int) -> list[float]:
    """Seconds per crop of each step after the first two."""
    model = TCMForTextDetection(TCMConfig.from_preset(preset)).train()
    if "channels_last" in way:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3, 1e-2, image_encoder_scale=1.0), fused=True)
    batch = labelled_batch(model, batch_size, crop_size)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in way):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append((time.perf_counter() - start) / batch_size)
    return seconds[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--crop-size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    sizes = (arguments.preset, arguments.batch_size, arguments.crop_size, arguments.steps)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            seconds[way] += time_steps(way, *sizes)
    reference = statistics.median(seconds[WAYS[0]])
    for way, values in seconds.items():
        median = statistics.median(values)
        print(f"{median:7.4f} s per crop   {median / reference:5.2f} x   {way}")


if __name__ == "__main__":
    main()
