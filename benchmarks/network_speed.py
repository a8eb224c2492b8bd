"""The bundled detector's network beside those of PP-OCR that transformers builds, in torch, on the same input.

    python benchmarks/network_speed.py [--edges 640 960 1600] [--rounds 5] [--threads 2]

The others have random weights, since theirs are downloads: they tell time and size alone, nothing about accuracy.
Networks take turns on a square; beside the medians stand the ratios to the bundled one.
"""

import argparse
import statistics
from functools import partial

import torch
import transformers
from timing import in_turn, median_ratio

from transformers_tcm import TCMForTextDetection

BUNDLED = "fasttcm-dbnet-tiny"
# PP-OCRv6's small and PP-OCRv5's server detector do not compute with the defaults of their configurations (5.23).
PEERS = ("PPOCRV5MobileDet",)


def networks() -> dict[str, torch.nn.Module]:
    """Networks by name, as they are fastest on this processor, the bundled one first."""
    bundled = TCMForTextDetection.from_pretrained(BUNDLED).eval().optimize_for_inference()
    found: dict[str, torch.nn.Module] = {BUNDLED: bundled}
    for name in PEERS:
        config = getattr(transformers, f"{name}Config")()
        peer = getattr(transformers, f"{name}ForObjectDetection")(config).eval()
        found[name] = peer.to(bundled.dtype, memory_format=torch.channels_last)
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[640, 960, 1600], help="sides of the input, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = networks()
    for edge in arguments.edges:
        pixels = torch.randn(1, 3, edge, edge).to(next(models[BUNDLED].parameters()).dtype)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        seconds = in_turn({name: partial(model, pixels) for name, model in models.items()}, arguments.rounds)
        for name, times in seconds.items():
            millions = sum(parameter.numel() for parameter in models[name].parameters()) / 1e6
            ratio = median_ratio(times, seconds[BUNDLED])
            print(f"{edge:5} {name:20} {millions:5.1f} M {1000 * statistics.median(times):7.0f} ms {ratio:5.2f} x")


if __name__ == "__main__":
    main()
