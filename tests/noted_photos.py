"""`noted_photos.py SCRIPT ARGUMENT…` runs a training script, and notes which photos its process trains on.

The words of each go to a line of `NOTED_PHOTOS/PROCESS.txt`. `run_text_detection.py` is run by no test's process, but
by the launcher of torch, where nothing can be patched.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import datasets

from transformers_tcm.data.augmentation import TextAugmentation

cut = TextAugmentation.__call__


def noted(self: TextAugmentation, image: Any, instances: Any, rng: Any) -> Any:
    file = Path(os.environ["NOTED_PHOTOS"]) / f"{os.environ['RANK']}.txt"
    with file.open("a", encoding="utf-8") as log:
        log.write(" ".join(instances.texts) + "\n")
    return cut(self, image, instances, rng)


if __name__ == "__main__":
    # A method that is looked up on the class, hence not of an instance.
    TextAugmentation.__call__ = noted  # type: ignore[method-assign]
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
