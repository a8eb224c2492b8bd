"""Seconds per crop of a training step (forward, backward, AdamW) on the CPU, in the ways that matter.

    python benchmarks/training_speed.py [--preset tiny] [--batch-size 16] [--crop-size 320] [--rounds 3] [--steps 4]
    python benchmarks/training_speed.py --models abcnet+ctc testr deepsolo [--dtype float32]     # spotters
    python benchmarks/training_speed.py --threads 1 --processor-time           # where other work runs beside it

The ways, or the models, take turns within each round. Printed are the medians over all rounds and the ratio to the
first.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.training import parameter_groups

WAYS = ["float32", "bfloat16", "bfloat16 channels_last"]


def build(model: str, preset: str) -> TCMForTextDetection:
    """A new model by its head, and after a plus sign its recogniser, such as "abcnet+ctc"."""
    head, _, decoder = model.partition("+")
    recognizer = {"decoder": decoder} if decoder else None
    config = TCMConfig.from_preset(preset, head_type=head, recognizer=recognizer)
    return (TCMForTextSpotting if config.is_spotter else TCMForTextDetection)(config).train()


def labelled_batch(model: TCMForTextDetection, batch_size: int, crop_size: int) -> dict[str, Any]:
    """Noise with four words in each crop."""
    rng = np.random.default_rng(0)
    origins = rng.uniform(0, crop_size - 90, (4, 2))
    words = [np.float32([[0, 0], [80, 4], [80, 28], [0, 24]]) + origin for origin in origins]
    instances = TextInstances(words, texts=["EXIT", "sale", "24h", "Cafe"])
    image = rng.integers(0, 256, (crop_size, crop_size, 3), dtype=np.uint8)
    item = process_for_model(TCMImageProcessor(do_resize=False), image, instances)
    return TextDetectionCollator(model.config)([item] * batch_size)


def time_steps(
    name: str, way: str, preset: str, batch_size: int, crop_size: int, steps: int, clock: Callable[[], float]
) -> list[float]:
    """Seconds per crop of each step after the first two."""
    model = build(name, preset)
    if "channels_last" in way:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-4, 1e-2, image_encoder_scale=1.0), fused=True)
    batch = labelled_batch(model, batch_size, crop_size)
    seconds = []
    for _ in range(steps + 2):
        start = clock()
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in way):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append((clock() - start) / batch_size)
    return seconds[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["dbnet"], help="heads, such as testr or abcnet+ctc")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of several models")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--crop-size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processor-time", action="store_true", help="seconds of the processor, not of the clock")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    sizes = (arguments.preset, arguments.batch_size, arguments.crop_size, arguments.steps)
    ways = WAYS if len(arguments.models) == 1 else [f"{arguments.dtype} channels_last"]
    seconds: dict[tuple[str, str], list[float]] = {(name, way): [] for name in arguments.models for way in ways}
    for _ in range(arguments.rounds):
        for name, way in seconds:
            seconds[name, way] += time_steps(name, way, *sizes, clock)
    reference = statistics.median(next(iter(seconds.values())))
    for (name, way), values in seconds.items():
        median = statistics.median(values)
        print(f"{median:7.4f} s per crop   {median / reference:5.2f} x   {name} {way}")


if __name__ == "__main__":
    main()
