"""The benchmark of oriented detection runs; what it measures is no matter here."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "oriented_speed.py"


def test_heads_and_parts_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["oriented_speed.py", "--preset", "tiny", "--size", "64", "--repeats", "1"])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # of the other tests, too
    specification = importlib.util.spec_from_file_location("oriented_speed", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    for name in ("BOXES", "PAIRS", "OBJECTS"):
        monkeypatch.setattr(script, name, 20)
    script.main()
    printed = capsys.readouterr().out
    for line in ("rotated_fcos, tiny", "rotated_retinanet, tiny", "NMS of 20 boxes, one class", "IoU of 20 pairs"):
        assert line in printed
