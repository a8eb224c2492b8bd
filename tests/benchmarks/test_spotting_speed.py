"""The benchmark of spotting runs; what it measures is no matter here."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from spotting_fakes import photo, tiny_spotter_config

from transformers_tcm import TCMForTextSpotting, TCMImageProcessorPil

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "spotting_speed.py"


@pytest.mark.parametrize("recognizer", [{"decoder": "attention"}, {"language_model": {"hidden_size": 8}}])
def test_every_stage_is_timed(
    tmp_path: Path, recognizer: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    TCMForTextSpotting(tiny_spotter_config(**recognizer)).save_pretrained(tmp_path)
    settings = {"size": {"longest_edge": 96}, "threshold": 0.0, "box_threshold": 0.0, "text_threshold": 0.0}
    TCMImageProcessorPil(**settings).save_pretrained(tmp_path)
    photo(96, 200, (10, 10, 30, 150)).save(tmp_path / "photo.png")
    arguments = ["--model", str(tmp_path), "--images", str(tmp_path / "photo.png"), "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["spotting_speed.py", *arguments, "--threads", str(torch.get_num_threads())])
    specification = importlib.util.spec_from_file_location("spotting_speed", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    script.main()
    printed = capsys.readouterr().out
    assert "1 images, 3.0 words read in each" in printed  # one tall word, read in three directions
    for stage in ("backbone", "sampling", "recognition", "post-processing", "whole pipeline"):
        assert f" ms   {stage}" in printed
