"""The heads side by side: what their trainings share, what they start with, which are run, and the table."""

import argparse
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMImageProcessor, TextInstances
from transformers_tcm.training import PhotoArguments, TCMTrainingArguments, parse_recipe

FIGURES = {
    "val_precision": 0.5,
    "val_recall": 0.25,
    "val_hmean": 1 / 3,
    "curved_hmean": 0.75,
    "milliseconds": 41.6,
    "parameters": 7_500_000,
    "box_threshold": 0.3,
}


def test_all_heads_start_new_on_one_encoder(script: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder = TCMForTextDetection(TCMConfig(**SETTINGS, fused=True))
    encoder.save_pretrained(tmp_path / "encoder")
    TCMImageProcessor().save_pretrained(tmp_path / "encoder")
    for head in script.HEADS:
        script.write_start(head, str(tmp_path / "encoder"), tmp_path / head)
        model = TCMForTextDetection.from_pretrained(tmp_path / head)
        assert model.config.head_type == TCMImageProcessor.from_pretrained(tmp_path / head).head_type == head
        own, theirs = model.model.state_dict(), encoder.model.state_dict()
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[name], weight) for name, weight in theirs.items())


def test_a_start_with_other_prompting_takes_what_both_have(script: ModuleType, tmp_path: Path) -> None:
    encoder = TCMForTextDetection(TCMConfig(**SETTINGS, fused=True))
    encoder.save_pretrained(tmp_path / "encoder")
    TCMImageProcessor().save_pretrained(tmp_path / "encoder")
    script.write_start("dbnet", str(tmp_path / "encoder"), tmp_path / "start", prompting="none")
    model = TCMForTextDetection.from_pretrained(tmp_path / "start")
    assert model.config.prompting == "none"
    own, theirs = model.model.state_dict(), encoder.model.state_dict()
    assert own
    assert all(torch.equal(weight, theirs[name]) for name, weight in own.items())


def test_the_trainings_differ_in_their_folder_alone(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(script.EXAMPLE)
    from detection_recipe import ModelArguments

    names = ("images", "annotations", "eval_list")
    options = argparse.Namespace(**{name: Path(name) for name in names}, output_dir=tmp_path, seconds=0)
    commands = [
        script.training_command(tmp_path / head, options, ["--max_steps", "7", "--use_cpu"]) for head in script.HEADS
    ]
    assert len({tuple(word for word in command if str(tmp_path) not in word) for command in commands}) == 1
    classes = (ModelArguments, PhotoArguments, TCMTrainingArguments)
    model, photos, training = parse_recipe(*classes, arguments=commands[0][2:])
    assert model.model_name_or_path == str(tmp_path / "dbnet" / "start")
    assert photos.eval_list == "eval_list"
    assert photos._held_out("images") == "eval_list"
    assert photos.evaluation_rows() is None, "nothing is evaluated in the time of the training"
    assert (training.max_steps, training.do_train) == (7, True)


def test_detections_are_judged_above_the_threshold(script: ModuleType) -> None:
    square = np.float32([[0, 0], [10, 0], [10, 10], [0, 10]])
    truth = TextInstances([square], texts=["a"])
    found = TextInstances([square, square + 50], scores=np.float32([0.6, 0.3]))
    assert script.judged([(truth, found)], 0.3).precision == 0.5
    assert script.judged([(truth, found)], 0.5).hmean == 1.0


def test_heads_that_have_been_measured_are_not_repeated(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    trained: list[str] = []

    def train(head: str, options: argparse.Namespace, further: list[str]) -> None:
        trained.append(head)
        (tmp_path / head).mkdir()

    for name, stand_in in (("train", train), ("render_scenes", lambda options: None), ("draw", lambda *_: None)):
        monkeypatch.setattr(script, name, stand_in)
    monkeypatch.setattr(script, "measure", lambda folder, options: FIGURES)
    (tmp_path / "pan").mkdir()
    (tmp_path / "pan" / "figures.json").write_text(json.dumps({**FIGURES, "curved_hmean": 0.5}))
    photos = "--images i --annotations a --eval_list e --backgrounds b --heads dbnet pan".split()
    monkeypatch.setattr("sys.argv", ["compare_heads.py", *photos, "--output_dir", str(tmp_path)])
    for _ in range(2):
        script.main()
    assert trained == ["dbnet"]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == "| DBNet | 0.500 | 0.250 | 0.333 | 0.750 | 42 | 7.50 M | 0.3 |"
    assert lines[3] == "| PAN | 0.500 | 0.250 | 0.333 | 0.500 | 42 | 7.50 M | 0.3 |"
    assert lines == capsys.readouterr().out.splitlines()[-4:]
