"""Whether a score map is made use of: what trainings share, the map that is zero, the table."""

import argparse
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from transformers_tcm import TCMConfig


class Network(torch.nn.Module):
    """Gives a score map of ones."""

    def forward(self) -> SimpleNamespace:
        return SimpleNamespace(score_map=torch.ones(1, 1, 2, 3))


class Detector:
    """Finds a word where its score map says that there is one."""

    def __init__(self, word: np.ndarray, prompting: str):
        self.word, self.network = word, Network()
        self.model = SimpleNamespace(model=self.network, config=SimpleNamespace(prompting=prompting))

    def __call__(self, image: Image.Image, **settings: Any) -> list[dict[str, Any]]:
        is_text = bool(self.network().score_map.all())
        return [{"polygon": self.word.tolist(), "score": 0.8}] * is_text


def test_trainings_differ_in_the_configuration_alone(script: ModuleType, options: argparse.Namespace) -> None:
    commands = []
    for row, (_, settings) in script.ROWS.items():
        command = script.training_command(row, options, ["--max_steps", "3"])
        assert Path(command[2]).is_file()
        assert json.loads(command.pop(command.index("--config_overrides") + 1)) == settings
        if settings is not None:
            assert settings.keys() <= TCMConfig().to_dict().keys()
        assert command.pop(command.index("--output_dir") + 1) == str(options.output_dir / row)
        commands.append(command)
    assert all(command == commands[0] for command in commands)


@pytest.mark.parametrize("prompting", ["fasttcm", "none"])
def test_the_map_is_zero_for_one_figure_and_no_longer(
    script: ModuleType, options: argparse.Namespace, prompting: str
) -> None:
    detector = Detector(options.word, prompting)
    figures = script.measure(detector, options)
    assert figures["hmean"] == 1
    assert figures.get("without_map") == (0 if prompting == "fasttcm" else None)
    assert detector.network().score_map.all()


def test_the_table_leaves_open_what_has_no_map(script: ModuleType) -> None:
    measured = {"bundled": {"hmean": 0.61, "without_map": 0.6, "box_threshold": 0.65}}
    table = script.table({**measured, "none": {"hmean": 0.59, "box_threshold": 0.5}})
    assert "| as it is | 0.610 | 0.600 | 0.65 |" in table
    assert "| without prompting | 0.590 |  | 0.5 |" in table
