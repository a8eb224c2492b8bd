"""The comparison of recognisers: what its trainings share and differ in, and the table."""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from spotting_fakes import tiny_spotter_config

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.models.tcm.recognition import RECOGNIZERS


def arguments(script: ModuleType, folder: Path, *rows: str) -> argparse.Namespace:
    return argparse.Namespace(
        held_out=Path("held_out.tsv"), spelling=[Path("english.txt")], output_dir=folder, rows=rows or list(script.ROWS)
    )


def test_there_is_a_row_for_every_recogniser(script: ModuleType) -> None:
    assert set(script.ROWS) == {*RECOGNIZERS, "ctc_language"}


def test_rows_differ_in_the_recogniser_alone(script: ModuleType, tmp_path: Path) -> None:
    runs = script.runs(arguments(script, tmp_path), ["--train_words", "words.tsv"])
    common = set()
    for row in RECOGNIZERS:
        command = list(runs[row].command)
        chosen = command[command.index("--config_overrides") + 1]
        assert json.loads(chosen) == {"recognizer": {"decoder": row, **script.SIZES.get(row, {})}}
        common.add(tuple(word for word in command if word not in (chosen, str(tmp_path / row))))
    assert len(common) == 1
    assert "words.tsv" in common.pop()


def test_the_language_model_starts_with_the_model_it_is_for(script: ModuleType, tmp_path: Path) -> None:
    runs = script.runs(arguments(script, tmp_path, "ctc_language"), [])
    assert list(runs) == ["ctc", "ctc_language"]
    assert str(tmp_path / "ctc") in runs["ctc_language"].command


def test_without_words_the_language_model_is_that_of_the_start(script: ModuleType, tmp_path: Path) -> None:
    given = arguments(script, tmp_path, "ctc_language")
    given.spelling = None
    runs = script.runs(given, [])
    assert runs["ctc_language"].folder == tmp_path / "ctc"
    assert len({tuple(run.command) for run in runs.values()}) == 1


def test_complete_trainings_are_not_repeated_and_failures_are_named(script: ModuleType, tmp_path: Path) -> None:
    run = script.Run(tmp_path / "failing", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="failed with exit code 3"):
        run.train(1)
    (tmp_path / "failing" / "model.safetensors").touch()
    run.train(1)


def test_rows_that_did_not_converge_are_not_compared(script: ModuleType) -> None:
    values = {"parameters": 1.5e6, "ignore_case": 0.7, "character_error_rate": 0.2, "codes": 0.4, "milliseconds": 3.21}
    lines = script.table({"ctc": {**values, "exact": 0.6}, "abinet": {**values, "exact": 0.1}}).splitlines()
    assert lines[2] == "| CTC | 1.50 M | 0.600 | 0.700 | 0.200 | 0.400 | 3.2 |"
    assert lines[3] == "| ABINet++ | 1.50 M | not converged (0.100) |  |  |  | 3.2 |"
    assert lines[0].count("|") == lines[1].count("|") == lines[3].count("|")


def test_words_are_measured(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    TCMForTextSpotting(tiny_spotter_config(charset="ab1")).save_pretrained(tmp_path / "model")
    TCMImageProcessor(text_threshold=0.0).save_pretrained(tmp_path / "model")
    folder = tmp_path / "words" / "images"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        Image.new("RGB", (64, 24), "white").save(folder / f"{name}.png")
    lines = "".join(f"{folder / name}.png\t{text}\n" for name, text in (("one", "ab"), ("two", "b1")))
    (tmp_path / "held_out.tsv").write_text(lines, encoding="utf-8")
    figures = script.measure(tmp_path / "model", tmp_path / "held_out.tsv", with_spelling=False)
    assert figures["parameters"] > 0
    assert figures["milliseconds"] > 0
    assert 0 <= figures["codes"] <= 1
    with pytest.raises(SystemExit, match="has no language model"):
        script.measure(tmp_path / "model", tmp_path / "held_out.tsv", with_spelling=True)
