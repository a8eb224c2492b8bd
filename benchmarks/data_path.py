"""Crops a second on their way to a training: made by a worker, sent through the queue, taken on the receiving side.

    python benchmarks/data_path.py --images DIR --annotations DIR [--against OTHER/src] [--rounds 3] [--batches 4]

`--against` names the sources of another state of the package, such as those of `git worktree add OTHER COMMIT`; both
take turns, each in a process of its own. Printed are medians over the rounds, and their ratios to the other state.
A worker has one thread; it decodes photos from shards each time, and others once. The receiving side copies batches
that workers have made before, as pinning does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

SHARDS = 4
SOURCES = Path(__file__).resolve().parents[1] / "src"


class MadeBefore(Dataset[Any]):
    """The same batch again and again, in shared memory already: nothing is left to be done but to send it."""

    def __init__(self, batch: Any, length: int):
        for tensor in tensors_of(batch):
            tensor.share_memory_()
        self.batch, self.length = batch, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.batch


def tensors_of(batch: Any) -> Iterator[torch.Tensor]:
    """All tensors of a nested batch."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, (dict, list)):
        for part in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors_of(part)


def rate_of(loader: DataLoader[Any], crops: int, copies: bool = False) -> float:
    """Crops a second of a loader's batches after the first."""
    batches = iter(loader)
    received = next(batches)
    buffers = [torch.empty_like(tensor) for tensor in tensors_of(received)]
    start = time.perf_counter()
    for batch in batches:
        if copies:
            for buffer, tensor in zip(buffers, tensors_of(batch), strict=True):
                buffer.copy_(tensor)
    return crops * (len(loader) - 1) / (time.perf_counter() - start)


def rate_of_processor(crops: Iterator[Any], collate: Any, size: int) -> float:
    """Crops that are made and put into batches in a second of the processor's time."""
    start, count = time.process_time(), 0
    while batch := list(islice(crops, size)):
        collate(batch)
        count += len(batch)
    return count / (time.process_time() - start)


@contextmanager
def crops_of(arguments: argparse.Namespace, length: int) -> Iterator[tuple[Any, Any, Any]]:
    """The training crops of a spotter with a DBNet head, the same streamed from shards, and their collator."""
    from transformers_tcm import TCMConfig, TCMImageProcessor
    from transformers_tcm.data.augmentation import TextAugmentation
    from transformers_tcm.data.collation import TextDetectionCollator
    from transformers_tcm.data.datasets import DecodedRows, RandomTextCrops, StreamedTextCrops
    from transformers_tcm.data.exporting import write_parquet
    from transformers_tcm.data.loaders import load_icdar2015, load_named_dataset

    rows = load_icdar2015(arguments.images, arguments.annotations)
    rows = rows.select(range(min(arguments.photos, len(rows))))
    size = (arguments.crop_size, arguments.crop_size)
    augmentation = TextAugmentation(size, flip_probability=0.0, word_height_range=(10.0, 64.0))
    config = TCMConfig.from_preset("tiny", head_type=arguments.head, recognizer={})
    common = augmentation, TCMImageProcessor().for_model(config)
    crops = RandomTextCrops([DecodedRows(rows)], [1.0], *common, length=length)
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(rows, folder, "train", rows_per_file=-(-len(rows) // SHARDS))
        shards = load_named_dataset(folder, "train", streaming=True)
        streamed = StreamedTextCrops(shards, *common, buffer_size=SHARDS)
        yield crops, streamed, TextDetectionCollator(config)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """The figures of the package that is imported."""
    import cv2

    # Of this process and of the workers that are forked from it.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    size, batches = arguments.batch_size, arguments.batches
    with crops_of(arguments, size * (batches + 1)) as (crops, streamed, collate):
        batch = collate([crops[index] for index in range(size)])
        made = rate_of_processor((crops[index] for index in range(size, size * (batches + 1))), collate, size)
        stream = iter(streamed)
        next(stream)
        read = rate_of_processor(islice(stream, size * batches), collate, size)
        queued = rate_of(DataLoader(crops, size, collate_fn=collate, num_workers=1), size)
    again = MadeBefore(batch, 8 * batches)
    received = rate_of(DataLoader(again, batch_size=None, num_workers=1), size, copies=True)
    tensors = list(tensors_of(batch))
    return {
        "crops/s made by a worker": made,
        "photos/s read from shards, decoded and cropped by a worker": read,
        "crops/s through the queue": queued,
        "crops/s received": received,
        f"tensors of a batch of {size}": len(tensors),
        f"MB of a batch of {size}": sum(tensor.nbytes for tensor in tensors) / 1e6,
    }


def measured_apart(sources: Path) -> dict[str, float]:
    """The figures of a state of the package, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, *sys.argv[1:], "--once"]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--annotations", required=True, help="their labels, ICDAR-2015 format")
    parser.add_argument("--against", type=Path, help="sources of another state of the package")
    parser.add_argument("--head", default="dbnet", help="type of the detection head")
    parser.add_argument("--photos", type=int, default=40, help="photos that crops are cut from")
    parser.add_argument("--crop-size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure(arguments)))
        return
    states = [SOURCES] if arguments.against is None else [SOURCES, arguments.against]
    rounds = [[measured_apart(sources) for sources in states] for _ in range(arguments.rounds)]
    for name in rounds[0][0]:
        medians = [statistics.median(one[state][name] for one in rounds) for state in range(len(states))]
        ratio = f"   {medians[0] / medians[1]:5.2f} x of {medians[1]:.1f}" if len(medians) > 1 else ""
        print(f"{medians[0]:9.1f}{ratio}   {name}")


if __name__ == "__main__":
    main()
