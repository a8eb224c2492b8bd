"""GPU hours of trainings: operations of crops at a measured rate."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_hours_follow_crops_pixels_and_rate(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    row, output = "fasttcm-dbnet-icdar2015", tmp_path / "hours.json"
    arguments = ["--milliseconds", "31.4", "--rows", row, "fasttcm-rotated-fcos-dota", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["training_hours.py", *arguments])
    script.main()
    assert f"{row}, pretraining: " in capsys.readouterr().out
    hours = json.loads(output.read_text(encoding="utf-8"))
    # Both stages look at crops of 640 pixels; three passes at the speed at which a crop has this share of 736 x 1280.
    share = script.operations(row, (640, 640)) / script.operations(row, script.REFERENCE_SIZE)
    assert share == pytest.approx(640 * 640 / (736 * 1280), rel=0.05)
    for stage, crops in {"pretraining": 23_798 * 128, "finetuning": 9_375 * 128}.items():
        assert hours[row][stage] == pytest.approx(3 * crops * share * 0.0314 / 8 / 3600, abs=0.06)
    assert hours["fasttcm-rotated-fcos-dota"]["training"] > 0.3
