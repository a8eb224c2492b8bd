"""The benchmarks as modules: they import their neighbours, as Python does where one is run as a script."""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from transformers_tcm import TextInstances

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> ModuleType:
    """`NAME.py` of the benchmarks, for `test_NAME.py`."""
    return importlib.import_module(request.path.stem.removeprefix("test_"))


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    """Three photos with a word each, `word`, the last of which is held out."""
    word = np.float32([[4, 4], [44, 4], [44, 20], [4, 20]])
    folders = {"images": tmp_path / "images", "annotations": tmp_path / "gt", "output_dir": tmp_path / "runs"}
    folders["images"].mkdir()
    folders["annotations"].mkdir()
    for index in range(3):
        Image.new("RGB", (120, 80)).save(tmp_path / "images" / f"img_{index}.jpg")
        truth = TextInstances([word], texts=["SALE"], ignore=np.array([False]))
        (tmp_path / "gt" / f"gt_img_{index}.txt").write_text(truth.to_icdar())
    (tmp_path / "val.txt").write_text("img_2.jpg\n")
    return argparse.Namespace(**folders, eval_list=tmp_path / "val.txt", word=word)
