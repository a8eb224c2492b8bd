"""Read a folder of photos or of Parquet files on a Ray cluster, or on this machine as one.

    python run_ray.py --source photos --output words --workers 4

Source and output are folders that every machine sees under the same path. Run again after an interruption, it reads
what is left. A photo that cannot be read is a row with an `error`.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import ray
from arguments import parse_arguments
from parts import find_parts, read_part


class PartReader:
    """An actor; its process keeps one model."""

    def __init__(self, **settings: Any):
        self.read = partial(read_part, **settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        parts = [[*map(str, part)] for part in batch["photos"]]
        return {"photos": [*map(len, parts)], "errors": [*map(self.read, parts)]}


def main() -> None:
    args = parse_arguments(__doc__)
    source, output = args.source.resolve(), args.output.resolve()
    parts = find_parts(source, output, args.part_size)
    if not parts:
        print(f"nothing is left to be read; results in {output}")
        return
    model = str(Path(args.model).resolve()) if args.model and Path(args.model).is_dir() else args.model
    settings = {"source": source, "output": output, "task": args.task, "model": model}
    # The workers, on whichever machine, import `parts` from a copy of this folder.
    ray.init(log_to_driver=False, runtime_env={"working_dir": str(Path(__file__).parent)})
    # A part to a block, so that each is handed out and, if its actor dies, repeated on its own.
    blocks = ray.data.from_items([{"photos": part} for part in parts], override_num_blocks=len(parts))
    done = blocks.map_batches(
        PartReader,
        fn_constructor_kwargs={**settings, "batch_size": args.batch_size},
        batch_size=1,
        concurrency=args.workers,
        num_gpus=args.gpus_per_worker or None,
    )
    start, photos, errors = time.perf_counter(), 0, 0
    for row in done.iter_rows():
        photos, errors = photos + row["photos"], errors + row["errors"]
    print(f"{photos} photos in {time.perf_counter() - start:.1f} s, {errors} with an error; results in {output}")


if __name__ == "__main__":
    main()
