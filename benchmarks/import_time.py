"""Seconds that `import transformers_tcm` adds to the import of the names of transformers that everybody needs.

    python benchmarks/import_time.py [--rounds 7]

Each round is a process of its own. Printed are the medians, and the ratio of the addition to what it is added to.
"""

import argparse
import statistics
import subprocess
import sys

IMPORTS = """
import time
start = time.perf_counter()
from transformers import AutoModel, AutoImageProcessor, PreTrainedModel, pipeline
middle = time.perf_counter()
import transformers_tcm
print(middle - start, time.perf_counter() - middle)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    command = [sys.executable, "-c", IMPORTS]
    runs = [
        [float(part) for part in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()]
        for _ in range(parser.parse_args().rounds)
    ]
    names, added = (statistics.median(column) for column in zip(*runs, strict=True))
    ratio = statistics.median(ours / theirs for theirs, ours in runs)
    print(f"{names:.3f} s transformers, {added:.3f} s more for transformers_tcm ({ratio:.3f} x)")


if __name__ == "__main__":
    main()
