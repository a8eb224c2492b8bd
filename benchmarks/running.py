"""What the benchmarks that train models share: running a command, its output in a file."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_logged"]


def run_logged(command: Sequence[str], log: Path, threads: int, what: str) -> None:
    """Print a command and run it; exits, naming `what` and the log, if it fails."""
    print(shlex.join(command), flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        sys.exit(f"error: {what} failed with exit code {done.returncode}, see {log}")
