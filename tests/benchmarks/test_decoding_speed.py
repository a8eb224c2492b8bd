"""The benchmark of decoding runs; what it measures is no matter here."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "decoding_speed.py"


def test_heads_are_timed_on_pages_whose_words_they_all_find(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["decoding_speed.py", "--repeats", "1"])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # of the other tests, too
    specification = importlib.util.spec_from_file_location("decoding_speed", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    monkeypatch.setattr(script.cv2, "setNumThreads", lambda number: None)
    script.main()
    printed = capsys.readouterr().out
    assert "DBNet: 100 quads on 736 x 1280 pixels in " in printed
    assert "DBNet: 500 quads on " in printed
    assert "DBNet: 100 polygons on " in printed
    assert "PAN: 200 words on 184 x 320 cells in " in printed
    assert "FCENet: 16 words of " in printed
