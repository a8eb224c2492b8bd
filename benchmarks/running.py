"""What the benchmarks that train models share: their arguments, running a command, its output in a file."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["photos_of_training", "run_logged", "training_parser"]


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for trainings on labelled photos; to be read by `parse_known_args`, what it does not know is theirs."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of gt_NAME.txt, ICDAR-2015 format")
    parser.add_argument("--eval_list", type=Path, required=True, help="text file of the photos to judge by")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for a folder of each training")
    return parser


def photos_of_training(options: argparse.Namespace) -> list[str]:
    """Arguments of a training on the photos, without those to judge by."""
    photos = ["--train_images", str(options.images), "--train_annotations", str(options.annotations)]
    return [*photos, "--eval_images", str(options.images), "--eval_list", str(options.eval_list)]


def run_logged(command: Sequence[str], log: Path, threads: int, what: str) -> None:
    """Print a command and run it; exits, naming `what` and the log, if it fails."""
    print(shlex.join(command), flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        sys.exit(f"error: {what} failed with exit code {done.returncode}, see {log}")
