"""Seconds per photo of a TESTR or DeepSolo spotter with random weights on the CPU, and what takes them.

    python benchmarks/query_head_speed.py [--head deepsolo] [--preset base] [--finest-level 3] [--size 736 1280]
        [--dtype bfloat16] [--threads 2] [--rounds 1] [--profile]

Printed are the medians of the whole model and of its parts; with --profile also the operators that take most.
"""

import argparse
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from transformers_tcm import TCMConfig, TCMForTextSpotting


def timed_parts(model: TCMForTextSpotting, seconds: dict[str, float]) -> None:
    """Add up the seconds that each part takes under its name."""
    head = model.head
    parts: list[tuple[str, nn.Module]] = [("image encoder and prompting", model.model), ("head", head)]
    parts += [("encoder layers", layer) for layer in head.encoder]
    parts += [("decoder streams", stream) for layer in head.decoder for stream in layer.values()]
    for name, part in parts:
        starts: list[float] = []
        part.register_forward_pre_hook(lambda *_, starts=starts: starts.append(time.perf_counter()))
        part.register_forward_hook(lambda *_, name=name, starts=starts: _add(seconds, name, starts))


def _add(seconds: dict[str, float], name: str, starts: list[float]) -> None:
    seconds[name] += time.perf_counter() - starts.pop()


def build(arguments: argparse.Namespace) -> TCMForTextSpotting:
    """The model that the arguments describe, in evaluation mode."""
    head_config: dict[str, Any] = {"finest_level": arguments.finest_level}
    config = TCMConfig.from_preset(arguments.preset, head_type=arguments.head)
    config = TCMConfig.from_preset(
        arguments.preset, head_type=arguments.head, head_config={**config.head_config, **head_config}
    )
    model = TCMForTextSpotting(config).eval().fuse_text_embeddings()
    return model.to(getattr(torch, arguments.dtype), memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", default="deepsolo", choices=["testr", "deepsolo"])
    parser.add_argument("--preset", default="base")
    parser.add_argument("--finest-level", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(736, 1280))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = build(arguments)
    pixels = torch.randn(1, 3, *arguments.size).to(getattr(torch, arguments.dtype))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    rounds: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    timed_parts(model, seconds)
    with torch.inference_mode():
        model(pixels)  # to warm up
        for _ in range(arguments.rounds):
            seconds.clear()
            start = time.perf_counter()
            model(pixels)
            rounds["whole model"].append(time.perf_counter() - start)
            for name, value in seconds.items():
                rounds[name].append(value)
        for name, values in rounds.items():
            print(f"{statistics.median(values):7.3f} s   {name}")
        if arguments.profile:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                model(pixels)
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


if __name__ == "__main__":
    main()
