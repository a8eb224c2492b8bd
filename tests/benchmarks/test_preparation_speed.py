"""The benchmark of preparation runs; what it measures is no matter here."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image


@pytest.mark.slow
def test_both_ways_are_timed_at_three_sizes(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    Image.new("RGB", (800, 600)).save(tmp_path / "photo.jpg")
    arguments = ["--image", str(tmp_path / "photo.jpg"), "--edge", "160", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["preparation_speed.py", *arguments])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # of the other tests, too
    script.main()
    size, *rows = capsys.readouterr().out.splitlines()
    assert size.startswith("800 x 600 pixels")
    assert [row.count(" ms ") for row in rows] == [2, 2, 2]
    assert rows[0].endswith("detector, longest edge 160")
