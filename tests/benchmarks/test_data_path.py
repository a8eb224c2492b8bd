"""The benchmark of the data path measures all that it prints."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data_path.py"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    PIL.Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    (tmp_path / "gt_photo.txt").write_text("20,20,90,20,90,50,20,50,sale\n", encoding="utf-8")
    return tmp_path


def test_every_part_of_the_way_is_measured(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sizes = ["--crop-size", "64", "--batch-size", "2", "--batches", "1", "--once"]
    monkeypatch.setattr(sys, "argv", ["data_path.py", "--images", str(photos), "--annotations", str(photos), *sizes])
    specification = importlib.util.spec_from_file_location("data_path", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    script.main()
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    figures = script.json.loads(capsys.readouterr().out.splitlines()[-1])
    assert min(figures.values()) > 0
    # Pixels, four maps of which one is float16, and a few words.
    assert figures["MB of a batch of 2"] * 1e6 == pytest.approx(2 * 64 * 64 * 8, rel=0.05)
