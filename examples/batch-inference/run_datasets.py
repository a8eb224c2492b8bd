"""Read a folder of photos or of Parquet files in the processes of one machine, with `datasets`.

    python run_datasets.py --source photos --output words --workers 4

A process that is killed ends the run; run again, it reads what is left. A photo that cannot be read is a row with an
`error`.
"""

import time

from arguments import parse_arguments
from datasets import Dataset
from parts import find_parts, read_part


def _read(row: dict, **settings: object) -> dict:
    return {"errors": read_part(row["photos"], **settings)}


def main() -> None:
    args = parse_arguments(__doc__)
    parts = find_parts(args.source, args.output, args.part_size)
    if not parts:
        print(f"nothing is left to be read; results in {args.output}")
        return
    settings = {"source": args.source, "output": args.output, "task": args.task, "model": args.model}
    start = time.perf_counter()
    done = Dataset.from_list([{"photos": part} for part in parts]).map(
        _read,
        fn_kwargs={**settings, "batch_size": args.batch_size},
        num_proc=args.workers if args.workers > 1 else None,
        load_from_cache_file=False,
    )
    photos, errors = sum(map(len, parts)), sum(done["errors"])
    print(f"{photos} photos in {time.perf_counter() - start:.1f} s, {errors} with an error; results in {args.output}")


if __name__ == "__main__":
    main()
