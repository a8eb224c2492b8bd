"""The comparison of spotters: what its trainings share, its thresholds and figures, and the table."""

import argparse
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from transformers_tcm.models.tcm.heads import head_class


class Spotter:
    """Finds in every photo a word, read rightly, and a wrong one that it is less sure of."""

    class model:  # noqa: N801
        @staticmethod
        def parameters() -> list[np.ndarray]:
            return []

    def __init__(self, word: np.ndarray):
        self.words = [("sale", word, 0.8), ("exit", word + np.float32([60, 40]), 0.3)]

    def __call__(
        self, image: Image.Image, box_threshold: float, use_language_model: bool = True
    ) -> list[dict[str, Any]]:
        assert use_language_model == (box_threshold > 0.05)  # not where a threshold is chosen
        words = [word for word in self.words if word[2] >= box_threshold]
        return [{"text": text, "polygon": quad.tolist(), "score": score} for text, quad, score in words]


def test_rows_differ_in_the_head_alone(script: ModuleType, options: argparse.Namespace) -> None:
    settings = {}
    for row in script.TRAINED:
        command = script.training_command(row, options, ["--bf16", "false"])
        settings[row] = yaml.safe_load(Path(command[2]).read_text())
        assert command[-2:] == ["--bf16", "false"]
        assert command[command.index("--eval_list") + 1] == str(options.eval_list)
        assert command[command.index("--output_dir") + 1] == str(options.output_dir / row)
    heads = {row: settings[row].pop("config_overrides")["head_type"] for row in settings}
    assert all(head_class(head).reads for head in heads.values())
    thresholds = [given.pop("processor_overrides") for given in settings.values()]
    assert all(given["size"] == {"longest_edge": 1920} for given in thresholds)
    assert settings["testr"] == settings["deepsolo"] == settings["abcnet"]
    small = {"channels": 128, "num_convs": 2}
    assert json.loads(script.TRAINED["abcnet"][2]) == {"head_type": "abcnet", "head_config": small}


def test_the_ablation_differs_in_the_prompting_alone(script: ModuleType) -> None:
    (recipe,), (same, option, config) = script.TRAINED["testr"], script.TRAINED["testr-none"]
    assert same == recipe
    assert option == "--config_overrides"
    trained = yaml.safe_load(Path(recipe).read_text())["config_overrides"]
    assert json.loads(config) == {**trained, "prompting": "none"}


def test_figures_are_those_of_the_threshold_that_is_best_elsewhere(
    script: ModuleType, options: argparse.Namespace
) -> None:
    figures = script.measure(Spotter(options.word), options)
    assert 0.3 < figures["box_threshold"] <= 0.8
    assert figures["precision"] == figures["recall"] == figures["hmean"] == figures["end_to_end"] == 1
    pairs = script.found_words(Spotter(options.word), script.photos_to_choose_by(options, 9), box_threshold=0.1)
    assert len(pairs) == 2
    assert script.end_to_end(pairs) == pytest.approx(2 / 3)


def test_the_table_ranks_no_row_that_has_not_converged(script: ModuleType) -> None:
    figures = {"precision": 0.5, "recall": 0.4, "hmean": 0.444, "box_threshold": 0.3, "parameters": 5e6, "ms": 900.0}
    table = script.table({"testr": {**figures, "end_to_end": 0.01}, "abcnet": {**figures, "end_to_end": 0.4}})
    assert "| TESTR | 0.500 | 0.400 | 0.444 | not converged (0.010) | 0.3 | 5.00 M | 900 |" in table
    assert "| ABCNet, recogniser | 0.500 | 0.400 | 0.444 | 0.400 | 0.3 | 5.00 M | 900 |" in table


def test_milliseconds_are_those_of_each(script: ModuleType) -> None:
    calls: list[tuple[str, int]] = []
    runs = {name: lambda photo, name=name: calls.append((name, photo)) for name in "ab"}
    assert script.milliseconds(runs, [1, 2]).keys() == {"a", "b"}
    assert calls == [(name, photo) for photo in (1, 1, 2) for name in "ab"]
