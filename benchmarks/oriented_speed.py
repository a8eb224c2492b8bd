"""Speed of oriented detection: one image through each head, rotated NMS, rotated IoU, assignment of a thousand objects.

    python benchmarks/oriented_speed.py [--preset base] [--size 1024] [--device cuda] [--threads 1]

Models have random weights and a fused text; they run eagerly, in bfloat16. Times are medians. Of a random model the
decoding says nothing, so non-maximum suppression is timed on its own, on 10,000 boxes of 15 classes and of one class.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from transformers_tcm import TCMConfig, TCMForOrientedObjectDetection
from transformers_tcm.models.tcm.heads import HEADS, head_class, rotated_atss, rotated_fcos, rotated_retinanet
from transformers_tcm.models.tcm.heads.oriented import STRIDES
from transformers_tcm.rotated_boxes import rotated_iou, rotated_nms

BOXES, PAIRS, OBJECTS, EXTENT = 10_000, 300_000, 1000, 1024


def seconds(run: Callable[[], object], repeats: int, device: str) -> float:
    """Median of some calls after one that warms up."""
    times = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device != "cpu":
            torch.accelerator.synchronize()
        if repeat:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def boxes(count: int, longest: float) -> torch.Tensor:
    """(N, 5) boxes of 8 to `longest` pixels, most of them small, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(count, 5, generator=generator)
    width = 8 + (longest - 8) * numbers[:, 2] ** 3
    height = width * (0.2 + 0.8 * numbers[:, 3])
    angles = (numbers[:, 4] - 0.5) * torch.pi
    return torch.cat([numbers[:, :2] * EXTENT, torch.stack([width, height, angles], dim=1)], dim=1)


def parts(device: str) -> dict[str, Callable[[], object]]:
    """What is timed beside the models."""
    many, objects = boxes(BOXES, 60).to(device), boxes(OBJECTS, 400).to(device)
    scores = torch.rand(BOXES, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.randint(15, (BOXES,), generator=torch.Generator().manual_seed(2)).to(device)
    first, second = boxes(PAIRS, 60).to(device), boxes(PAIRS, 60).to(device)
    shapes = torch.tensor([[EXTENT // stride] * 2 for stride in STRIDES], device=device)
    square, turned = rotated_atss.square_anchors(shapes), rotated_retinanet.rotated_anchors(shapes)
    valid = {len(one): torch.ones(len(one), dtype=torch.bool, device=device) for one in (square, turned)}
    second[:, :2] = first[:, :2] + 5
    pairs = list(zip(first.split(8192), second.split(8192), strict=True))
    return {
        f"NMS of {BOXES} boxes, 15 classes": lambda: rotated_nms(many, scores, labels, 0.1),
        f"NMS of {BOXES} boxes, one class": lambda: rotated_nms(many, scores, torch.zeros_like(labels), 0.1),
        f"IoU of {PAIRS} pairs": lambda: [rotated_iou(*some) for some in pairs],
        f"FCOS, {OBJECTS} objects assigned": lambda: rotated_fcos.assign(shapes, objects),
        f"ATSS, {OBJECTS} objects assigned": lambda: rotated_atss.assign(square, valid[len(square)], objects, shapes),
        f"RetinaNet, {OBJECTS} objects assigned": lambda: rotated_retinanet.assign(
            turned, valid[len(turned)], objects, shapes
        ),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for head_type in (name for name in HEADS if head_class(name).task == "oriented"):
        model = TCMForOrientedObjectDetection(TCMConfig.from_preset(options.preset, head_type=head_type)).eval()
        model.fuse_text_embeddings().to(options.device, torch.bfloat16)
        pixels = torch.rand(1, 3, options.size, options.size, dtype=torch.bfloat16, device=options.device)
        taken = seconds(lambda: model(pixels), options.repeats, options.device)  # noqa: B023 (called at once)
        print(f"{taken:8.3f} s   {head_type}, {options.preset}, one image of {options.size} x {options.size}")
    for name, run in parts(options.device).items():
        print(f"{seconds(run, options.repeats, options.device):8.3f} s   {name}")


if __name__ == "__main__":
    main()
