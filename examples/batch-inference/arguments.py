"""What both scripts take."""

import argparse
from pathlib import Path

__all__ = ["parse_arguments"]


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of photos or of Parquet files")
    parser.add_argument("--output", type=Path, required=True, help="folder for Parquet files of results; may have some")
    parser.add_argument("--task", choices=("text-spotting", "text-detection"), default="text-spotting")
    parser.add_argument("--model", help="folder or Hub name; the bundled model of the task unless given")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a model of its own")
    parser.add_argument("--part-size", type=int, default=256, help="photos of a file of results")
    parser.add_argument("--batch-size", type=int, default=8, help="photos that are computed together at most")
    parser.add_argument("--gpus-per-worker", type=float, default=0, help="run_ray.py only; 0.5 lets two share one")
    return parser.parse_args()
